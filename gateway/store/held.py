"""Held items: groups of recipients whose message waits for a person, and what became of it.

The bytes are in the spool until they are moved to the vault; then the deliveries name no record any more.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Row, Select, and_, bindparam, exists, select, text, tuple_, update

from gateway.accepted import Location, Settled, State
from gateway.mail.address import Address
from gateway.mail.envelope import Direction, Recipient
from gateway.mail.errors import Conflict, NotFound
from gateway.store import audit, conversations
from gateway.store.database import Database
from gateway.store.mail_tables import (
    HELD_IN_SPOOL,
    IS_HELD,
    LEFT_IN_VAULT,
    address_of,
    deliveries,
    held_items,
    messages,
)
from gateway.store.metadata import is_literally, storable
from gateway.store.statements import insert_into

_WAITS = is_literally(held_items.c.state, "held")
_OF_ITEM = and_(
    deliveries.c.message_id == held_items.c.message_id, deliveries.c.group_number == held_items.c.group_number
)
_KEY = (held_items.c.message_id, held_items.c.group_number)
_ONE_ITEM = (held_items.c.message_id == bindparam("id"), held_items.c.group_number == bindparam("group"))


class HeldItem(Struct, frozen=True):
    """One group that waits. `recipients` are those who wait; the bytes are at `location`, or if None in the vault."""

    message_id: str
    group: int
    ref: str
    kind: str
    reason: str
    held_at: datetime
    expires_at: datetime | None
    vault_name: str
    direction: Direction
    mail_from: str
    author: str
    subject: str
    size: int
    recipients: tuple[Address, ...]
    location: Location | None


# -- what waits


def list_items(
    db: Database, *, recipient: str = "", kind: str = "", before: str = "", limit: int = 100
) -> list[HeldItem]:
    """Return items that wait, newest message first; `before` is the last page's last `message_id`."""
    query = _items().where(_WAITS)
    if recipient:
        is_theirs = exists().where(_OF_ITEM, IS_HELD, deliveries.c.recipient == storable(recipient))
        query = query.where(is_theirs)
    if kind:
        query = query.where(held_items.c.kind == kind)
    if before:
        query = query.where(held_items.c.message_id < before)
    query = query.order_by(held_items.c.message_id.desc(), held_items.c.group_number).limit(limit)
    with db.reading() as connection:
        return _read(connection, query)


def find(db: Database, message_id: str, group: int) -> HeldItem | None:
    """Return one item, None when it does not wait (any more)."""
    with db.reading() as connection:
        return _find(connection, message_id, group)


def outside_vault(db: Database, *, after: HeldItem | None = None, limit: int = 50) -> list[HeldItem]:
    """Return items whose bytes are still in the spool, to be moved to the vault: a page, oldest mail first.

    `after` is the last item of the page before.
    """
    place = deliveries.c
    key = (place.message_id, place.group_number)
    in_spool = select(*key).where(text(HELD_IN_SPOOL)).distinct().order_by(*key).limit(limit)
    if after is not None:
        in_spool = in_spool.where(tuple_(*key) > (after.message_id, after.group))
    query = _items().where(_WAITS, tuple_(*_KEY).in_(in_spool)).order_by(*_KEY)
    with db.reading() as connection:
        return _read(connection, query)


def left_in_vault(db: Database, *, after: str = "", limit: int = 100) -> list[tuple[str, int, str]]:
    """Return message id, group and name of objects in the vault that nobody waits for any more, in order of the names.

    `after` is the last name of the page before.
    """
    name = held_items.c.vault_name
    query = select(*_KEY, name).where(text(LEFT_IN_VAULT), name > after).order_by(name).limit(limit)
    with db.reading() as connection:
        return [(row[0], row[1], row[2]) for row in connection.execute(query)]


def forget_vault_names(db: Database, items: Sequence[tuple[str, int, str]]) -> None:
    """Note that the vault has these objects no more. One that is held again keeps its name: it gets a new object."""
    statement = update(held_items).where(*_ONE_ITEM, ~_WAITS, held_items.c.vault_name == bindparam("name"))
    rows = [{"id": id, "group": group, "name": name} for id, group, name in items]
    if rows:
        with db.writing() as connection:
            connection.execute(statement.values(vault_name=""), rows)


