"""Orders about held items, and their end: released, deleted, expired. Each is audited in its transaction."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, and_, or_, update

from gateway.accepted import Location, Objection, State
from gateway.mail.address import Address
from gateway.mail.envelope import Recipient
from gateway.mail.errors import Conflict
from gateway.policy.ledger import Waiver
from gateway.store import audit, conversations, waivers
from gateway.store.database import Database
from gateway.store.held_items import (
    ONE_ITEM,
    WAITS,
    HeldItem,
    all_items,
    close_empty,
    plain,
    read_items,
    waiting_item,
)
from gateway.store.mail_tables import IS_HELD, deliveries, held_items
from gateway.store.metadata import storable

NO_KINDS: Mapping[str, datetime] = {}


class Leaving(Struct, frozen=True):
    """Recipients who get what is released from one record. `sent_message_id` "": as the item has it already."""

    recipients: tuple[Address, ...]
    location: Location
    route: str | None = None
    sent_message_id: str = ""


def release(
    db: Database,
    message_id: str,
    group: int,
    *,
    by: str,
    now: datetime,
    reason: str,
    leaving: Sequence[Leaving],
    waiver: Waiver | None = None,
    policy_version: int = 0,
) -> int:
    """Queue what is held, each recipient with the record that is for him; return for how many. Uses the waiver up.

    All of it or nothing: raises Conflict when somebody released or deleted a share of it meanwhile, or used the waiver.
    """
    with db.writing(durable=True) as connection:
        item = waiting_item(connection, message_id, group)
        chosen = [one for share in leaving for one in share.recipients]
        for share in leaving:
            if _change(connection, item, share.recipients, _queued(share, now)) != len(share.recipients):
                raise Conflict("some of it is held no more: somebody else released or deleted it meanwhile")
            if share.sent_message_id:
                values = {"sent_message_id": storable(share.sent_message_id)}
                connection.execute(
                    update(held_items).where(*ONE_ITEM).values(**values), {"id": message_id, "group": group}
                )
            recipients = [Recipient(one, item.direction) for one in share.recipients]
            conversations.note_released(connection, message_id, group, recipients, now)
        if waiver is not None:
            waivers.use(connection, waiver, message_id, by=by, now=now)
        close_empty(connection, [(message_id, group)], "released", by=by, now=now)
        after: dict[str, Any] = {"waiver": waiver.id, "waived": list(waiver.reasons)} if waiver else {}
        after |= {"policy_version": policy_version} if policy_version else {}
        _audit(connection, item, chosen, "release", by=by, now=now, reason=reason, after=after)
    return len(chosen)


def _queued(share: Leaving, now: datetime) -> dict[str, Any]:
    place = share.location
    return {
        "state": State.QUEUED.value,
        "due_at": now,
        "segment": place.segment,
        "segment_offset": place.offset,
        "segment_length": place.length,
        "attempts": 0,
        **({} if share.route is None else {"route": share.route}),
    }


def judged_again(
    db: Database,
    message_id: str,
    group: int,
    *,
    by: str,
    now: datetime,
    reason: str,
    objections: Sequence[Objection],
    decisive: str,
    after: Mapping[str, Any],
) -> None:
    """Note what stands against an item today; `decisive` "" leaves its reason. Raises like `get`."""
    values: dict[str, Any] = {"objections": plain(objections)}
    if decisive:
        values["reason"] = storable(decisive)
    with db.writing(durable=True) as connection:
        item = waiting_item(connection, message_id, group)
        connection.execute(update(held_items).where(*ONE_ITEM).values(**values), {"id": message_id, "group": group})
        _audit(connection, item, item.recipients, "judge again", by=by, now=now, reason=reason, after=after)


def note_view(db: Database, item: HeldItem, *, by: str, now: datetime, reason: str) -> None:
    """Write down that somebody is about to be given the message itself."""
    with db.writing(durable=True) as connection:
        _audit(connection, item, item.recipients, "export", by=by, now=now, reason=reason)


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
    """Give up what is held, for all or some recipients; return for how many. Raises like `get`."""
    with db.writing(durable=True) as connection:
        item = waiting_item(connection, message_id, group)
        chosen = item.recipients if recipients is None else [one for one in item.recipients if one in recipients]
        count = _change(connection, item, chosen, _given_up(now, f"deleted by {by}: {reason}"))
        close_empty(connection, [(message_id, group)], "deleted", by=by, now=now)
        _audit(connection, item, chosen, "delete", by=by, now=now, reason=reason)
    return count


def expire(
    db: Database, *, before: datetime, now: datetime, by_kind: Mapping[str, datetime] = NO_KINDS, limit: int = 50
) -> int:
    """Give up items held since before then (`by_kind`: those of a kind), or whose own time is over; return how many."""
    table = held_items.c
    is_old: list[ColumnElement[bool]] = [and_(table.kind == kind, table.held_at < at) for kind, at in by_kind.items()]
    is_old.append(and_(table.kind.not_in(list(by_kind)), table.held_at < before))
    is_over = or_(table.expires_at <= now, and_(table.expires_at.is_(None), or_(*is_old)))
    with db.writing() as connection:
        items = read_items(connection, all_items().where(WAITS, is_over).order_by(held_items.c.held_at).limit(limit))
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


def _audit(
    connection: Connection,
    item: HeldItem,
    recipients: Iterable[Address],
    action: str,
    *,
    by: str,
    now: datetime,
    reason: str,
    after: Mapping[str, Any] | None = None,
) -> None:
    audit.record(
        connection,
        at=now,
        by=by,
        action=action,
        subject="held item",
        subject_id=item.message_id,
        before={"group": item.group, "kind": item.kind, "recipients": [storable(str(one)) for one in recipients]},
        after=dict(after) if after else None,
        comment=reason,
    )
