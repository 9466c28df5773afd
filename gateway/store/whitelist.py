"""Whitelist entries: the business partners whose mail is admitted, each with an owner, a reason, a proof and an end."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Column, Text

from gateway.mail.errors import Malformed
from gateway.policy.ledger import Identity, Proof, WhitelistEntry
from gateway.store import entries
from gateway.store.database import Database
from gateway.store.entries import Listed, Subject, Values, ledger_table
from gateway.store.metadata import Texts, one_of
from gateway.store.networks import written_networks

whitelist_entries = ledger_table(
    "whitelist_entries",
    Column("identity", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("subdomains", Boolean, nullable=False),
    Column("proof", Text, nullable=False),
    Column("networks", Texts, nullable=False),
    one_of("identity", Identity),
    one_of("proof", Proof),
    identity=("value", "identity"),
)


def _write(entry: WhitelistEntry) -> dict[str, Any]:
    value = entry.value.strip().lower()
    if not value or (value.count("@") != 0) != entry.identity.endswith("_address"):
        raise Malformed(f"not a value of {entry.identity}")
    if entry.proof is Proof.PINNED_ADDRESS and not entry.networks:
        raise Malformed("the proof by address needs networks")
    return {
        "identity": str(entry.identity),
        "value": value,
        "subdomains": entry.subdomains,
        "proof": str(entry.proof),
        "networks": written_networks(entry.networks),
        "owner": entry.owner,
        "reason": entry.reason,
        "expires_at": entry.expires_at,
        "review_at": entry.review_at,
    }


def _read(row: Values) -> WhitelistEntry:
    return WhitelistEntry(
        id=row["id"],
        identity=Identity(row["identity"]),
        value=row["value"],
        subdomains=row["subdomains"],
        proof=Proof(row["proof"]),
        networks=row["networks"],
        owner=row["owner"],
        reason=row["reason"],
        expires_at=row["expires_at"],
        review_at=row["review_at"],
    )


SUBJECT = Subject("whitelist", whitelist_entries, _write, _read, ("value", "identity"))


def add(db: Database, entry: WhitelistEntry, *, by: str, now: datetime) -> WhitelistEntry:
    """Admit a partner; an empty id is filled in. Raises Conflict, Malformed."""
    return entries.add(db, SUBJECT, entry, by=by, now=now)


def end(db: Database, id: str, *, by: str, now: datetime, comment: str = "") -> None:
    """End an entry. Raises NotFound."""
    entries.end(db, SUBJECT, id, by=by, now=now, comment=comment)


def renew(
    db: Database,
    id: str,
    *,
    by: str,
    now: datetime,
    expires_at: datetime | None,
    review_at: datetime | None = None,
    comment: str = "",
) -> WhitelistEntry:
    """Give an entry another end. Raises NotFound."""
    return entries.renew(db, SUBJECT, id, by=by, now=now, expires_at=expires_at, review_at=review_at, comment=comment)


def import_many(db: Database, new: Iterable[WhitelistEntry], *, by: str, now: datetime) -> int:
    """Add many entries and return how many were new; those that exist are left as they are."""
    return entries.import_many(db, SUBJECT, new, by=by, now=now)


def list_entries(
    db: Database, *, search: str = "", with_ended: bool = False, after_id: str = "", limit: int = 500
) -> list[Listed[WhitelistEntry]]:
    """Return entries whose value contains `search`, page by page."""
    where = [whitelist_entries.c.value.contains(search.lower(), autoescape=True)] if search else []
    return entries.listed(db, SUBJECT, where=where, with_ended=with_ended, after_id=after_id, limit=limit)
