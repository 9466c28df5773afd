"""Messages."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, Text

from gateway.mail.envelope import Direction
from gateway.store.metadata import METADATA, UtcDateTime, one_of
from gateway.verdict import Action

messages = Table(
    "messages",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("ref", Text, nullable=False),
    Column("accepted_at", UtcDateTime, nullable=False),
    Column("direction", Text, nullable=False),
    Column("mail_from", Text, nullable=False),
    Column("recipients", Text, nullable=False),
    Column("recipient_count", Integer, nullable=False),
    Column("author", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("internet_message_id", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("peer_ip", Text, nullable=False),
    Column("helo", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("tls", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("policy_version", BigInteger, nullable=False),
    Column("is_notice", Boolean, nullable=False),
    one_of("direction", Direction),
    one_of("action", Action),
    Index("ix_messages_ref", "ref"),
    sqlite_with_rowid=False,
)
