"""Add bypass keys and claims on limited uses.

A key is found by its keyed hash and shown from its ciphertext. A claim makes one use unique by entry, message and
recipient. Makes new tables only and locks nothing that is in use.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OPENS = sa.text("state IN ('valid', 'grace')")


def one_of(table: str, column: str, *values: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(
        " OR ".join(f"{column} = '{value}'" for value in values), name=op.f(f"ck_{table}_{column}")
    )


def upgrade() -> None:
    op.create_table(
        "bypass_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("key_class", sa.Text(), nullable=False),
        sa.Column("keyed_hash", sa.LargeBinary(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bypass_keys")),
        one_of("bypass_keys", "state", "waiting", "valid", "grace", "ended", "revoked"),
    )
    op.create_index(
        "uq_bypass_keys_keyed_hash",
        "bypass_keys",
        ["keyed_hash"],
        unique=True,
        sqlite_where=OPENS,
        postgresql_where=OPENS,
    )
    op.create_index("ix_bypass_keys_key_class_valid_from", "bypass_keys", ["key_class", "valid_from"])
    op.create_table(
        "claims",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_claims")),
        sa.UniqueConstraint("entry_id", "sha256", "recipient", name=op.f("uq_claims_entry_id_sha256_recipient")),
    )
    op.create_index("ix_claims_claimed_at", "claims", ["claimed_at"])


def downgrade() -> None:
    op.drop_table("claims")
    op.drop_table("bypass_keys")