def _items() -> Select[Any]:
    shown = messages.c
    return select(
        held_items, shown.ref, shown.direction, shown.mail_from, shown.author, shown.subject, shown.size
    ).join(messages, shown.id == held_items.c.message_id)


def _find(connection: Connection, message_id: str, group: int) -> HeldItem | None:
    query = _items().where(_WAITS, held_items.c.message_id == message_id, held_items.c.group_number == group)
    return next(iter(_read(connection, query)), None)


def _get(connection: Connection, message_id: str, group: int) -> HeldItem:
    item = _find(connection, message_id, group)
    if item is None:
        raise NotFound("nothing is held under this name, or not any more")
    return item


def _read(connection: Connection, query: Select[Any]) -> list[HeldItem]:
    rows = connection.execute(query).all()
    waiting: dict[tuple[str, int], list[Row[Any]]] = {}
    theirs = select(deliveries).where(IS_HELD, deliveries.c.message_id.in_({row.message_id for row in rows}))
    for one in connection.execute(theirs) if rows else ():
        waiting.setdefault((one.message_id, one.group_number), []).append(one)
    return [_item(row, waiting.get((row.message_id, row.group_number), [])) for row in rows]


def _item(row: Row[Any], waiting: Sequence[Row[Any]]) -> HeldItem:
    places = [
        Location(one.segment, one.segment_offset, one.segment_length) for one in waiting if one.segment is not None
    ]
    return HeldItem(
        message_id=row.message_id,
        group=row.group_number,
        ref=row.ref,
        kind=row.kind,
        reason=row.reason,
        held_at=row.held_at,
        expires_at=row.expires_at,
        vault_name=row.vault_name,
        direction=Direction(waiting[0].direction if waiting else row.direction),
        mail_from=row.mail_from,
        author=row.author,
        subject=row.subject,
        size=row.size,
        recipients=tuple(address_of(one.recipient) for one in waiting),
        location=places[0] if places else None,
    )


# -- what is done with it


def hold(connection: Connection, groups: Iterable[tuple[str, int]], kind: str, reason: str, now: datetime) -> None:
    """Make items of groups in a transaction; a group that is held already stays as it is, a closed item waits again."""
    rows = [
        {
            "message_id": id,
            "group_number": group,
            "kind": kind,
            "reason": storable(reason),
            "state": "held",
            "held_at": now,
            "expires_at": None,
            "vault_name": "",
            "closed_at": None,
            "closed_by": "",
        }
        for id, group in dict.fromkeys(groups)
    ]
    if rows:
        statement = insert_into(connection, held_items)
        excluded = statement.excluded
        # The name of an object that is left in the vault stays: it is written anew there, or removed by that name.
        names = ("kind", "reason", "state", "held_at", "expires_at", "closed_at", "closed_by")
        statement = statement.on_conflict_do_update(
            index_elements=["message_id", "group_number"],
            set_={name: excluded[name] for name in names},
            where=~_WAITS,
        )
        connection.execute(statement, rows)


def hold_undeliverable(connection: Connection, results: Sequence[Settled]) -> None:
    """Make items of deliveries that failed and of which nobody outside can be told."""
    for result in results:
        hold(connection, [(result.message_id, result.group)], "undeliverable", result.reply, result.at)


def set_vault_name(db: Database, message_id: str, group: int, name: str) -> None:
    """Note that the bytes are in the vault, durable: the spool's record is needed no more by who is held."""
    place = {"segment": None, "segment_offset": None, "segment_length": None}
    mine = (deliveries.c.message_id == message_id, deliveries.c.group_number == group)
    with db.writing(durable=True) as connection:
        connection.execute(
            update(held_items).where(*_ONE_ITEM).values(vault_name=name), {"id": message_id, "group": group}
        )
        connection.execute(update(deliveries).where(*mine, IS_HELD, deliveries.c.notice_due == "").values(**place))


