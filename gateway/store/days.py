"""What is kept by day and dropped by day."""

from sqlalchemy import Column, Date, LargeBinary, PrimaryKeyConstraint, Table, Text

from gateway.store.metadata import DAY_METADATA

traces = Table(
    "traces",
    DAY_METADATA,
    Column("day", Date, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("trace", LargeBinary, nullable=False),
    PrimaryKeyConstraint("day", "message_id"),
    postgresql_partition_by="RANGE (day)",
)

replay_texts = Table(
    "replay_texts",
    DAY_METADATA,
    Column("day", Date, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("text", Text, nullable=False),
    PrimaryKeyConstraint("day", "message_id"),
    postgresql_partition_by="RANGE (day)",
)
