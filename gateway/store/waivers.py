"""Waivers: single reasons forgiven to one message for named recipients, once."""

import contextlib
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Text, insert

from gateway.mail.errors import Conflict, Malformed, NotFound
from gateway.mail.reference import new_id
from gateway.policy.ledger import Waiver
from gateway.store import entries
from gateway.store.claims import claims
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


def close(db: Database, id: str, *, by: str, now: datetime) -> None:
    """End a waiver that nobody used; one that has ended already stays as it is."""
    with contextlib.suppress(NotFound):
        end(db, id, by=by, now=now, comment="not used")


def use(connection: Connection, waiver: Waiver, message_id: str, *, by: str, now: datetime) -> None:
    """Use a waiver up in the transaction of the release that it is for. Raises Conflict when it has been used."""
    try:
        entries.end_in(connection, SUBJECT, waiver.id, by=by, now=now, comment=f"used by {message_id}")
    except NotFound as error:
        raise Conflict("this waiver has been used, or was taken back") from error
    rows = [
        {
            "id": new_id(int(now.timestamp() * 1000)),
            "entry_id": waiver.id,
            "sha256": waiver.sha256,
            "recipient": recipient,
            "claimed_at": now,
            "message_id": message_id,
        }
        for recipient in waiver.recipients
    ]
    connection.execute(insert(claims), rows)


def list_entries(
    db: Database, *, with_ended: bool = False, after_id: str = "", limit: int = 500
) -> list[Listed[Waiver]]:
    """Return waivers, page by page."""
    return entries.listed(db, SUBJECT, with_ended=with_ended, after_id=after_id, limit=limit)
