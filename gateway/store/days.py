"""Tables by day: partitions on PostgreSQL, a file for each day on SQLite (day_files.py). A day is dropped whole.

The day is the one in UTC that the message's id was made on, so that an id is enough to find what belongs to it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Column, Connection, Date, LargeBinary, PrimaryKeyConstraint, Table, Text, select

from gateway.mail.errors import Malformed
from gateway.mail.reference import ALPHABET
from gateway.store.database import Database
from gateway.store.metadata import DAY_METADATA
from gateway.store.statements import insert_into

# Python reads base 32 with the digits 0-9 and a-v.
_AS_DIGITS = str.maketrans(ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_DAY_MS = 24 * 3600 * 1000
_EPOCH = date(1970, 1, 1)

TRACES = Table(
    "traces",
    DAY_METADATA,
    Column("day", Date, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("trace", LargeBinary, nullable=False),
    PrimaryKeyConstraint("day", "message_id"),
    postgresql_partition_by="RANGE (day)",
)

REPLAY_TEXTS = Table(
    "replay_texts",
    DAY_METADATA,
    Column("day", Date, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("text", Text, nullable=False),
    PrimaryKeyConstraint("day", "message_id"),
    postgresql_partition_by="RANGE (day)",
)


def milliseconds_of(id: str) -> int:
    """Return the time in a message's id, in milliseconds since 1970. Raises Malformed."""
    try:
        return int(id[:10].translate(_AS_DIGITS), 32)
    except ValueError:
        raise Malformed("not the id of a message") from None


def day_of(id: str) -> date:
    """Return the day in UTC that the id was made on. Raises Malformed."""
    try:
        return _EPOCH + timedelta(days=milliseconds_of(id) // _DAY_MS)
    except OverflowError:
        raise Malformed("not the id of a message") from None


def lowest_id(at: datetime) -> str:
    """Return a text that sorts before each id of this instant or later, and after all earlier ones."""
    milliseconds = max(0, int(at.timestamp() * 1000))
    return "".join(ALPHABET[milliseconds >> shift & 31] for shift in range(45, -1, -5))


def by_day(rows: Iterable[tuple[str, bytes | str]]) -> dict[date, list[tuple[str, bytes | str]]]:
    """Share out rows of id and content by their day."""
    days: dict[date, list[tuple[str, bytes | str]]] = {}
    low = high = ""
    current: list[tuple[str, bytes | str]] = []
    for row in rows:
        if not low <= row[0] < high:
            day = day_of(row[0])
            midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
            low, high = lowest_id(midnight), lowest_id(midnight + timedelta(days=1))
            current = days.setdefault(day, [])
        current.append(row)
    return days


def write(connection: Connection, table: Table, days: Mapping[date, Sequence[tuple[str, bytes | str]]]) -> None:
    """Add rows by day inside of a transaction (PostgreSQL); what is there already is left as it is."""
    content = table.columns.keys()[2]
    statement = insert_into(connection, table).on_conflict_do_nothing()
    for day, rows in days.items():
        _make_partition(connection, table, day)
        connection.execute(statement, [{"day": day, "message_id": id, content: kept} for id, kept in rows])


def _make_partition(connection: Connection, table: Table, day: date) -> None:
    # Looked at each time: retention, in another process, drops old days.
    name = _partition(table, day)
    if connection.exec_driver_sql("SELECT to_regclass(%s)", (name,)).scalar_one() is not None:
        return
    # Two processes may import the first mail of a day at once.
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext(%s))", (table.name,))
    connection.exec_driver_sql(
        f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table.name} "
        f"FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
    )


def put(db: Database, table: Table, rows: Iterable[tuple[str, bytes | str]]) -> None:
    """Add rows of id and content, each to its day. Raises DatabaseAway, Malformed."""
    days = by_day(rows)
    if db.is_sqlite:
        for day, share in days.items():
            db.day_files.write(table.name, day, share)
        return
    with db.writing() as connection:
        write(connection, table, days)


def get(db: Database, table: Table, id: str) -> bytes | str | None:
    """Return what is kept under a message's id, None if nothing is. Raises Malformed for what is no id."""
    day = day_of(id)
    if db.is_sqlite:
        return db.day_files.read(table.name, day, id)
    content = table.columns.values()[2]
    with db.reading() as connection:
        query = select(content).where(table.c.day == day, table.c.message_id == id)
        kept: bytes | str | None = connection.execute(query).scalar_one_or_none()
    return kept


def drop_before(db: Database, table: Table, day: date) -> int:
    """Drop all days before `day` and return how many were dropped."""
    if db.is_sqlite:
        return db.day_files.drop_before(table.name, day)
    with db.reading() as connection:
        names = connection.exec_driver_sql(
            "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
            "WHERE inhparent = %s::regclass",
            (table.name,),
        ).scalars()
        expired = [name for name in names if name < _partition(table, day)]
    for name in expired:
        with db.writing() as connection:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")
    return len(expired)


def _partition(table: Table, day: date) -> str:
    return f"{table.name}_{day:%Y%m%d}"
