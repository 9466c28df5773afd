"""Add the indexes of held bytes that are to be moved: out of the spool into the vault, and out of the vault.

Both are looked for twice a minute and cover few rows or none. To make them both databases read the tables of deliveries
and of held items once, which locks these against writing meanwhile: a second for a million rows.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

IN_SPOOL = sa.text("state = 'held' AND segment IS NOT NULL AND notice_due = ''")
IN_VAULT = sa.text("state <> 'held' AND vault_name <> ''")


def upgrade() -> None:
    op.create_index(
        "ix_deliveries_held_in_spool",
        "deliveries",
        ["message_id", "group_number"],
        sqlite_where=IN_SPOOL,
        postgresql_where=IN_SPOOL,
    )
    op.create_index(
        "ix_held_items_left_in_vault", "held_items", ["vault_name"], sqlite_where=IN_VAULT, postgresql_where=IN_VAULT
    )


def downgrade() -> None:
    op.drop_index("ix_held_items_left_in_vault", "held_items")
    op.drop_index("ix_deliveries_held_in_spool", "deliveries")
