"""Add to held items all that objected, each with whether it belongs to the safety floor.

A release waives the reasons that it names, so they are kept with the item: traces have a retention of their own.

Adds one column with a constant default: both databases change the table's description only and lock it for a moment.
Items that are there have none; their one reason is the text that they have already.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("held_items", sa.Column("objections", sa.Text(), nullable=False, server_default=sa.text("'[]'")))


def downgrade() -> None:
    op.drop_column("held_items", "objections")