def release(
    db: Database,
    message_id: str,
    group: int,
    *,
    by: str,
    now: datetime,
    reason: str,
    recipients: Sequence[Address] | None = None,
    location: Location | None = None,
) -> int:
    """Queue what is held, for all or some recipients; return for how many. Raises NotFound.

    `location` is the new record of bytes that were in the vault; without one, where one is needed, raises Conflict.
    """
    with db.writing(durable=True) as connection:
        item = _get(connection, message_id, group)
        place = location or item.location
        if place is None:
            raise Conflict("the bytes are in the vault: they have to be brought to the spool first")
        queued = {
            "state": State.QUEUED.value,
            "due_at": now,
            "segment": place.segment,
            "segment_offset": place.offset,
            "segment_length": place.length,
        }
        chosen = item.recipients if recipients is None else recipients
        count = _change(connection, item, chosen, queued)
        close_empty(connection, [(message_id, group)], "released", by=by, now=now)
        _audit(connection, item, chosen, "release", by=by, now=now, reason=reason)
        leaving = [Recipient(one, item.direction) for one in item.recipients if one in chosen]
        conversations.note_released(connection, message_id, group, leaving, now)
    return count


def delete(
    db: Database,
    message_id: str,
    group: int,
    *,
    by: str,
    now: datetime,
    reason: str,
    recipients: Sequence[Address] | None = None,
) -> int:
    """Give up what is held, for all or some recipients; return for how many. Raises NotFound."""
    with db.writing(durable=True) as connection:
        item = _get(connection, message_id, group)
        chosen = item.recipients if recipients is None else recipients
        count = _change(connection, item, chosen, _given_up(now, f"deleted by {by}: {reason}"))
        close_empty(connection, [(message_id, group)], "deleted", by=by, now=now)
        _audit(connection, item, chosen, "delete", by=by, now=now, reason=reason)
    return count


def expire(db: Database, *, before: datetime, now: datetime, limit: int = 50) -> int:
    """Give up items held since before then, or whose own time is over; return how many."""
    is_over = (held_items.c.expires_at <= now) | (held_items.c.expires_at.is_(None) & (held_items.c.held_at < before))
    with db.writing() as connection:
        items = _read(connection, _items().where(_WAITS, is_over).order_by(held_items.c.held_at).limit(limit))
        for item in items:
            _change(connection, item, item.recipients, _given_up(now, "expired in quarantine"))
            close_empty(connection, [(item.message_id, item.group)], "expired", by="retention", now=now)
    return len(items)


def _given_up(now: datetime, why: str) -> dict[str, Any]:
    return {
        "state": State.DELETED.value,
        "segment": None,
        "segment_offset": None,
        "segment_length": None,
        "notice_due": "",
        "last_at": now,
        "last_reply": storable(why),
    }


def _change(connection: Connection, item: HeldItem, recipients: Iterable[Address], values: dict[str, Any]) -> int:
    table = deliveries.c
    names = [storable(str(recipient)) for recipient in recipients]
    mine = (table.message_id == item.message_id, table.group_number == item.group, table.recipient.in_(names))
    return connection.execute(update(deliveries).where(*mine, IS_HELD).values(**values)).rowcount


def close_empty(
    connection: Connection, groups: Iterable[tuple[str, int]], state: str, *, by: str, now: datetime
) -> None:
    """Close those of the items for which no recipient waits any more."""
    is_empty = ~exists().where(_OF_ITEM, IS_HELD)
    statement = update(held_items).where(*_ONE_ITEM, _WAITS, is_empty)
    statement = statement.values(state=state, closed_at=now, closed_by=storable(by, 320))
    rows = [{"id": id, "group": group} for id, group in dict.fromkeys(groups)]
    if rows:
        connection.execute(statement, rows)


def _audit(
    connection: Connection,
    item: HeldItem,
    recipients: Iterable[Address],
    action: str,
    *,
    by: str,
    now: datetime,
    reason: str,
) -> None:
    audit.record(
        connection,
        at=now,
        by=by,
        action=action,
        subject="held item",
        subject_id=item.message_id,
        before={"group": item.group, "kind": item.kind, "recipients": [storable(str(one)) for one in recipients]},
        comment=reason,
    )
