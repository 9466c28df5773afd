"""Sessions of which something was refused before DATA: one row each, with the last refusal in full. Messages are not here."""

from sqlalchemy import Column, Index, Integer, Table, Text

from gateway.store.metadata import METADATA, UtcDateTime

refused_sessions = Table(
    "refused_sessions",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("started_at", UtcDateTime, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
    Column("listener", Text, nullable=False),
    Column("peer_ip", Text, nullable=False),
    Column("peer_name", Text, nullable=False),
    Column("helo", Text, nullable=False),
    Column("tls", Text, nullable=False),
    Column("refused_count", Integer, nullable=False),
    Column("stage", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("reply", Text, nullable=False),
    Column("mail_from", Text, nullable=False),
    Column("rcpt_to", Text, nullable=False),
    Index("ix_refused_sessions_started_at", "started_at"),
    Index("ix_refused_sessions_peer_ip_started_at", "peer_ip", "started_at"),
)
