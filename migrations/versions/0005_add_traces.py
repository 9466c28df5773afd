"""Add traces and texts kept for replay, partitioned by day, on PostgreSQL.

A day's partition is made by the first import of the day and dropped whole when it expires. SQLite keeps a file for
each day beside the database, which needs no migration. Makes new tables only and locks nothing that is in use.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for name, content in (
        ("traces", sa.Column("trace", sa.LargeBinary(), nullable=False)),
        ("replay_texts", sa.Column("text", sa.Text(), nullable=False)),
    ):
        op.create_table(
            name,
            sa.Column("day", sa.Date(), nullable=False),
            sa.Column("message_id", sa.Text(), nullable=False),
            content,
            sa.PrimaryKeyConstraint("day", "message_id", name=op.f(f"pk_{name}")),
            postgresql_partition_by="RANGE (day)",
        )


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.drop_table("replay_texts")
    op.drop_table("traces")
