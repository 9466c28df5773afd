"""Make bypass keys rows of the ledger, which begin and end at revisions, so that they reach the relay within seconds.

A key gets its month, its limits and the hash as text; its state follows from its instants. One key for each class and
month is current. The few rows are written anew; who reads or writes keys meanwhile waits some milliseconds.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

CURRENT = sa.text("valid_to_rev IS NULL")
THE_MONTHS = sa.text("valid_to_rev IS NULL AND period <> ''")
OPENS = sa.text("state IN ('valid', 'grace')")
NO_END = 9999  # a year, for tables in which every key ends
TIME = sa.DateTime(timezone=True)
STATES = ("waiting", "valid", "grace", "ended", "revoked")


def before() -> tuple[sa.Column[Any], ...]:
    """Return the columns as they were."""
    return (
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("key_class", sa.Text(), nullable=False),
        sa.Column("keyed_hash", sa.LargeBinary(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("valid_from", TIME, nullable=False),
        sa.Column("valid_to", TIME, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
    )


def after() -> tuple[sa.Column[Any], ...]:
    """Return the columns as they are now."""
    return (
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("valid_from_rev", sa.BigInteger(), nullable=False),
        sa.Column("valid_to_rev", sa.BigInteger(), nullable=True),
        sa.Column("key_class", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("valid_from", TIME, nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("recipients", sa.Text(), nullable=False),
        sa.Column("senders", sa.Text(), nullable=False),
        sa.Column("types", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("review_at", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=False),
    )


def rows_of(columns: tuple[sa.Column[Any], ...], *order: str) -> list[dict[str, Any]]:
    """Return the rows of the table as it stands, and remove it."""
    table = sa.table("bypass_keys", *[sa.column(one.name, one.type) for one in columns])
    query = sa.select(table).order_by(*[table.c[name] for name in order])
    rows = [dict(row) for row in op.get_bind().execute(query).mappings()]
    op.drop_table("bypass_keys")
    return rows


def put(columns: tuple[sa.Column[Any], ...], rows: list[dict[str, Any]]) -> None:
    if rows:
        table = sa.table("bypass_keys", *[sa.column(one.name, one.type) for one in columns])
        op.bulk_insert(table, rows)


def index(name: str, columns: list[str], *, unique: bool = False, where: sa.TextClause | None = None) -> None:
    op.create_index(name, "bypass_keys", columns, unique=unique, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    rows = rows_of(before(), "id")
    op.create_table(
        "bypass_keys",
        *after(),
        sa.PrimaryKeyConstraint("id", "valid_from_rev", name=op.f("pk_bypass_keys")),
    )
    index("uq_bypass_keys_current", ["digest"], unique=True, where=CURRENT)
    index("uq_bypass_keys_current_id", ["id"], unique=True, where=CURRENT)
    index("uq_bypass_keys_period", ["key_class", "period"], unique=True, where=THE_MONTHS)
    index("ix_bypass_keys_valid_from_rev", ["valid_from_rev"])
    index("ix_bypass_keys_valid_to_rev", ["valid_to_rev"])
    put(after(), [as_ledger_row(row, next_revision()) for row in rows])


def next_revision() -> int:
    bind = op.get_bind()
    bind.execute(sa.text("UPDATE revisions SET ledger_revision = ledger_revision + 1"))
    return int(bind.execute(sa.text("SELECT ledger_revision FROM revisions")).scalar_one())


def as_ledger_row(row: dict[str, Any], revision: int) -> dict[str, Any]:
    is_over = row["state"] in ("ended", "revoked")
    return {
        "id": row["id"],
        "valid_from_rev": revision,
        "valid_to_rev": revision if is_over else None,
        "key_class": row["key_class"],
        "digest": row["keyed_hash"].hex(),
        "ciphertext": row["ciphertext"],
        "length": 12,
        "period": "",
        "valid_from": row["valid_from"],
        "uses": 0,
        "recipients": "[]",
        "senders": "[]",
        "types": "[]",
        "owner": "",
        "reason": "",
        "expires_at": row["valid_to"],
        "review_at": None,
        "created_at": row["created_at"],
        "created_by": row["created_by"],
        "ended_at": row["valid_to"] if is_over else None,
        "ended_by": "",
    }


def downgrade() -> None:
    rows = rows_of(after(), "id", "valid_from_rev")
    op.create_table(
        "bypass_keys",
        *before(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bypass_keys")),
        sa.CheckConstraint(" OR ".join(f"state = '{one}'" for one in STATES), name=op.f("ck_bypass_keys_state")),
    )
    index("uq_bypass_keys_keyed_hash", ["keyed_hash"], unique=True, where=OPENS)
    index("ix_bypass_keys_key_class_valid_from", ["key_class", "valid_from"])
    last = {row["id"]: row for row in rows}  # a key that was renewed has several
    put(before(), [as_plain_row(row) for row in last.values()])


def as_plain_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "key_class": row["key_class"],
        "keyed_hash": bytes.fromhex(row["digest"]),
        "ciphertext": row["ciphertext"],
        "valid_from": row["valid_from"],
        "valid_to": row["expires_at"] or row["valid_from"].replace(year=NO_END, month=1, day=1),
        "state": "valid" if row["valid_to_rev"] is None else "revoked",
        "created_at": row["created_at"],
        "created_by": row["created_by"],
    }
