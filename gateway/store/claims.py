"""The table of claims: one use of a limited key or waiver by one message for one recipient.

Unique by entry, hash of the received bytes and recipient: who missed our 250 and sends again uses the same use.
"""

from sqlalchemy import Column, Index, Table, Text, UniqueConstraint

from gateway.store.metadata import METADATA, UtcDateTime

claims = Table(
    "claims",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("entry_id", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("claimed_at", UtcDateTime, nullable=False),
    # "" until the message is accepted; such claims lapse.
    Column("message_id", Text, nullable=False),
    UniqueConstraint("entry_id", "sha256", "recipient"),
    Index("ix_claims_claimed_at", "claimed_at"),
)
