"""One writer at a time on SQLite, over all processes and threads of this host, in the order of asking.

SQLite's own busy handler sleeps and tries again, so that a writer who asks rarely may starve beside one who writes
in a loop.
"""

import fcntl
import os
import threading
from pathlib import Path

from gateway.store.away import DatabaseAway


class WriteLock:
    """Two locked files: who wants to write waits at the gate, and lets the gate go once he holds the turn.

    With one lock a process that writes slice after slice takes it back before the woken waiter has run. With the
    gate it has to queue behind the one who waits there. The kernel frees both when a process dies.
    """

    def __init__(self, path: Path) -> None:
        """`path` is the turn's file; the gate's is beside it, with `-gate` at its end. Both are made if missing."""
        self._paths = (Path(f"{path}-gate"), path)
        self._files: tuple[int, int] | None = None
        self._opened_by = 0
        # flock belongs to the open file, which all threads share: among themselves they need locks of their own.
        self._gate = threading.Lock()
        self._turn = threading.Lock()

    def acquire(self) -> None:
        """Wait for the turn, however long its holder takes. Raises OSError when the files cannot be made."""
        with self._gate:
            gate, turn = self._open()
            fcntl.flock(gate, fcntl.LOCK_EX)
            try:
                self._turn.acquire()
                try:
                    fcntl.flock(turn, fcntl.LOCK_EX)
                except BaseException:
                    self._turn.release()
                    raise
            finally:
                fcntl.flock(gate, fcntl.LOCK_UN)

    def release(self) -> None:
        if self._files is not None:
            fcntl.flock(self._files[1], fcntl.LOCK_UN)
        self._turn.release()

    def _open(self) -> tuple[int, int]:
        # After a fork the child must open the files itself: a lock on an inherited descriptor is the parent's lock,
        # too.
        if self._files is None or self._opened_by != os.getpid():
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._files = (os.open(self._paths[0], flags, 0o600), os.open(self._paths[1], flags, 0o600))
            self._opened_by = os.getpid()
        return self._files

    def close(self) -> None:
        if self._files is not None and self._opened_by == os.getpid():
            for file in self._files:
                os.close(file)
        self._files = None


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
