"""Held items: groups of recipients whose message waits for a person, and what became of it.

The bytes are in the spool until they are moved to the vault; then the deliveries name no record any more. All who wait
in one item wait with the same bytes.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import (
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    exists,
    select,
    text,
    tuple_,
    update,
)

from gateway.accepted import Location, Objection, Settled
from gateway.mail.address import Address
from gateway.mail.envelope import Direction
from gateway.mail.errors import Conflict, NotAllowed, NotFound
from gateway.store.database import Database
from gateway.store.mail_tables import (
    HELD_IN_SPOOL,
    HELD_LATER,
    IS_HELD,
    LEFT_IN_VAULT,
    DeliveryKey,
    address_of,
    deliveries,
    held_items,
    messages,
)
from gateway.store.metadata import is_literally, storable
from gateway.store.statements import insert_into

WAITS = is_literally(held_items.c.state, "held")
_OF_ITEM = and_(
    deliveries.c.message_id == held_items.c.message_id, deliveries.c.group_number == held_items.c.group_number
)
_KEY = (held_items.c.message_id, held_items.c.group_number)
ONE_ITEM = (held_items.c.message_id == bindparam("id"), held_items.c.group_number == bindparam("group"))


class HeldItem(Struct, frozen=True):
    """One group that waits. `recipients` are those who wait; the bytes are at `location`, or if None in the vault.

    `reason` is what decided, `objections` are all that stood against it, as of the last time that it was judged.
    """

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
    objections: tuple[Objection, ...] = ()

    @property
    def is_judged(self) -> bool:
        """Whether a judgement holds it; otherwise it was on its way before, and goes on as it is."""
        return self.kind not in HELD_LATER


class PastItem(Struct, frozen=True):
    """One group that waits or waited. `state` is held, released, deleted or expired."""

    group: int
    kind: str
    reason: str
    state: str
    held_at: datetime
    closed_at: datetime | None
    closed_by: str
    objections: tuple[Objection, ...]


# -- what waits


def list_items(
    db: Database, *, recipient: str = "", kind: str = "", before: str = "", limit: int = 100
) -> list[HeldItem]:
    """Return items that wait, newest message first; `before` is the last page's last `message_id`."""
    query = all_items().where(WAITS)
    if recipient:
        is_theirs = exists().where(_OF_ITEM, IS_HELD, deliveries.c.recipient == storable(recipient))
        query = query.where(is_theirs)
    if kind:
        query = query.where(held_items.c.kind == kind)
    if before:
        query = query.where(held_items.c.message_id < before)
    query = query.order_by(held_items.c.message_id.desc(), held_items.c.group_number).limit(limit)
    with db.reading() as connection:
        return read_items(connection, query)


def find(db: Database, message_id: str, group: int) -> HeldItem | None:
    """Return one item, None when it does not wait (any more)."""
    with db.reading() as connection:
        return _find(connection, message_id, group)


def get(db: Database, message_id: str, group: int) -> HeldItem:
    """Return one item that waits. Raises Conflict for one that waits no more, NotFound where there never was one."""
    with db.reading() as connection:
        return waiting_item(connection, message_id, group)


def of_message(db: Database, message_id: str) -> list[HeldItem]:
    """Return the items of a message that wait."""
    query = all_items().where(WAITS, held_items.c.message_id == message_id).order_by(held_items.c.group_number)
    with db.reading() as connection:
        return read_items(connection, query)


def history(db: Database, message_id: str) -> list[PastItem]:
    """Return all items that a message has or had."""
    table = held_items.c
    query = select(held_items).where(table.message_id == message_id).order_by(table.group_number)
    with db.reading() as connection:
        rows = connection.execute(query).all()
    return [
        PastItem(
            group=row.group_number,
            kind=row.kind,
            reason=row.reason,
            state=row.state,
            held_at=row.held_at,
            closed_at=row.closed_at,
            closed_by=row.closed_by,
            objections=_objections(row.objections),
        )
        for row in rows
    ]


def outside_vault(db: Database, *, after: HeldItem | None = None, limit: int = 50) -> list[HeldItem]:
    """Return items whose bytes are still in the spool, to be moved to the vault: a page, oldest mail first.

    `after` is the last item of the page before.
    """
    place = deliveries.c
    key = (place.message_id, place.group_number)
    in_spool = select(*key).where(text(HELD_IN_SPOOL)).distinct().order_by(*key).limit(limit)
    if after is not None:
        in_spool = in_spool.where(tuple_(*key) > (after.message_id, after.group))
    query = all_items().where(WAITS, tuple_(*_KEY).in_(in_spool)).order_by(*_KEY)
    with db.reading() as connection:
        return read_items(connection, query)


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
    statement = update(held_items).where(*ONE_ITEM, ~WAITS, held_items.c.vault_name == bindparam("name"))
    rows = [{"id": id, "group": group, "name": name} for id, group, name in items]
    if rows:
        with db.writing() as connection:
            connection.execute(statement.values(vault_name=""), rows)


def all_items() -> Select[Any]:
    """Return the query of items that `read_items` takes, without conditions."""
    shown = messages.c
    return select(
        held_items, shown.ref, shown.direction, shown.mail_from, shown.author, shown.subject, shown.size
    ).join(messages, shown.id == held_items.c.message_id)


