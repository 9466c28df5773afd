"""Messages: what was accepted or refused, for lists and look-ups. The import itself is in imports.py."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select

from gateway.accepted import State
from gateway.mail.address import Address
from gateway.mail.envelope import Direction
from gateway.mail.errors import Malformed
from gateway.mail.reference import parse_reference
from gateway.store.database import Database
from gateway.store.days import lowest_id
from gateway.store.imports import ImportItem, NotImported, import_batch
from gateway.store.mail_tables import ID_LENGTH, address_of, deliveries, has_reference, messages
from gateway.store.metadata import storable
from gateway.verdict import Action

__all__ = [
    "DeliveryRow",
    "ImportItem",
    "MessageRow",
    "NotImported",
    "find",
    "import_batch",
    "outcomes",
    "recent",
    "states",
]


class MessageRow(Struct, frozen=True):
    """One message for lists. `recipients` is cut for very long lists, `recipient_count` is not.

    `action` and `reason` are those of the group that fared worst.
    """

    id: str
    ref: str
    accepted_at: datetime
    direction: Direction
    mail_from: str
    recipients: tuple[str, ...]
    recipient_count: int
    author: str
    subject: str
    internet_message_id: str
    size: int
    sha256: str
    peer_ip: str
    helo: str
    source: str
    tls: str
    action: Action
    reason: str
    policy_version: int
    is_notice: bool


class DeliveryRow(Struct, frozen=True):
    """What became of one recipient."""

    group: int
    recipient: Address
    direction: Direction
    route: str
    action: Action
    reason: str
    state: State
    attempts: int
    due_at: datetime | None
    expires_at: datetime
    last_at: datetime | None
    last_host: str
    last_reply: str
    tls: str


def find(db: Database, ref_or_id: str) -> list[MessageRow]:
    """Return the messages with this id or reference, newest first: a reference is not quite unique."""
    text = ref_or_id.strip()
    condition = messages.c.id == text.upper()
    if len(text) != ID_LENGTH:
        try:
            condition = has_reference(parse_reference(text))
        except Malformed:
            return []
    with db.reading() as connection:
        return _rows(connection, condition, limit=10)


def recent(
    db: Database,
    limit: int = 100,
    before: str | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    direction: Direction | None = None,
    action: Action | None = None,
    reason: str = "",
    peer_ip: str = "",
    source: str = "",
    mail_from: str = "",
    recipient: str = "",
    state: State | None = None,
    search: str = "",
) -> list[MessageRow]:
    """Return messages, newest first; the next page is asked for with the last one's id as `before`.

    `mail_from` and `recipient` are whole addresses or, without @, domains. `search` is looked for in paths, author,
    Subject and Message-ID; it reads all messages of the time, so give it `since`.
    """
    table = messages.c
    conditions: list[ColumnElement[bool]] = []
    if before:
        conditions.append(table.id < before)
    if since is not None:
        conditions.append(table.id >= lowest_id(since))
    if until is not None:
        conditions.append(table.id < lowest_id(until))
    for column, wanted in (("direction", direction), ("action", action), ("reason", reason), ("peer_ip", peer_ip)):
        if wanted:
            conditions.append(table[column] == str(wanted))
    if source:
        conditions.append(table.source == source)
    if mail_from:
        conditions.append(_names(table.mail_from, mail_from))
    if recipient or state is not None:
        conditions.append(_has_delivery(recipient, state))
    if search:
        conditions.append(_mentions(search))
    with db.reading() as connection:
        return _rows(connection, and_(True, *conditions), limit)


def _names(column: ColumnElement[str], wanted: str) -> ColumnElement[bool]:
    text = storable(wanted.strip())
    return column == text if "@" in text else column.endswith("@" + text.lower(), autoescape=True)


def _has_delivery(recipient: str, state: State | None) -> ColumnElement[bool]:
    table = deliveries.c
    conditions: list[ColumnElement[bool]] = [table.message_id == messages.c.id]
    if state is not None:
        conditions.append(table.state == state.value)
    if not recipient:
        return exists().where(*conditions)
    text = storable(recipient.strip())
    conditions.append(table.recipient == text if "@" in text else table.domain == text.lower())
    found = exists().where(*conditions)
    if state is not None:
        return found
    # Refused mail has no deliveries.
    return or_(found, messages.c.recipients.contains(text if "@" in text else f"@{text.lower()}", autoescape=True))


def _mentions(search: str) -> ColumnElement[bool]:
    table = messages.c
    columns = (table.mail_from, table.recipients, table.author, table.subject, table.internet_message_id)
    return or_(*(column.icontains(storable(search), autoescape=True) for column in columns))


def _rows(connection: Connection, condition: ColumnElement[bool], limit: int) -> list[MessageRow]:
    query = select(messages).where(condition).order_by(messages.c.id.desc()).limit(limit)
    return [_message(row._mapping) for row in connection.execute(query)]


def _message(row: Mapping[Any, Any]) -> MessageRow:
    values = dict(row)
    values["direction"] = Direction(values["direction"])
    values["action"] = Action(values["action"])
    values["recipients"] = tuple(values["recipients"].split("\n"))
    return MessageRow(**values)


def outcomes(db: Database, id: str) -> list[DeliveryRow]:
    """Return what became of each recipient of a message; empty for one that was refused."""
    table = deliveries.c
    query = select(deliveries).where(table.message_id == id).order_by(table.group_number, table.recipient)
    with db.reading() as connection:
        rows = connection.execute(query).all()
    return [
        DeliveryRow(
            group=row.group_number,
            recipient=address_of(row.recipient),
            direction=Direction(row.direction),
            route=row.route,
            action=Action(row.action),
            reason=row.reason,
            state=State(row.state),
            attempts=row.attempts,
            due_at=row.due_at,
            expires_at=row.expires_at,
            last_at=row.last_at,
            last_host=row.last_host,
            last_reply=row.last_reply,
            tls=row.tls,
        )
        for row in rows
    ]


def states(db: Database, ids: Sequence[str]) -> dict[str, list[State]]:
    """Return the different states of each message's deliveries, for lists; nothing for one that was refused."""
    table = deliveries.c
    query = select(table.message_id, table.state).where(table.message_id.in_(ids)).distinct()
    found: dict[str, list[State]] = {}
    with db.reading() as connection:
        for id, state in connection.execute(query.order_by(table.message_id, table.state)):
            found.setdefault(id, []).append(State(state))
    return found
