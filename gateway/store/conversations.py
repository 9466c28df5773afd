"""Whom the company writes to: Message-IDs that we sent, and pairs of addresses. The bytes of a message are not looked at."""

from sqlalchemy import BigInteger, Column, Index, PrimaryKeyConstraint, Table, Text

from gateway.store.metadata import METADATA, UtcDateTime

sent_messages = Table(
    "sent_messages",
    METADATA,
    Column("internet_message_id", Text, primary_key=True),
    Column("message_id", Text, nullable=False),
    Column("sent_at", UtcDateTime, nullable=False),
    Index("ix_sent_messages_sent_at", "sent_at"),
    sqlite_with_rowid=False,
)

correspondents = Table(
    "correspondents",
    METADATA,
    Column("ours", Text, nullable=False),
    Column("theirs", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("first_at", UtcDateTime, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
    Column("message_count", BigInteger, nullable=False),
    PrimaryKeyConstraint("ours", "theirs"),
    Index("ix_correspondents_theirs", "theirs"),
    Index("ix_correspondents_domain", "domain"),
    Index("ix_correspondents_last_at", "last_at"),
    sqlite_with_rowid=False,
)
