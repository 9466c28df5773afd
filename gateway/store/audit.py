"""Who changed what, when and why. Rows are written in the transaction of the change, and never changed."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import BigInteger, Column, Connection, Index, Integer, Table, Text, insert, select

from gateway.store.database import Database
from gateway.store.metadata import METADATA, Json, UtcDateTime, storable

audit_entries = Table(
    "audit_entries",
    METADATA,
    # SQLite counts by itself only for a column of its type INTEGER.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("by", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("before", Json),
    Column("after", Json),
    Column("comment", Text, nullable=False),
    Index("ix_audit_entries_at", "at"),
    Index("ix_audit_entries_subject_subject_id", "subject", "subject_id"),
)


class AuditEntry(Struct, frozen=True):
    """One change. `subject` is the kind of thing, `before` and `after` its values (None: it was not there)."""

    id: int
    at: datetime
    by: str
    action: str
    subject: str
    subject_id: str
    before: Any
    after: Any
    comment: str


def record(
    connection: Connection,
    *,
    at: datetime,
    by: str,
    action: str,
    subject: str,
    subject_id: str,
    before: Any = None,
    after: Any = None,
    comment: str = "",
) -> None:
    """Write one entry in the transaction of the change. `before` and `after` are JSON without secrets."""
    connection.execute(
        insert(audit_entries).values(
            at=at,
            by=storable(by, 200),
            action=action,
            subject=subject,
            subject_id=storable(subject_id, 1000),
            before=before,
            after=after,
            comment=storable(comment, 4000),
        )
    )


def entries(
    db: Database,
    *,
    limit: int = 100,
    before_id: int | None = None,
    subject: str = "",
    subject_id: str = "",
    by: str = "",
) -> list[AuditEntry]:
    """Return entries, newest first; the next page is asked for with the last one's id as `before_id`."""
    query = select(audit_entries).order_by(audit_entries.c.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(audit_entries.c.id < before_id)
    for column, wanted in (("subject", subject), ("subject_id", subject_id), ("by", by)):
        if wanted:
            query = query.where(audit_entries.c[column] == wanted)
    with db.reading() as connection:
        return [AuditEntry(*row) for row in connection.execute(query)]
