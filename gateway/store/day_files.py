"""What SQLite keeps by day: a database for each kind and day, dropped whole instead of row by row.

`DATA_DIR/KIND/2026-11-24.sqlite` has one table of ids and contents. It is written without SQLAlchemy: one
statement, many rows. A file that is damaged is set aside and a new one begun, since the mail must not wait for its
traces.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from threading import Lock

from gateway.store.away import DatabaseAway, is_damaged
from gateway.store.locking import WriteLock, sync_log
from gateway.store.statements import in_parts

BUSY_SECONDS = 5
KEPT_OPEN = 4  # files; today's of each kind, and yesterday's around midnight

CREATE = "CREATE TABLE IF NOT EXISTS kept (id TEXT NOT NULL PRIMARY KEY, content BLOB NOT NULL)"


def _insert(rows: int) -> str:
    return f"INSERT INTO kept (id, content) VALUES {', '.join(['(?, ?)'] * rows)} ON CONFLICT DO NOTHING"


class DayFiles:
    """The day files below one folder, as one process uses them. Safe to share between threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._mutex = Lock()
        self._open: dict[tuple[str, date], sqlite3.Connection] = {}
        self._locks: dict[str, WriteLock] = {}
        self._unsynced: set[Path] = set()

    def write(self, kind: str, day: date, rows: Sequence[tuple[str, bytes | str]]) -> None:
        """Add contents by id; what is there already is left as it is. Raises DatabaseAway."""
        with self._mutex:
            try:
                self._write(kind, day, rows)
            except sqlite3.DatabaseError as error:
                self._forget(kind, day)
                if not is_damaged(error):
                    raise DatabaseAway(f"{kind} of {day}: {error}") from error
                self._set_aside(kind, day)
                self._write(kind, day, rows)

    def _write(self, kind: str, day: date, rows: Sequence[tuple[str, bytes | str]]) -> None:
        try:
            lock = self._lock(kind)
            lock.acquire()
        except OSError as error:
            raise DatabaseAway(f"cannot lock: {error.strerror}") from error
        try:
            connection = self._connection(kind, day)
            connection.execute("BEGIN IMMEDIATE")
            try:
                for part in in_parts(rows, may_repeat=True):
                    connection.execute(_insert(len(part)), [value for row in part for value in row])
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
        finally:
            lock.release()
        self._unsynced.add(self._path(kind, day))

    def read(self, kind: str, day: date, id: str) -> bytes | str | None:
        """Return a content, None if it is not there or not any more. Raises DatabaseAway."""
        path = self._path(kind, day)
        if not path.exists():
            return None
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=BUSY_SECONDS)) as connection:
                row = connection.execute("SELECT content FROM kept WHERE id = ?", (id,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise DatabaseAway(f"{kind} of {day}: {error}") from error
        return None if row is None else row[0]

    def days(self, kind: str) -> list[date]:
        """Return the days of which there is a file, oldest first."""
        return sorted(day for day, _ in self._files(kind))

    def drop_before(self, kind: str, day: date) -> int:
        """Remove the files of the days before `day`, those set aside as well; return how many days are gone."""
        gone = set()
        with self._mutex:
            for found, path in self._files(kind, "*.sqlite*"):
                if found < day:
                    self._forget(kind, found)
                    path.unlink(missing_ok=True)
                    gone.add(found)
        return len(gone)

    def make_durable(self) -> None:
        """Return once all that was written here survives a loss of power. Raises DatabaseAway."""
        with self._mutex:
            for path in list(self._unsynced):
                if path.exists():
                    sync_log(path)
                self._unsynced.discard(path)

    def close(self) -> None:
        with self._mutex:
            for connection in self._open.values():
                connection.close()
            self._open.clear()
            for lock in self._locks.values():
                lock.close()

    def _connection(self, kind: str, day: date) -> sqlite3.Connection:
        connection = self._open.get((kind, day))
        if connection is None:
            if len(self._open) >= KEPT_OPEN:
                self._forget(*next(iter(self._open)))
            connection = self._open[kind, day] = _connect(self._path(kind, day))
        return connection

    def _forget(self, kind: str, day: date) -> None:
        connection = self._open.pop((kind, day), None)
        if connection is not None:
            connection.close()

    def _set_aside(self, kind: str, day: date) -> None:
        path = self._path(kind, day)
        # Its log would be taken for the new file's.
        for part in (Path(f"{path}-wal"), Path(f"{path}-shm")):
            part.unlink(missing_ok=True)
        path.replace(f"{path}.damaged")

    def _lock(self, kind: str) -> WriteLock:
        lock = self._locks.get(kind)
        if lock is None:
            (self._root / kind).mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self._locks[kind] = WriteLock(self._root / kind / "lock")
        return lock

    def _path(self, kind: str, day: date) -> Path:
        return self._root / kind / f"{day.isoformat()}.sqlite"

    def _files(self, kind: str, pattern: str = "*.sqlite") -> Iterable[tuple[date, Path]]:
        for path in (self._root / kind).glob(pattern):
            try:
                yield date.fromisoformat(path.name[:10]), path
            except ValueError:
                continue  # not ours


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        # Large rows: larger pages waste less. The log is moved into the file at 8 MB.
        connection.execute("PRAGMA page_size = 16384")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA temp_store = MEMORY")  # the journal of a statement of many rows
        connection.execute("PRAGMA wal_autocheckpoint = 512")
        # The spool brings back what a loss of power takes.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(CREATE)
    except BaseException:
        connection.close()
        raise
    return connection
