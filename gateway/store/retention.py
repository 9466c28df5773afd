"""Delete what is older than the policy keeps it, in small slices: other writers wait for each of them.

Messages stay while a delivery of theirs is open. Ledger rows and policy versions stay for good.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy import Column, ColumnElement, Select, Table, delete, exists, select, tuple_

from gateway.policy.document import Retention
from gateway.store import held, replay_texts, traces
from gateway.store.audit import audit_entries
from gateway.store.claims import LAPSES_AFTER, claims
from gateway.store.conversations import correspondents, sent_messages
from gateway.store.counters import hourly_counters
from gateway.store.database import Database
from gateway.store.days import lowest_id
from gateway.store.jobs import jobs
from gateway.store.mail_tables import IS_OPEN, deliveries, held_items, messages
from gateway.store.refused import refused_sessions

SLICE_ROWS = 200
SLICE_SECONDS = 0.02
COUNTERS_DAYS = 800  # two years of hours, for reports that compare
JOBS_DAYS = 30

Pause = Callable[[], None]


class Pruned(Struct, frozen=True):
    """What went: rows by table, days of traces and texts, and how many held items have expired."""

    rows: dict[str, int]
    trace_days: int
    replay_days: int
    expired: int


def prune(db: Database, retention: Retention, now: datetime, pause: Pause = lambda: time.sleep(0.01)) -> Pruned:
    """Delete what is over; `pause` is called between slices. May be interrupted and begun again at any time."""

    def before(days: float) -> datetime:
        return now - timedelta(days=days)

    expired = expire_held(db, retention, now, pause)
    rows = _prune_messages(db, lowest_id(before(retention.messages_days)), pause)
    for table, column, cutoff in (
        (refused_sessions, refused_sessions.c.started_at, before(retention.refused_sessions_days)),
        (sent_messages, sent_messages.c.sent_at, before(retention.conversations_days)),
        (correspondents, correspondents.c.last_at, before(retention.conversations_days)),
        (audit_entries, audit_entries.c.at, before(retention.audit_days)),
        (hourly_counters, hourly_counters.c.hour, before(COUNTERS_DAYS)),
        (jobs, jobs.c.finished_at, before(JOBS_DAYS)),
    ):
        rows[table.name] = _prune(db, table, column < cutoff, pause)
    is_lapsed = (claims.c.message_id == "") & (claims.c.claimed_at < now - LAPSES_AFTER)
    rows[claims.name] = _prune(db, claims, is_lapsed, pause)
    return Pruned(
        rows=rows,
        trace_days=traces.drop_before(db, before(retention.traces_days).date()),
        replay_days=replay_texts.drop_before(db, before(retention.replay_text_days).date()),
        expired=expired,
    )


def expire_held(db: Database, retention: Retention, now: datetime, pause: Pause = lambda: time.sleep(0.01)) -> int:
    """Give up what has been held for longer than its kind is kept; return how many items."""
    count = 0
    by_kind = {kind: now - timedelta(days=days) for kind, days in retention.held_days_by_kind.items()}
    while expired := held.expire(db, before=now - timedelta(days=retention.held_days), now=now, by_kind=by_kind):
        count += expired
        pause()
    return count


def _prune_messages(db: Database, floor: str, pause: Pause) -> dict[str, int]:
    """Delete messages with ids below `floor`, their deliveries and items first.

    One stays as long as an item of it names an object in the vault, which would never be found again.
    """
    counts = {held_items.name: 0, deliveries.name: 0, messages.name: 0}
    is_open = exists().where(deliveries.c.message_id == messages.c.id, IS_OPEN)
    in_vault = exists().where(held_items.c.message_id == messages.c.id, held_items.c.vault_name != "")
    is_over = (messages.c.id < floor) & ~is_open & ~in_vault
    while ids := _ids(db, select(messages.c.id).where(is_over).order_by(messages.c.id).limit(SLICE_ROWS)):
        for table in (held_items, deliveries):
            counts[table.name] += _prune(db, table, table.c.message_id.in_(ids), pause)
        counts[messages.name] += _prune(db, messages, messages.c.id.in_(ids), pause)
    return counts


def _ids(db: Database, query: Select[str]) -> list[str]:
    with db.reading() as connection:
        return list(connection.execute(query).scalars())


def _prune(db: Database, table: Table, is_over: ColumnElement[bool], pause: Pause) -> int:
    """Delete rows slice by slice, smaller slices when they take long."""
    key: list[Column[object]] = list(table.primary_key.columns)
    name = key[0] if len(key) == 1 else tuple_(*key)
    count, size = 0, SLICE_ROWS
    while True:
        started = time.monotonic()
        with db.writing() as connection:
            gone = connection.execute(delete(table).where(name.in_(select(*key).where(is_over).limit(size)))).rowcount
        count += gone
        if gone < size:
            return count
        if time.monotonic() - started > SLICE_SECONDS:
            size = max(20, size // 2)
        pause()
