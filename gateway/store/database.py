"""The connection to the database: SQLite embedded, or PostgreSQL for a cluster. Transactions, durability, and one error.

No table and no query is here. SQLAlchemy is used synchronously: callers on an event loop run the store in threads.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from gateway.store.locking import WriteLock

BUSY_SECONDS = 5  # How long a statement waits for somebody who writes without our lock, e.g. an operator's sqlite3.
CONNECT_SECONDS = 5
STATEMENT_SECONDS = 30
POOL_CONNECTIONS = 4
POOL_OVERFLOW = 12

# SQLite's primary result codes that speak of the database, not of the statement (https://sqlite.org/rescode.html):
# BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB.
AWAY_CODES = frozenset({5, 6, 7, 8, 10, 11, 13, 14, 15, 26})


class DatabaseAway(Exception):
    """The database cannot be used now: not there, locked, full, damaged. Worth another try later; the mail goes on."""


def is_away(error: BaseException) -> bool:
    """Tell trouble with the database itself from a mistake in a statement or in its data."""
    if isinstance(error, DatabaseAway | PoolTimeout):
        return True
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        if isinstance(error.orig, sqlite3.Error):
            code = getattr(error.orig, "sqlite_errorcode", None)
            return code is not None and code & 0xFF in AWAY_CODES
        return isinstance(error, OperationalError | InterfaceError)
    return False


@contextmanager
def away_as_one_error() -> Iterator[None]:
    """Turn every kind of absence into `DatabaseAway`; let mistakes pass as they are."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        if is_away(error):
            raise DatabaseAway(_told_shortly(error)) from error
        raise


def _told_shortly(error: DBAPIError | PoolTimeout) -> str:
    # Without the statement and its parameters, which hold names of people and subjects of mail.
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split())[:300] or type(cause).__name__


class Database:
    """One database as one process uses it: make it after the fork. Safe to share between threads."""

    def __init__(self, url: str, *, data_dir: Path) -> None:
        """`url` is SQLAlchemy's: `sqlite:////path/gatepost.sqlite` or `postgresql+psycopg://…`. Nothing is opened yet.

        `data_dir` takes the files that SQLite keeps apart, one for each day.
        """
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.data_dir = data_dir
        self._path = sqlite_path(parsed) if self.is_sqlite else None
        self._lock = WriteLock(lock_path(self._path)) if self._path else None
        self._engine = _sqlite_engine(parsed) if self._path else _postgresql_engine(parsed)

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

    def close(self) -> None:
        self._engine.dispose()
        if self._lock:
            self._lock.close()


def sync_log(path: Path) -> None:
    """Sync the write-ahead log beside the SQLite file `path`, and the folder. Raises DatabaseAway."""
    try:
        _fsync(f"{path}-wal", os.O_RDWR)
        _fsync(str(path.parent), os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise DatabaseAway(f"cannot sync: {error.strerror}") from error


def _fsync(path: str, flags: int) -> None:
    try:
        file = os.open(path, flags | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # The last one to close a database moves its log into it, synced, and removes the log.
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sqlite_path(url: URL) -> Path:
    """Return the database's file. Raises ValueError for a database in memory, which processes cannot share."""
    if not url.database or url.database == ":memory:":
        raise ValueError("SQLite needs a file: sqlite:////path/gatepost.sqlite")
    return Path(url.database)


def lock_path(path: Path) -> Path:
    """Return the file whose lock every writer of the SQLite database `path` holds."""
    return Path(f"{path}.lock")


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=POOL_CONNECTIONS,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=BUSY_SECONDS,
        # isolation_level None: the driver begins nothing by itself; `reading` and `writing` say BEGIN as they mean it.
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None, "check_same_thread": False},
    )
    event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        "cache_size = -8192",
        "temp_store = MEMORY",
    ):
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
