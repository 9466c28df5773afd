"""Add the index of objects in the vault that nobody waits for any more, which are looked for twice a minute.

It covers few rows or none. To make it both databases read the table of held items once, which locks it against writing
meanwhile: a second for a million rows.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NAME = "ix_held_items_left_in_vault"
WHERE = sa.text("state <> 'held' AND vault_name <> ''")


def upgrade() -> None:
    op.create_index(NAME, "held_items", ["vault_name"], sqlite_where=WHERE, postgresql_where=WHERE)


def downgrade() -> None:
    op.drop_index(NAME, "held_items")
