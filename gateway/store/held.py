"""Held items: groups of recipients whose message waits for a person, and what became of it."""

from sqlalchemy import Column, ForeignKey, Index, Integer, PrimaryKeyConstraint, Table, Text, text

from gateway.store.metadata import METADATA, UtcDateTime, one_of

STATES = ("held", "released", "deleted", "expired")
_WAITS = text("state = 'held'")

held_items = Table(
    "held_items",
    METADATA,
    Column("message_id", Text, ForeignKey("messages.id"), nullable=False),
    Column("group_number", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("held_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("vault_name", Text, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("closed_by", Text, nullable=False),
    PrimaryKeyConstraint("message_id", "group_number"),
    one_of("state", STATES),
    Index("ix_held_items_held_at", "held_at", sqlite_where=_WAITS, postgresql_where=_WAITS),
    Index("ix_held_items_kind", "kind", sqlite_where=_WAITS, postgresql_where=_WAITS),
)
