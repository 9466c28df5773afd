"""Add what we sent and whom we write to.

For the conversation pass, the proof of bounces, and the whitelist's learning mode.

Makes new tables only and locks nothing that is in use.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sent_messages",
        sa.Column("internet_message_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("internet_message_id", name=op.f("pk_sent_messages")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_sent_messages_sent_at", "sent_messages", ["sent_at"])
    op.create_table(
        "correspondents",
        sa.Column("ours", sa.Text(), nullable=False),
        sa.Column("theirs", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("message_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ours", "theirs", name=op.f("pk_correspondents")),
        sqlite_with_rowid=False,
    )
    for column in ("theirs", "domain", "last_at"):
        op.create_index(f"ix_correspondents_{column}", "correspondents", [column])


def downgrade() -> None:
    op.drop_table("correspondents")
    op.drop_table("sent_messages")
