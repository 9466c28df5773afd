"""Hourly counters: what the dashboard and the reports add up, so that no page has to scan messages."""

from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint, Table, Text

from gateway.store.metadata import METADATA, UtcDateTime

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
