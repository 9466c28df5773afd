"""The queue as people see it, and their orders: try again, hold, delete, redirect. Orders are audited."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Row, func, insert, or_, select, tuple_, update

from gateway.accepted import Location, State
from gateway.mail.address import Address
from gateway.mail.envelope import Direction, Recipient
from gateway.mail.errors import Conflict, Malformed
from gateway.store import audit, conversations, held
from gateway.store.database import Database
from gateway.store.days import milliseconds_of
from gateway.store.mail_tables import (
    BY_KEY,
    IS_ACTIVE,
    IS_HELD,
    IS_OPEN,
    IS_QUEUED,
    DeliveryKey,
    address_of,
    deliveries,
    messages,
)
from gateway.store.metadata import storable

SLICE_ROWS = 100
NO_PLACES: Mapping[tuple[str, int], Location] = {}


class Depth(Struct, frozen=True):
    """How much there is. `oldest_at` is when the oldest message that waits was accepted, None when none waits."""

    queued: int
    active: int
    held: int
    oldest_at: datetime | None
    oldest_seconds: float

    @property
    def waiting(self) -> int:
        return self.queued + self.active


class DestinationDepth(Struct, frozen=True):
    """What waits for one domain from one source (a ledger entry's id, "" for mail from outside)."""

    domain: str
    source: str
    waiting: int
    oldest_at: datetime
    next_at: datetime | None


class Waiting(Struct, frozen=True):
    """One delivery in the queue, with what people know the message by."""

    key: DeliveryKey
    ref: str
    state: State
    accepted_at: datetime
    mail_from: str
    subject: str
    size: int
    source: str
    domain: str
    attempts: int
    due_at: datetime | None
    expires_at: datetime
    last_at: datetime | None
    last_host: str
    last_reply: str


def depth(db: Database, *, now: datetime | None = None) -> Depth:
    """Count what waits and what is held, by the partial indexes alone."""
    count, oldest = func.count(), func.min(deliveries.c.message_id)
    with db.reading() as connection:
        queued, active, held_now = (
            connection.execute(select(count, oldest).select_from(deliveries).where(state)).one()
            for state in (IS_QUEUED, IS_ACTIVE, IS_HELD)
        )
    ids = [row[1] for row in (queued, active) if row[1] is not None]
    oldest_at = _made_at(min(ids)) if ids else None
    age = ((now or datetime.now(UTC)) - oldest_at).total_seconds() if oldest_at else 0.0
    return Depth(queued[0], active[0], held_now[0], oldest_at, max(0.0, age))


def _made_at(id: str) -> datetime:
    return datetime.fromtimestamp(milliseconds_of(id) / 1000, UTC)


def depth_by_destination(db: Database, *, limit: int = 200) -> list[DestinationDepth]:
    """Return what waits by domain and source, most first."""
    table = deliveries.c
    count = func.count()
    query = select(table.domain, table.source, count, func.min(table.message_id), func.min(table.due_at))
    query = query.where(or_(IS_QUEUED, IS_ACTIVE)).group_by(table.domain, table.source)
    with db.reading() as connection:
        rows = connection.execute(query.order_by(count.desc(), table.domain, table.source).limit(limit)).all()
    return [DestinationDepth(row[0], row[1], row[2], _made_at(row[3]), row[4]) for row in rows]


def list_waiting(
    db: Database,
    *,
    states: Sequence[State] = (State.QUEUED, State.ACTIVE),
    domain: str = "",
    source: str | None = None,
    after: DeliveryKey | None = None,
    limit: int = 200,
) -> list[Waiting]:
    """Return deliveries, oldest message first; the next page is asked for with the last one's key as `after`."""
    table = deliveries.c
    conditions: list[ColumnElement[bool]] = [IS_OPEN, table.state.in_([state.value for state in states])]
    if domain:
        conditions.append(table.domain == domain.lower())
    if source is not None:
        conditions.append(table.source == source)
    if after is not None:
        key = tuple_(table.message_id, table.group_number, table.recipient)
        conditions.append(key > tuple_(after.message_id, after.group, storable(str(after.recipient))))
    query = select(
        deliveries, messages.c.ref, messages.c.accepted_at, messages.c.mail_from, messages.c.subject, messages.c.size
    )
    query = query.join(messages, messages.c.id == table.message_id).where(*conditions)
    query = query.order_by(table.message_id, table.group_number, table.recipient).limit(limit)
    with db.reading() as connection:
        rows = connection.execute(query).all()
    return [
        Waiting(
            key=DeliveryKey(row.message_id, row.group_number, address_of(row.recipient)),
            ref=row.ref,
            state=State(row.state),
            accepted_at=row.accepted_at,
            mail_from=row.mail_from,
            subject=row.subject,
            size=row.size,
            source=row.source,
            domain=row.domain,
            attempts=row.attempts,
            due_at=row.due_at,
            expires_at=row.expires_at,
            last_at=row.last_at,
            last_host=row.last_host,
            last_reply=row.last_reply,
        )
        for row in rows
    ]


def retry(db: Database, keys: Sequence[DeliveryKey], *, by: str, now: datetime, reason: str) -> int:
    """Make queued deliveries due now; return how many there were."""
    values = {"due_at": now}
    return _order(db, keys, "retry", IS_QUEUED, values, by=by, now=now, reason=reason)


def hold(db: Database, keys: Sequence[DeliveryKey], *, by: str, now: datetime, reason: str) -> int:
    """Take deliveries out of the queue for a person to decide; return how many. A success meanwhile counts."""
    values = {"state": State.HELD.value, "due_at": None, "lease_owner": "", "lease_until": None}
    return _order(db, keys, "hold", or_(IS_QUEUED, IS_ACTIVE), values, by=by, now=now, reason=reason)


def delete(db: Database, keys: Sequence[DeliveryKey], *, by: str, now: datetime, reason: str) -> int:
    """Give deliveries up, held ones too, and tell nobody; return how many. A success meanwhile counts."""
    return _order(
        db, keys, "delete", IS_OPEN, _deleted(f"deleted by {by}: {reason}", now), by=by, now=now, reason=reason
    )


def _deleted(why: str, now: datetime) -> Mapping[str, Any]:
    return {
        "state": State.DELETED.value,
        "due_at": None,
        "lease_owner": "",
        "lease_until": None,
        "segment": None,
        "segment_offset": None,
        "segment_length": None,
        "notice_due": "",
        "last_at": now,
        "last_reply": storable(why),
    }


def redirect(
    db: Database,
    keys: Sequence[DeliveryKey],
    to: Address,
    *,
    by: str,
    now: datetime,
    reason: str,
    places: Mapping[tuple[str, int], Location] = NO_PLACES,
) -> int:
    """Deliver to another address instead, from the first attempt on; return how many were redirected.

    The old recipient's row stays, deleted and saying so; what has been redirected there before is not delivered twice.
    `places` are the new records of groups (id, number) whose bytes were in the vault; without one, where one is needed,
    raises Conflict. `held_mail.redirect` looks after that. What a judgement holds is not redirected: raises NotAllowed.
    """
    if to.is_null:
        raise Malformed("there is no address to redirect to")
    count = 0
    for key in keys:
        with db.writing() as connection:
            row = connection.execute(
                select(deliveries).where(*BY_KEY, or_(IS_QUEUED, IS_HELD)), key.bound
            ).one_or_none()
            if row is None or key.recipient == to:
                continue
            if row.state == State.HELD:
                held.require_on_its_way(connection, key.message_id, key.group)
            new = {
                **row._mapping,
                **_place(row, places.get((key.message_id, key.group))),
                "recipient": storable(str(to)),
                "domain": storable(to.domain),
                "state": State.QUEUED.value,
                "attempts": 0,
                "due_at": now,
                "notice_due": "",
            }
            connection.execute(
                update(deliveries).where(*BY_KEY).values(**_deleted(f"redirected to {to}", now)), key.bound
            )
            there = {**key.bound, "to": new["recipient"]}
            is_new = connection.execute(select(deliveries.c.state).where(*BY_KEY), there).one_or_none() is None
            if is_new:
                connection.execute(insert(deliveries), new)
            held.close_empty(connection, [(key.message_id, key.group)], "released", by=by, now=now)
            _audit(connection, [key], f"redirect to {to}", by=by, now=now, reason=reason)
            if is_new and row.state == State.HELD:
                leaving = [Recipient(to, Direction(row.direction))]
                conversations.note_released(connection, key.message_id, key.group, leaving, now)
            count += 1
    return count


def _place(row: Row[Any], place: Location | None) -> dict[str, Any]:
    """Return where the bytes of a redirected delivery lie, as columns."""
    if row.segment is not None:
        return {}
    if place is None:
        raise Conflict("the bytes are in the vault: they have to be brought to the spool first")
    return {"segment": place.segment, "segment_offset": place.offset, "segment_length": place.length}


def _order(
    db: Database,
    keys: Sequence[DeliveryKey],
    action: str,
    applies: ColumnElement[bool],
    values: Mapping[str, Any],
    *,
    by: str,
    now: datetime,
    reason: str,
) -> int:
    count = 0
    for at in range(0, len(keys), SLICE_ROWS):
        with db.writing() as connection:
            statement = update(deliveries).where(*BY_KEY, applies).values(**values)
            part = [key for key in keys[at : at + SLICE_ROWS] if connection.execute(statement, key.bound).rowcount]
            if action == "hold":
                held.hold(connection, part, "operator", reason, now)
            if action == "delete":
                held.close_empty(connection, [(key.message_id, key.group) for key in part], "deleted", by=by, now=now)
            _audit(connection, part, action, by=by, now=now, reason=reason)
            count += len(part)
    return count


def _audit(
    connection: Connection, keys: Sequence[DeliveryKey], action: str, *, by: str, now: datetime, reason: str
) -> None:
    for key in keys:
        audit.record(
            connection,
            at=now,
            by=by,
            action=action,
            subject="delivery",
            subject_id=key.message_id,
            before={"group": key.group, "recipient": storable(str(key.recipient))},
            comment=reason,
        )
