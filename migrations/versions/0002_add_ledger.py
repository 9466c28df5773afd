"""Add the exceptions ledger: whitelist, senders as us, relay sources, recipients, waivers, and their use.

Rows begin and end at a revision and are never deleted; of the rows that have no end no two may name the same.
Makes new tables only and locks nothing that is in use.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CURRENT = sa.text("valid_to_rev IS NULL")


def one_of(table: str, column: str, *values: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(
        " OR ".join(f"{column} = '{value}'" for value in values), name=op.f(f"ck_{table}_{column}")
    )


def create_subject(name: str, *own: Any, identity: list[str]) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("valid_from_rev", sa.BigInteger(), nullable=False),
        sa.Column("valid_to_rev", sa.BigInteger()),
        *own,
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("review_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("ended_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", "valid_from_rev", name=op.f(f"pk_{name}")),
    )
    op.create_index(f"uq_{name}_current_id", name, ["id"], unique=True, sqlite_where=CURRENT, postgresql_where=CURRENT)
    op.create_index(f"ix_{name}_valid_from_rev", name, ["valid_from_rev"])
    op.create_index(f"ix_{name}_valid_to_rev", name, ["valid_to_rev"])
    if identity:
        op.create_index(
            f"uq_{name}_current", name, identity, unique=True, sqlite_where=CURRENT, postgresql_where=CURRENT
        )


def upgrade() -> None:
    create_subject(
        "whitelist_entries",
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("subdomains", sa.Boolean(), nullable=False),
        sa.Column("proof", sa.Text(), nullable=False),
        sa.Column("networks", sa.Text(), nullable=False),
        one_of(
            "whitelist_entries", "identity", "author_domain", "author_address", "envelope_domain", "envelope_address"
        ),
        one_of("whitelist_entries", "proof", "none", "pinned_address"),
        identity=["value", "identity"],
    )
    create_subject(
        "sends_as_us",
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("networks", sa.Text(), nullable=False),
        identity=["domain", "networks"],
    )
    create_subject(
        "relay_sources",
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("allowed_domains", sa.Text(), nullable=False),
        sa.Column("any_sender", sa.Boolean(), nullable=False),
        sa.Column("max_per_hour", sa.BigInteger(), nullable=False),
        one_of("relay_sources", "kind", "server", "application", "device", "mail_server"),
        identity=["network"],
    )
    create_subject(
        "recipients",
        sa.Column("local", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        identity=["local", "domain"],
    )
    create_subject(
        "waivers",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("recipients", sa.Text(), nullable=False),
        identity=[],
    )
    op.create_table(
        "ledger_uses",
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("use_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("pk_ledger_uses")),
    )


def downgrade() -> None:
    for name in ("ledger_uses", "waivers", "recipients", "relay_sources", "sends_as_us", "whitelist_entries"):
        op.drop_table(name)
