"""Notifications that outcomes call for (RFC 3461): kept with the delivery until they are sent."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import case, null, select, text, update

from gateway.accepted import Location, State
from gateway.store.database import Database
from gateway.store.mail_tables import BY_KEY, DeliveryKey, address_of, deliveries

_IS_DUE = text("notice_due <> ''")


class NoticeDue(Struct, frozen=True):
    """A recipient of whom the sender is to be told. `kind`: failed, delayed, delivered, relayed.

    `location` is None when the record is gone, which is an error: then only the outcome can be told.
    """

    key: DeliveryKey
    kind: str
    state: State
    reply: str
    host: str
    at: datetime | None
    attempts: int
    expires_at: datetime
    location: Location | None


def notices_due(db: Database, limit: int) -> list[NoticeDue]:
    """Return what is to be told, recipients of one group together, the oldest message first."""
    query = select(deliveries).where(_IS_DUE).order_by(deliveries.c.message_id, deliveries.c.group_number).limit(limit)
    with db.reading() as connection:
        rows = connection.execute(query).all()
    return [
        NoticeDue(
            key=DeliveryKey(row.message_id, row.group_number, address_of(row.recipient)),
            kind=row.notice_due,
            state=State(row.state),
            reply=row.last_reply,
            host=row.last_host,
            at=row.last_at,
            attempts=row.attempts,
            expires_at=row.expires_at,
            location=None if row.segment is None else Location(row.segment, row.segment_offset, row.segment_length),
        )
        for row in rows
    ]


def notice_sent(db: Database, keys: Sequence[DeliveryKey], *, now: datetime) -> None:
    """Note that the notifications are in the spool: they are due no more, and settled mail needs its bytes no more."""
    if not keys:
        return
    table = deliveries.c
    is_open = table.state.in_([State.QUEUED.value, State.ACTIVE.value, State.HELD.value])
    statement = (
        update(deliveries)
        .where(*BY_KEY)
        .values(
            notice_due="",
            delay_notified_at=case((table.notice_due == "delayed", now), else_=table.delay_notified_at),
            segment=case((is_open, table.segment), else_=null()),
            segment_offset=case((is_open, table.segment_offset), else_=null()),
            segment_length=case((is_open, table.segment_length), else_=null()),
        )
    )
    with db.writing() as connection:
        connection.execute(statement, [key.bound for key in keys])
