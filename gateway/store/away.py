"""One error for a database that cannot be used now, whatever the driver calls it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# SQLite's primary result codes that speak of the database, not of the statement (https://sqlite.org/rescode.html):
# BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB.
AWAY_CODES = frozenset({5, 6, 7, 8, 10, 11, 13, 14, 15, 26})


# CORRUPT, NOTADB
DAMAGED_CODES = frozenset({11, 26})


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


def is_damaged(error: sqlite3.DatabaseError) -> bool:
    """Tell a file that cannot be read as a database from one that is busy or away."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in DAMAGED_CODES
