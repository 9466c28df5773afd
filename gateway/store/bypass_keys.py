"""The table of bypass keys. A key is matched by its keyed hash and shown from its ciphertext, never stored in clear."""

from sqlalchemy import Column, Index, LargeBinary, Table, Text, text

from gateway.store.metadata import METADATA, UtcDateTime, one_of

STATES = ("waiting", "valid", "grace", "ended", "revoked")
_HAS_KEY = text("state IN ('valid', 'grace')")

bypass_keys = Table(
    "bypass_keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("key_class", Text, nullable=False),
    Column("keyed_hash", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("valid_from", UtcDateTime, nullable=False),
    Column("valid_to", UtcDateTime, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", Text, nullable=False),
    one_of("state", STATES),
    Index("uq_bypass_keys_keyed_hash", "keyed_hash", unique=True, sqlite_where=_HAS_KEY, postgresql_where=_HAS_KEY),
    Index("ix_bypass_keys_key_class_valid_from", "key_class", "valid_from"),
)
