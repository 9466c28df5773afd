"""Add to held items the Message-ID as the mail leaves.

A bounce may name it, so it is remembered when the item is released; the bytes, which have it, may be anywhere then.

Adds one column with a constant default: both databases change the table's description only and lock it for a moment.
Of items that are there it is not known; they are remembered by the Message-ID as received.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("held_items", sa.Column("sent_message_id", sa.Text(), nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    op.drop_column("held_items", "sent_message_id")
