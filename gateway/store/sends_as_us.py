"""Who may send as one of our own domains from outside, with the proof that it is them."""

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Text

from gateway.mail.errors import Malformed
from gateway.policy.ledger import SendsAsUs
from gateway.store import entries
from gateway.store.database import Database
from gateway.store.entries import Listed, Subject, Values, ledger_table
from gateway.store.metadata import Texts
from gateway.store.networks import written_networks

# One domain may have several senders: what they share is no conflict.
sends_as_us = ledger_table(
    "sends_as_us",
    Column("domain", Text, nullable=False),
    Column("networks", Texts, nullable=False),
    identity=("domain", "networks"),
)


def _write(entry: SendsAsUs) -> dict[str, Any]:
    domain = entry.domain.strip().lower()
    if not domain or "@" in domain:
        raise Malformed("not a domain")
    if not entry.networks:
        raise Malformed("the proof by address needs networks")
    return {
        "domain": domain,
        "networks": written_networks(entry.networks),
        "owner": entry.owner,
        "reason": entry.reason,
        "expires_at": entry.expires_at,
    }


def _read(row: Values) -> SendsAsUs:
    return SendsAsUs(
        id=row["id"],
        domain=row["domain"],
        networks=row["networks"],
        owner=row["owner"],
        reason=row["reason"],
        expires_at=row["expires_at"],
    )


SUBJECT = Subject("sends as us", sends_as_us, _write, _read, ("domain", "networks"))


def add(db: Database, entry: SendsAsUs, *, by: str, now: datetime) -> SendsAsUs:
    """Allow somebody to send as us; an empty id is filled in. Raises Conflict, Malformed."""
    return entries.add(db, SUBJECT, entry, by=by, now=now)


def end(db: Database, id: str, *, by: str, now: datetime, comment: str = "") -> None:
    """End an entry. Raises NotFound."""
    entries.end(db, SUBJECT, id, by=by, now=now, comment=comment)


def list_entries(
    db: Database, *, with_ended: bool = False, after_id: str = "", limit: int = 500
) -> list[Listed[SendsAsUs]]:
    """Return entries, page by page."""
    return entries.listed(db, SUBJECT, with_ended=with_ended, after_id=after_id, limit=limit)
