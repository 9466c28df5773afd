"""Statements for bulk, which both databases write alike. They take plain tuples in the order of the table's columns.

SQLAlchemy's handling of each value would cost more than SQLite's own work, so what is bound must be what the database
stores: instants by `instant_writer`, enumerations by their values.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite

Row = Sequence[Any]

# SQLite takes 32,766 values in a statement since 3.32; the widest table has 25 columns.
ROWS_AT_ONCE = (256, 128, 64, 32, 16, 8, 4, 2, 1)
MAX_REPEATED = 8  # To look up that many keys costs less than another statement.


def insert_new(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows; those whose key is there are ignored."""
    for part in _parts(connection, rows, may_repeat=True):
        _execute(connection, _insert(table, connection.dialect, _at_once(connection, part)) + " DO NOTHING", part)


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Row],
    *,
    added: tuple[str, ...] = (),
    latest: tuple[str, ...] = (),
) -> None:
    """Insert rows; where the key is there, add to the columns `added` and keep the later value of the columns `latest`.

    Rows have to come in the order of their keys: two that do so at once never wait for each other in a circle.
    """
    for part in _parts(connection, rows):
        statement = _upsert(table, connection.dialect, added, latest, _at_once(connection, part))
        _execute(connection, statement, part)


def in_parts(rows: Sequence[Row], *, may_repeat: bool = False) -> Iterator[Sequence[Row]]:
    """Split rows for statements of many rows each; few sizes, so that few statements are prepared.

    Python's sqlite3 lets go of the interpreter's lock for each statement. Beside a busy event loop, to get it back
    costs more than to insert some rows. So with `may_repeat` (where a row whose key is there is ignored) a part that
    is nearly full is filled up with its last row.
    """
    at, left = 0, len(rows)
    for size in ROWS_AT_ONCE:
        while left >= size:
            yield rows[at : at + size]
            at, left = at + size, left - size
        if may_repeat and left > size // 2 and size - left <= MAX_REPEATED:
            yield [*rows[at:], *[rows[-1]] * (size - left)]
            return


def _parts(connection: Connection, rows: Sequence[Row], *, may_repeat: bool = False) -> Iterable[Sequence[Row]]:
    if connection.dialect.name == "sqlite":
        return in_parts(rows, may_repeat=may_repeat)
    return [rows] if rows else []


def _at_once(connection: Connection, part: Sequence[Row]) -> int:
    """Return how many rows a statement takes: all of a part on SQLite, one elsewhere, in the driver's pipeline."""
    return len(part) if connection.dialect.name == "sqlite" else 1


def _execute(connection: Connection, statement: str, part: Sequence[Row]) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(statement, tuple([value for row in part for value in row]))
    else:
        connection.exec_driver_sql(statement, [tuple(row) for row in part])


@lru_cache(maxsize=512)
def _insert(table: Table, dialect: Dialect, rows: int) -> str:
    quote = dialect.identifier_preparer.quote
    names = ", ".join(quote(name) for name in list(table.columns.keys()))
    places = ", ".join(["?" if dialect.name == "sqlite" else "%s"] * len(table.columns))
    values = ", ".join([f"({places})"] * rows)
    return f"INSERT INTO {table.name} ({names}) VALUES {values} ON CONFLICT"


@lru_cache(maxsize=512)
def _upsert(table: Table, dialect: Dialect, added: tuple[str, ...], latest: tuple[str, ...], rows: int) -> str:
    quote = dialect.identifier_preparer.quote
    key = ", ".join(quote(column.name) for column in table.primary_key.columns)
    changes = [f"{name} = {table.name}.{name} + excluded.{name}" for name in map(quote, added)]
    for name in map(quote, latest):
        old, new = f"{table.name}.{name}", f"excluded.{name}"
        changes.append(f"{name} = CASE WHEN {new} > {old} THEN {new} ELSE {old} END")
    return f"{_insert(table, dialect, rows)} ({key}) DO UPDATE SET {', '.join(changes)}"


def instant_writer(*, is_sqlite: bool) -> Callable[[datetime], Any]:
    """Return what makes of an aware datetime the plain value that `UtcDateTime` would store."""
    return _as_text if is_sqlite else _as_it_is


def _as_text(at: datetime) -> str:
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    # The precision as an argument costs half as much again. Without it, a whole second has no fraction.
    return at.isoformat(" ")[:26] if at.microsecond else f"{at.isoformat(' ')[:19]}.000000"


def _as_it_is(at: datetime) -> datetime:
    return at


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that can say what to do ON CONFLICT, for statements that are not for bulk."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def clock(connection: Connection, now: datetime) -> datetime:
    """Return the time that leases go by: `now` on SQLite, on PostgreSQL the database's, which all hosts share."""
    if connection.dialect.name == "sqlite":
        return now
    told: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    return told.astimezone(UTC)
