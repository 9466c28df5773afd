"""Hourly counters: what the dashboard and the reports add up, so that no page has to scan messages.

Names and keys: `messages` DIRECTION:ACTION, `bytes` DIRECTION, `reasons` FILTER:CODE, `sources` entry id,
`deliveries` STATE, `refused` reason, `findings` FILTER:CODE of what had no effect and is counted all the same.
Written in the transaction of what is counted.
"""

from collections import Counter
from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy import BigInteger, Column, Connection, PrimaryKeyConstraint, Table, Text, func, select

from gateway.store.database import Database
from gateway.store.metadata import METADATA, UtcDateTime
from gateway.store.statements import instant_writer, upsert

hourly_counters = Table(
    "hourly_counters",
    METADATA,
    Column("hour", UtcDateTime, nullable=False),
    Column("name", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("value", BigInteger, nullable=False),
    PrimaryKeyConstraint("hour", "name", "key"),
    sqlite_with_rowid=False,
)

HOUR = timedelta(hours=1)

Counts = Counter[tuple[datetime, str, str]]  # by hour, name, key


class HourlyCount(Struct, frozen=True):
    hour: datetime
    name: str
    key: str
    value: int


def hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def add(connection: Connection, counts: Counts) -> None:
    """Add to the counters."""
    write = instant_writer(is_sqlite=connection.dialect.name == "sqlite")
    rows = [(write(hour), name, key, counts[hour, name, key]) for hour, name, key in sorted(counts)]
    upsert(connection, hourly_counters, rows, added=("value",))


def totals(db: Database, name: str, *, since: datetime, until: datetime | None = None) -> dict[str, int]:
    """Return the sum for each key of `name` over the hours from `since` to before `until`."""
    table = hourly_counters.c
    query = select(table.key, func.sum(table.value)).where(table.name == name, table.hour >= hour_of(since))
    if until is not None:
        query = query.where(table.hour < until)
    with db.reading() as connection:
        return {key: int(value) for key, value in connection.execute(query.group_by(table.key))}


def hours(db: Database, name: str, *, since: datetime) -> list[HourlyCount]:
    """Return the single hours of `name` since `since`, oldest first."""
    table = hourly_counters.c
    query = select(hourly_counters).where(table.name == name, table.hour >= hour_of(since))
    with db.reading() as connection:
        return [HourlyCount(*row) for row in connection.execute(query.order_by(table.hour, table.key))]
