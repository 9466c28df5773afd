"""Approved internal sources: who may relay through us, in whose name, and who answers for it."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Text

from gateway.policy.ledger import RelaySource
from gateway.store import entries
from gateway.store.database import Database
from gateway.store.entries import Listed, Subject, Values, ledger_table
from gateway.store.metadata import Texts, one_of
from gateway.store.networks import written_network

KINDS = ("server", "application", "device", "mail_server")

relay_sources = ledger_table(
    "relay_sources",
    Column("network", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("allowed_domains", Texts, nullable=False),
    Column("any_sender", Boolean, nullable=False),
    Column("max_per_hour", BigInteger, nullable=False),
    one_of("kind", KINDS),
    identity=("network",),
)


def _write(entry: RelaySource) -> dict[str, Any]:
    return {
        "network": written_network(entry.network),
        "purpose": entry.purpose,
        "kind": entry.kind,
        "allowed_domains": tuple(domain.strip().lower() for domain in entry.allowed_domains),
        "any_sender": entry.any_sender,
        "max_per_hour": entry.max_per_hour,
        "owner": entry.owner,
        "expires_at": entry.expires_at,
        "review_at": entry.review_at,
    }


def _read(row: Values) -> RelaySource:
    return RelaySource(
        id=row["id"],
        network=row["network"],
        owner=row["owner"],
        purpose=row["purpose"],
        kind=row["kind"],
        allowed_domains=row["allowed_domains"],
        any_sender=row["any_sender"],
        max_per_hour=row["max_per_hour"],
        expires_at=row["expires_at"],
        review_at=row["review_at"],
    )


SUBJECT = Subject("relay source", relay_sources, _write, _read, ("network",))


def add(db: Database, entry: RelaySource, *, by: str, now: datetime, reason: str = "") -> RelaySource:
    """Approve a source; an empty id is filled in. Raises Conflict for a network that is approved already, Malformed."""
    return entries.add(db, SUBJECT, entry, by=by, now=now, extra={"reason": reason})


def end(db: Database, id: str, *, by: str, now: datetime, comment: str = "") -> None:
    """Take the approval back. Raises NotFound."""
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
) -> RelaySource:
    """Give an approval another end. Raises NotFound."""
    return entries.renew(db, SUBJECT, id, by=by, now=now, expires_at=expires_at, review_at=review_at, comment=comment)


def list_entries(
    db: Database, *, with_ended: bool = False, after_id: str = "", limit: int = 500
) -> list[Listed[RelaySource]]:
    """Return sources, page by page."""
    return entries.listed(db, SUBJECT, with_ended=with_ended, after_id=after_id, limit=limit)
