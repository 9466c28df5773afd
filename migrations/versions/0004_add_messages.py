"""Add messages, their deliveries, held items, and sessions that were refused.

One row for each message, for each recipient of it, for each group that waits for a person. Partial indexes keep what is
finished out of the queue's way. Makes new tables only and locks nothing that is in use.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

DIRECTIONS = ("inbound", "outbound", "internal", "returned")


def one_of(table: str, column: str, *values: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(
        " OR ".join(f"{column} = '{value}'" for value in values), name=op.f(f"ck_{table}_{column}")
    )


def upgrade() -> None:
    create_messages()
    create_deliveries()
    create_held_items()
    create_refused_sessions()


def create_messages() -> None:
    op.create_table(
        "messages",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("mail_from", sa.Text(), nullable=False),
        sa.Column("recipients", sa.Text(), nullable=False),
        sa.Column("recipient_count", sa.Integer(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("internet_message_id", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("peer_ip", sa.Text(), nullable=False),
        sa.Column("helo", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("tls", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("policy_version", sa.BigInteger(), nullable=False),
        sa.Column("is_notice", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
        one_of("messages", "direction", *DIRECTIONS),
        one_of(
            "messages",
            "action",
            "deliver",
            "quarantine",
            "hold_for_sender",
            "return",
            "redirect",
            "discard",
            "defer",
            "reject",
        ),
    )


def create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("group_number", sa.Integer(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True)),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("segment", sa.Text()),
        sa.Column("segment_offset", sa.BigInteger()),
        sa.Column("segment_length", sa.BigInteger()),
        sa.Column("last_at", sa.DateTime(timezone=True)),
        sa.Column("last_host", sa.Text(), nullable=False),
        sa.Column("last_reply", sa.Text(), nullable=False),
        sa.Column("tls", sa.Text(), nullable=False),
        sa.Column("notice_due", sa.Text(), nullable=False),
        sa.Column("delay_notified_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("message_id", "group_number", "recipient", name=op.f("pk_deliveries")),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_deliveries_message_id_messages")),
        one_of("deliveries", "state", "queued", "active", "held", "delivered", "failed", "deleted", "discarded"),
        one_of("deliveries", "direction", *DIRECTIONS),
        one_of("deliveries", "notice_due", "", "failed", "delayed", "delivered", "relayed"),
        sa.CheckConstraint(
            "state <> 'active' OR (lease_owner <> '' AND lease_until IS NOT NULL)", name=op.f("ck_deliveries_leased")
        ),
        sa.CheckConstraint("state <> 'queued' OR due_at IS NOT NULL", name=op.f("ck_deliveries_due")),
        sqlite_with_rowid=False,
    )
    for name, columns, where in (
        ("ix_deliveries_queued", ["source", "due_at", "domain"], "state = 'queued'"),
        ("ix_deliveries_active", ["lease_owner"], "state = 'active'"),
        ("ix_deliveries_held", ["recipient"], "state = 'held'"),
        ("ix_deliveries_segment", ["segment"], "segment IS NOT NULL"),
        ("ix_deliveries_notice", ["message_id"], "notice_due <> ''"),
    ):
        op.create_index(name, "deliveries", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def create_held_items() -> None:
    op.create_table(
        "held_items",
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("group_number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("vault_name", sa.Text(), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
        sa.Column("closed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "group_number", name=op.f("pk_held_items")),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_held_items_message_id_messages")),
        one_of("held_items", "state", "held", "released", "deleted", "expired"),
    )
    waits = sa.text("state = 'held'")
    op.create_index("ix_held_items_held_at", "held_items", ["held_at"], sqlite_where=waits, postgresql_where=waits)
    op.create_index("ix_held_items_kind", "held_items", ["kind"], sqlite_where=waits, postgresql_where=waits)


def create_refused_sessions() -> None:
    op.create_table(
        "refused_sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("listener", sa.Text(), nullable=False),
        sa.Column("peer_ip", sa.Text(), nullable=False),
        sa.Column("peer_name", sa.Text(), nullable=False),
        sa.Column("helo", sa.Text(), nullable=False),
        sa.Column("tls", sa.Text(), nullable=False),
        sa.Column("refused_count", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.Column("mail_from", sa.Text(), nullable=False),
        sa.Column("rcpt_to", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refused_sessions")),
    )
    op.create_index("ix_refused_sessions_started_at", "refused_sessions", ["started_at"])
    op.create_index("ix_refused_sessions_peer_ip_started_at", "refused_sessions", ["peer_ip", "started_at"])


def downgrade() -> None:
    for name in ("refused_sessions", "held_items", "deliveries", "messages"):
        op.drop_table(name)