def _find(connection: Connection, message_id: str, group: int) -> HeldItem | None:
    query = all_items().where(WAITS, held_items.c.message_id == message_id, held_items.c.group_number == group)
    return next(iter(read_items(connection, query)), None)


def waiting_item(connection: Connection, message_id: str, group: int) -> HeldItem:
    """Return one item that waits, in a transaction. Raises like `get`."""
    item = _find(connection, message_id, group)
    if item is not None:
        return item
    query = select(held_items.c.state, held_items.c.closed_by)
    past = connection.execute(query.where(*ONE_ITEM), {"id": message_id, "group": group}).one_or_none()
    if past is None:
        raise NotFound("nothing is held under this name")
    raise Conflict(f"it is held no more: {past.state} by {past.closed_by}")


def read_items(connection: Connection, query: Select[Any]) -> list[HeldItem]:
    """Return the items of a query with those who wait."""
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
        objections=_objections(row.objections),
    )


def as_json(objections: Iterable[Objection]) -> str:
    """Return what the column holds, for statements that take plain values."""
    return json.dumps(plain(objections), ensure_ascii=False, separators=(",", ":"))


def plain(objections: Iterable[Objection]) -> list[dict[str, Any]]:
    """Return objections as the column takes them."""
    return [
        {"reason": storable(one.reason), "detail": storable(one.detail), "is_floor": one.is_floor} for one in objections
    ]


def _objections(value: Any) -> tuple[Objection, ...]:
    return msgspec.convert(value, tuple[Objection, ...])


# -- what becomes held


def hold(connection: Connection, keys: Sequence[DeliveryKey], kind: str, reason: str, now: datetime) -> None:
    """Make items of held deliveries in a transaction: one that waits already stays as it is, a closed one waits again.

    Who comes back into an item in which others wait still waits with them, for what they wait for: with their bytes.
    """
    groups: dict[tuple[str, int], list[DeliveryKey]] = {}
    for key in keys:
        groups.setdefault((key.message_id, key.group), []).append(key)
    for back in groups.values():
        _join(connection, back)
    rows: list[dict[str, Any]] = [
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
            "objections": [],
        }
        for id, group in groups
    ]
    if rows:
        statement = insert_into(connection, held_items)
        excluded = statement.excluded
        # The name of an object that is left in the vault stays: it is written anew there, or removed by that name.
        names = ("kind", "reason", "state", "held_at", "expires_at", "closed_at", "closed_by", "objections")
        statement = statement.on_conflict_do_update(
            index_elements=["message_id", "group_number"],
            set_={name: excluded[name] for name in names},
            where=~WAITS,
        )
        connection.execute(statement, rows)


def _join(connection: Connection, back: Sequence[DeliveryKey]) -> None:
    """Give those who come back into an item that waits the bytes of those who were there before."""
    one = {"id": back[0].message_id, "group": back[0].group}
    waits = connection.execute(select(held_items.c.vault_name).where(*ONE_ITEM, WAITS), one).scalar_one_or_none()
    if waits is None:
        return
    place = deliveries.c
    names = [storable(str(key.recipient)) for key in back]
    mine = (place.message_id == one["id"], place.group_number == one["group"], IS_HELD)
    columns = (place.segment, place.segment_offset, place.segment_length)
    first = connection.execute(select(*columns).where(*mine, place.recipient.not_in(names)).limit(1)).one_or_none()
    if first is not None:
        values = dict(zip(("segment", "segment_offset", "segment_length"), first, strict=True))
        connection.execute(update(deliveries).where(*mine, place.recipient.in_(names)).values(**values, notice_due=""))


def hold_undeliverable(connection: Connection, results: Sequence[Settled]) -> None:
    """Make items of deliveries that failed and of which nobody outside can be told."""
    for result in results:
        key = DeliveryKey(result.message_id, result.group, result.recipient)
        hold(connection, [key], "undeliverable", result.reply, result.at)


def set_vault_name(db: Database, message_id: str, group: int, name: str) -> None:
    """Note that the bytes are in the vault, durable: the spool's record is needed no more by who is held."""
    place = {"segment": None, "segment_offset": None, "segment_length": None}
    mine = (deliveries.c.message_id == message_id, deliveries.c.group_number == group)
    with db.writing(durable=True) as connection:
        connection.execute(
            update(held_items).where(*ONE_ITEM).values(vault_name=name), {"id": message_id, "group": group}
        )
        connection.execute(update(deliveries).where(*mine, IS_HELD, deliveries.c.notice_due == "").values(**place))


def require_on_its_way(connection: Connection, message_id: str, group: int) -> None:
    """Raise NotAllowed for an item that a judgement holds: only a release, which judges again, may let it out."""
    if waiting_item(connection, message_id, group).is_judged:
        raise NotAllowed("a judgement holds it: release it first")


def close_empty(
    connection: Connection, groups: Iterable[tuple[str, int]], state: str, *, by: str, now: datetime
) -> None:
    """Close those of the items for which no recipient waits any more."""
    is_empty = ~exists().where(_OF_ITEM, IS_HELD)
    statement = update(held_items).where(*ONE_ITEM, WAITS, is_empty)
    statement = statement.values(state=state, closed_at=now, closed_by=storable(by, 320))
    rows = [{"id": id, "group": group} for id, group in dict.fromkeys(groups)]
    if rows:
        connection.execute(statement, rows)
