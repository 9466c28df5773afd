"""Waivers: single reasons forgiven to one message for named recipients, once."""

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Text

from gateway.mail.errors import Malformed
from gateway.policy.ledger import Waiver
from gateway.store import entries
from gateway.store.database import Database
from gateway.store.entries import Listed, Subject, Values, ledger_table
from gateway.store.metadata import Texts

waivers = ledger_table(
    "waivers",
    Column("sha256", Text, nullable=False),
    Column("reasons", Texts, nullable=False),
    Column("recipients", Texts, nullable=False),
    identity=(),
)


def _write(entry: Waiver) -> dict[str, Any]:
    if not entry.reasons or not entry.recipients:
        raise Malformed("a waiver names reasons and recipients")
    return {
        "sha256": entry.sha256.lower(),
        "reasons": entry.reasons,
        "recipients": tuple(recipient.lower() for recipient in entry.recipients),
        "expires_at": entry.expires_at,
    }


def _read(row: Values) -> Waiver:
    return Waiver(
        id=row["id"],
        sha256=row["sha256"],
        reasons=row["reasons"],
        recipients=row["recipients"],
        expires_at=row["expires_at"],
    )


SUBJECT = Subject("waiver", waivers, _write, _read, ())


def add(db: Database, entry: Waiver, *, by: str, now: datetime, owner: str = "", reason: str = "") -> Waiver:
    """Forgive reasons to one message; an empty id is filled in. Raises Malformed."""
    return entries.add(db, SUBJECT, entry, by=by, now=now, extra={"owner": owner, "reason": reason})


def end(db: Database, id: str, *, by: str, now: datetime, comment: str = "") -> None:
    """Take a waiver back. Raises NotFound."""
    entries.end(db, SUBJECT, id, by=by, now=now, comment=comment)


def list_entries(
    db: Database, *, with_ended: bool = False, after_id: str = "", limit: int = 500
) -> list[Listed[Waiver]]:
    """Return waivers, page by page."""
    return entries.listed(db, SUBJECT, with_ended=with_ended, after_id=after_id, limit=limit)
