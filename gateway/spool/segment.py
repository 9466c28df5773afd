"""One segment while it is being written: append a batch, make it durable, or leave no trace of it."""

import contextlib
import errno
import os
from collections.abc import Callable

from gateway.spool.errors import SpoolFailed, SpoolFull
from gateway.spool.folder import SUFFIX, Folder

IOV_MAX = os.sysconf("SC_IOV_MAX")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# A batch of so much is not kept in memory by the system either: its first delivery is made from ours, and what the next
# batch is written into then are pages that were in use just now (a third of the cost of a message of 5 MB).
LARGE_BATCH = 1 << 20
# For files whose length changes it includes the length, which is all of the inode that reading needs.
sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class Segment:
    """A file that only grows. All octets before `size` are durable; nothing is behind them between two batches.

    After a failure that says more about the file or the disk than "full", `is_abandoned` is set: what was written
    before stays and is still needed, and nothing more is written here.
    """

    def __init__(self, folder: Folder, number: int, sync: Callable[[int], None]) -> None:
        """Create the file and make its name durable, before anything in it can be answered for."""
        self.name = f"{folder.owner}/{number:08d}{SUFFIX}"
        self.size = 0
        self.is_abandoned = False
        self._path = folder.root / self.name
        self._sync = sync
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise failure(error) from error
        try:
            folder.sync()
        except OSError as error:
            self.close()
            raise failure(error) from error

    def append(self, buffers: list[bytes | memoryview], length: int) -> None:
        """Write `buffers`, `length` octets in all and none of them empty, and make them durable.

        Raises SpoolFull and SpoolFailed; then `size` is unchanged and the file was cut back to it.
        """
        try:
            written = write_all(self._fd, buffers, self.size)
            if written != length:
                raise ValueError(f"{length} octets were announced, {written} came")
        except OSError as error:
            self._cut_back()
            # A full disk may have room again for the same file. Anything else (EIO, EFBIG) may come again.
            self.is_abandoned = self.is_abandoned or error.errno not in NO_ROOM
            raise failure(error) from error
        except BaseException:
            self._cut_back()
            raise
        try:
            self._sync(self._fd)
        except BaseException as error:
            # Linux reports a lost page once and then forgets it: a second fdatasync would succeed and mean nothing.
            self.is_abandoned = True
            self._cut_back()
            if isinstance(error, OSError):
                raise failure(error) from error
            raise
        if length >= LARGE_BATCH:
            self._forget(length)
        self.size += length

    def close(self) -> None:
        """Close the file; remove it if nothing durable is in it."""
        # What matters was synced before; an error of close says nothing about it.
        with contextlib.suppress(OSError):
            os.close(self._fd)
        if self.size == 0:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _forget(self, length: int) -> None:
        with contextlib.suppress(OSError):  # advice: some file systems take none
            os.posix_fadvise(self._fd, self.size, length, os.POSIX_FADV_DONTNEED)

    def _cut_back(self) -> None:
        """Take back what nobody was promised, so that recovery does not find it."""
        try:
            os.ftruncate(self._fd, self.size)
        except OSError:
            self.is_abandoned = True


def failure(error: OSError) -> SpoolFull | SpoolFailed:
    """Return the spool's word for what the system said."""
    return SpoolFull(str(error)) if error.errno in NO_ROOM else SpoolFailed(str(error))


def write_all(fd: int, buffers: list[bytes | memoryview], offset: int) -> int:
    """Write all octets of `buffers` from `offset` on, however many calls it takes, and return their number."""
    start = offset
    at = 0
    while at < len(buffers):
        written = os.pwritev(fd, buffers[at : at + IOV_MAX], offset)
        if written == 0:
            raise OSError(errno.EIO, "the system wrote nothing and gave no reason")
        offset += written
        while at < len(buffers) and written >= len(buffers[at]):
            written -= len(buffers[at])
            at += 1
        if written:  # cut within a buffer; a view, since it may be large
            buffers[at] = memoryview(buffers[at])[written:]
    return offset - start
