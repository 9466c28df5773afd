"""The connection to the database, SQLite or PostgreSQL: transactions, durability, and one error.

No table and no query is here. SQLAlchemy is used synchronously: callers on an event loop run the store in threads.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from gateway.store.away import DatabaseAway, away_as_one_error, is_away
from gateway.store.day_files import DayFiles
from gateway.store.locking import WriteLock, sync_log

__all__ = ["Database", "DatabaseAway", "is_away"]

BUSY_SECONDS = 5  # How long a statement waits for somebody who writes without our lock, e.g. an operator's sqlite3.
CONNECT_SECONDS = 5
STATEMENT_SECONDS = 30
POOL_CONNECTIONS = 4
POOL_OVERFLOW = 12

PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "foreign_keys = ON",
    "cache_size = -8192",  # KiB
    "temp_store = MEMORY",
    # Checkpoints are made by `Database`, mostly while others write; an automatic one would hold them all up.
    "wal_autocheckpoint = 0",
    "journal_size_limit = 0",  # The log's size then says how much of it is in use.
)
CHECKPOINT_BYTES = 4 * 1024 * 1024  # of the write-ahead log, looked at by who imports
LATE_CHECKPOINT_BYTES = 4 * CHECKPOINT_BYTES  # looked at by everybody who writes


class Database:
    """One database as one process uses it: make it after the fork. Safe to share between threads."""

    def __init__(self, url: str, *, data_dir: Path, creates: bool = True) -> None:
        """`url` is SQLAlchemy's: `sqlite:////path/gatepost.sqlite` or `postgresql+psycopg://…`. Nothing is opened yet.

        `data_dir` takes the files that SQLite keeps apart, one for each day. Without `creates` a SQLite file that is
        not there is a database that is away; whoever takes mail must not begin an empty one in its place.
        """
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.data_dir = data_dir
        self._path = sqlite_path(parsed) if self.is_sqlite else None
        self._lock = WriteLock(lock_path(self._path)) if self._path else None
        self.day_files = DayFiles(data_dir)
        self._engine = _sqlite_engine(parsed, self._path, creates=creates) if self._path else _postgresql_engine(parsed)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a transaction that is rolled back at the end. On SQLite it sees one state throughout."""
        with away_as_one_error(), self._engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[Connection]:
        """A connection in a transaction that is committed at the end, rolled back when the block raises.

        On SQLite all writers of this host go one after the other: keep it under 50 ms. Without `durable` the last
        commits may be lost with the power, which is for rows that the spool can bring back; PostgreSQL is always
        durable.
        """
        with away_as_one_error(), self._turn(), self._engine.connect() as connection:
            if self.is_sqlite:
                _set_synchronous(connection, "FULL" if durable else "NORMAL")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
        if self._path and _size_of_log(self._path) > (LATE_CHECKPOINT_BYTES if durable else CHECKPOINT_BYTES):
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Move the log into the database: most while others write, then alone what they wrote meanwhile.

        Only when everything was moved does the next writer begin the log anew.
        """
        with away_as_one_error(), self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").all()
            with self._turn():
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").all()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._lock is None:
            yield
            return
        try:
            self._lock.acquire()
        except OSError as error:
            raise DatabaseAway(f"cannot lock: {error.strerror}") from error
        try:
            yield
        finally:
            self._lock.release()

    def make_durable(self) -> None:
        """Return once all commits so far survive a loss of power. Does nothing on PostgreSQL, where they do already.

        A commit of SQLite with synchronous=NORMAL stands in the write-ahead log, but may be in the system's cache
        only; a checkpoint syncs the log and then the database before the log is used again. So whatever is not in
        the database yet is in the log, and to sync the log is enough (and its folder: the log may be new). The log
        is opened by itself, never the database: closing that would drop the locks that SQLite holds on it for this
        process (POSIX).
        """
        if self._path:
            sync_log(self._path)
            self.day_files.make_durable()

    def close(self) -> None:
        self._engine.dispose()
        self.day_files.close()
        if self._lock:
            self._lock.close()


def sqlite_path(url: URL) -> Path:
    """Return the database's file. Raises ValueError for a database in memory, which processes cannot share."""
    if not url.database or url.database == ":memory:":
        raise ValueError("SQLite needs a file: sqlite:////path/gatepost.sqlite")
    return Path(url.database)


def lock_path(path: Path) -> Path:
    """Return the file whose lock every writer of the SQLite database `path` holds."""
    return Path(f"{path}.lock")


def _size_of_log(path: Path) -> int:
    try:
        return os.stat(f"{path}-wal").st_size
    except FileNotFoundError:
        return 0


class _SameFile:
    """Sees to it that a connection is to the file that stands at the path now.

    A file that was moved away, or put there from a backup, would not be noticed by connections to the one before: they
    go on reading it, and what they write is lost.
    """

    def __init__(self, path: Path, *, creates: bool) -> None:
        self._path = path
        self._creates = creates

    def open(self, _dialect: Any, _entry: Any, arguments: list[Any], options: dict[str, Any]) -> None:
        if not self._creates:
            arguments[0] = f"{self._path.absolute().as_uri()}?mode=rw"
            options["uri"] = True

    def note(self, _connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
        self._creates = False
        entry.info["file"] = self._identity()

    def check(self, _connection: sqlite3.Connection, entry: ConnectionPoolEntry, _proxy: object) -> None:
        if self._identity() != entry.info["file"]:
            raise DisconnectionError("another file has its place")

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _sqlite_engine(url: URL, path: Path, *, creates: bool) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=POOL_CONNECTIONS,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=BUSY_SECONDS,
        # isolation_level None: the driver begins nothing by itself; `reading` and `writing` say BEGIN as they mean it.
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None, "check_same_thread": False},
    )
    file = _SameFile(path, creates=creates)
    event.listen(engine, "do_connect", file.open)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "connect", file.note)
    event.listen(engine, "checkout", file.check)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    entry.info["synchronous"] = "NORMAL"


def _set_synchronous(connection: Connection, level: str) -> None:
    # Outside of the transaction: inside, SQLite refuses to change it.
    info: dict[Any, Any] = connection.info
    if info.get("synchronous") != level:
        connection.exec_driver_sql(f"PRAGMA synchronous = {level}")
        info["synchronous"] = level


def _postgresql_engine(url: URL) -> Engine:
    return create_engine(
        url,
        pool_size=POOL_CONNECTIONS,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "options": f"-c statement_timeout={STATEMENT_SECONDS * 1000} -c timezone=UTC",
        },
    )
