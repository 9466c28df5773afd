"""The table of deliveries: one row for each recipient of each accepted message, from acceptance to its end.

A row names the record in the spool only as long as the bytes are needed: that is how one learns which segments may go.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

from gateway.accepted import State
from gateway.mail.envelope import Direction
from gateway.store.metadata import METADATA, UtcDateTime, is_literally, one_of

FINAL = (State.DELIVERED, State.FAILED, State.DELETED, State.DISCARDED)
NOTICES = ("", "failed", "delayed", "delivered", "relayed")


def _partial(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


deliveries = Table(
    "deliveries",
    METADATA,
    Column("message_id", Text, ForeignKey("messages.id"), nullable=False),
    Column("group_number", Integer, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", UtcDateTime),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("lease_owner", Text, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("segment", Text),
    Column("segment_offset", BigInteger),
    Column("segment_length", BigInteger),
    Column("last_at", UtcDateTime),
    Column("last_host", Text, nullable=False),
    Column("last_reply", Text, nullable=False),
    Column("tls", Text, nullable=False),
    Column("notice_due", Text, nullable=False),
    Column("delay_notified_at", UtcDateTime),
    Column("redirect_to", Text, nullable=False),
    PrimaryKeyConstraint("message_id", "group_number", "recipient"),
    one_of("state", State),
    one_of("direction", Direction),
    one_of("notice_due", NOTICES),
    CheckConstraint("state <> 'active' OR (lease_owner <> '' AND lease_until IS NOT NULL)", name="leased"),
    CheckConstraint("state <> 'queued' OR due_at IS NOT NULL", name="due"),
    _partial("ix_deliveries_queued", "source", "due_at", where="state = 'queued'"),
    _partial("ix_deliveries_active", "lease_owner", where="state = 'active'"),
    _partial("ix_deliveries_held", "recipient", where="state = 'held'"),
    _partial("ix_deliveries_segment", "segment", where="segment IS NOT NULL"),
    _partial("ix_deliveries_notice", "message_id", where="notice_due <> ''"),
    Index("ix_deliveries_recipient_message_id", "recipient", "message_id"),
    # SQLite: rows lie in the order of the key, which is the order of time.
    sqlite_with_rowid=False,
)

IS_QUEUED = is_literally(deliveries.c.state, State.QUEUED)
IS_ACTIVE = is_literally(deliveries.c.state, State.ACTIVE)
IS_HELD = is_literally(deliveries.c.state, State.HELD)
IS_OPEN = is_literally(deliveries.c.state, State.QUEUED, State.ACTIVE, State.HELD)
IS_FINAL = is_literally(deliveries.c.state, *FINAL)
