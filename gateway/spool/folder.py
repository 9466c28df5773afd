"""The folder of one process in the spool, and the lock that says whether its owner lives.

The lock is an flock on a file in the folder, held for life: the kernel lets go of it when the process dies, however it
dies, so no process id, clock or time-out is believed. Whoever gets the lock of a folder owns its segments and leases.
A folder appears under its name with the lock already held; names that start with a dot are folders in the making.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import socket
import weakref
from pathlib import Path

from gateway.durable import sync_folder
from gateway.mail.errors import Conflict
from gateway.octets import crc32
from gateway.spool.record import MARKER_SIZE

LOCK = "lock"
SUFFIX = ".seg"
MAKING = ".new-"
MAX_HOST = 48  # characters; the whole name stays well below the 255 octets of a file name
MAX_ROLE = 24
CREATE_TRIES = 5


def new_owner(role: str) -> str:
    """Return a name nobody has had: `HOST-ROLE-BOOT-PID-RANDOM`. Only `HOST` is looked at again."""
    boot = _clean(_boot_id().replace("-", ""), 8)
    return f"{our_host()}-{_clean(role, MAX_ROLE)}-{boot}-{os.getpid()}-{secrets.token_hex(2)}"


def our_host() -> str:
    return _clean(socket.gethostname(), MAX_HOST)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:  # not Linux; the name is unique without it
        return "0"


def _clean(text: str, limit: int) -> str:
    """Keep what is harmless in a file name. Roles lose their hyphens, since a name is read back from its end."""
    return re.sub(r"[^a-z0-9.]+", "_", text.lower())[:limit].strip("._") or "x"


class Folder:
    """A folder whose lock we hold. `marker` is None when it cannot be read from the lock file any more."""

    def __init__(self, root: Path, owner: str, lock_fd: int, marker: bytes | None) -> None:
        self.root = root
        self.owner = owner
        self.path = root / owner
        self.marker = marker
        self.is_ours = False
        self._lock_fd = lock_fd
        self._folder_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.is_ours = True
        _held.add(self)

    def segments(self) -> list[str]:
        """Return the names of the segments that are there, `OWNER/NUMBER.seg`, oldest first."""
        names = sorted(name for name in os.listdir(self.path) if name.endswith(SUFFIX))
        return [f"{self.owner}/{name}" for name in names]

    def sync(self) -> None:
        """Make the names in the folder durable."""
        os.fsync(self._folder_fd)

    def remove(self) -> bool:
        """Remove the folder and let go of it when nothing is left in it; otherwise say False and keep it."""
        if self.path.is_dir() and any(name != LOCK for name in os.listdir(self.path)):
            return False
        (self.path / LOCK).unlink(missing_ok=True)
        # Somebody may take the folder in this instant; then it is his to remove.
        with contextlib.suppress(OSError):
            self.path.rmdir()
        self.release()
        return True

    def __del__(self) -> None:
        # Who adopted it may have come to grief before he kept it anywhere; the next one shall have it then.
        self.release()

    def release(self) -> None:
        """Let go of the folder: from now on anybody may adopt it."""
        if self.is_ours:
            self.is_ours = False
            _held.discard(self)
            os.close(self._folder_fd)
            os.close(self._lock_fd)


_held: weakref.WeakSet[Folder] = weakref.WeakSet()


def _let_go_in_child() -> None:
    """A forked child shares the lock with its parent and would keep the folder alive after the parent's death."""
    for folder in list(_held):
        folder.release()


os.register_at_fork(after_in_child=_let_go_in_child)


def create(root: Path, owner: str) -> Folder:
    """Make the folder of a new owner, durable and locked. Raises Conflict when the name is taken, OSError."""
    _make_root(root)
    for _ in range(CREATE_TRIES):
        making = root / f"{MAKING}{owner}-{secrets.token_hex(4)}"
        marker = secrets.token_bytes(MARKER_SIZE)
        lock_fd = _make_locked(making, marker)
        if lock_fd is None:
            continue
        try:
            os.rename(making, root / owner)
        except FileNotFoundError:  # swept away in the instant before we had the lock
            os.close(lock_fd)
            continue
        except OSError as error:
            os.close(lock_fd)
            shutil.rmtree(making, ignore_errors=True)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise Conflict(f"the spool has a folder {owner} already") from error
            raise
        sync_folder(root)
        return Folder(root, owner, lock_fd, marker)
    raise Conflict(f"the folder {owner} was swept away {CREATE_TRIES} times")


def _make_root(root: Path) -> None:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Also when it was there: another process may have made it a moment ago.
    with contextlib.suppress(PermissionError):
        sync_folder(root.parent)


def _make_locked(making: Path, marker: bytes) -> int | None:
    """Make a folder with a locked lock file, all of it durable. None: somebody swept it away."""
    making.mkdir(mode=0o700)
    lock_fd = -1
    try:
        lock_fd = os.open(making / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(lock_fd, _write_lock(marker))
        os.fsync(lock_fd)
        sync_folder(making)
    except (FileNotFoundError, BlockingIOError):
        if lock_fd >= 0:
            os.close(lock_fd)
        return None
    except BaseException:
        if lock_fd >= 0:
            os.close(lock_fd)
        shutil.rmtree(making, ignore_errors=True)
        raise
    return lock_fd


def is_here(root: Path, owner: str) -> bool:
    """Say whether an owner has its folder in this spool: it lives there, or the folder is to be adopted."""
    return (root / owner / LOCK).exists() or _has_mail(root / owner)


def _has_mail(folder: Path) -> bool:
    return any(folder.glob(f"*{SUFFIX}"))


def take(root: Path, owner: str) -> Folder | None:
    """Take the folder of a dead owner. None: its owner lives, or somebody else was quicker."""
    lock = root / owner / LOCK
    # A lock file that somebody removed is made again where there is mail. Other folders without one are none of ours.
    make = os.O_CREAT if _has_mail(root / owner) else 0
    try:
        fd = os.open(lock, os.O_RDWR | make | os.O_CLOEXEC, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between our open and our lock the last holder may have removed the file: then this lock protects nothing.
        if os.path.samestat(os.fstat(fd), os.stat(lock)):
            return Folder(root, owner, fd, _read_lock(os.pread(fd, 256, 0)))
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def sweep(root: Path) -> None:
    """Remove the folders in the making whose makers died."""
    for making in root.glob(f"{MAKING}*"):
        try:
            fd = os.open(making / LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            # No lock file yet. A maker who is between two calls sees that the folder is gone and makes another.
            with contextlib.suppress(OSError):
                making.rmdir()
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(making, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(fd)


def _write_lock(marker: bytes) -> bytes:
    return b"gatepost-spool-1 %s %08x\n" % (marker.hex().encode(), crc32(marker))


def _read_lock(raw: bytes) -> bytes | None:
    words = raw.split()
    try:
        marker = bytes.fromhex(words[1].decode())
        intact = len(marker) == MARKER_SIZE and int(words[2], 16) == crc32(marker)
    except (IndexError, ValueError):
        return None
    return marker if intact else None
