"""Jobs: rows by which the web asks for what it may not do itself, with progress and result."""

from sqlalchemy import Column, Index, Integer, Table, Text

from gateway.store.metadata import METADATA, Json, UtcDateTime, one_of

STATES = ("waiting", "running", "done", "failed", "cancelled")

jobs = Table(
    "jobs",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("arguments", Json, nullable=False),
    Column("state", Text, nullable=False),
    Column("progress", Integer, nullable=False),
    Column("note", Text, nullable=False),
    Column("result", Json),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("lease_owner", Text, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("finished_at", UtcDateTime),
    one_of("state", STATES),
    Index("ix_jobs_state_id", "state", "id"),
)
