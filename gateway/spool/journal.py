"""What was delivered but is not in the database yet, beside the segments: so that a killed process repeats no delivery.

Results are appended without a flush: the kernel keeps them when the process dies. After a power cut a delivery may be
repeated, which at-least-once allows; the mail itself is in the segments, which are flushed.
"""

import contextlib
import errno
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from struct import Struct as Packed

import msgspec

from gateway.accepted import Settled
from gateway.octets import crc32

PREFIX = "results-"
ROLL_BYTES = 256 * 1024
_HEAD = Packed("<II")  # length and CRC-32 of the MessagePack list that follows
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Settled]).decode


class Journal:
    """The results of one owner. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: Counter[int] = Counter()  # results in each file that the database does not know yet
        self._pending: list[Settled] = []
        self._number = 0
        self._fd = -1
        self._size = 0

    @property
    def has_pending(self) -> bool:
        """Whether there is something to `flush`."""
        return bool(self._pending)

    def note(self, results: Sequence[Settled]) -> int:
        """Take results; return the number of the file that they are in after the next `flush`."""
        if self._fd < 0 or self._size > ROLL_BYTES:
            self.flush()
            self._roll()
        self._pending.extend(results)
        self._open[self._number] += len(results)
        return self._number

    def flush(self) -> None:
        """Append what was taken, in one system call; raise OSError when it cannot be written."""
        if self._pending:
            packed = _encode(self._pending)
            self._pending.clear()
            entry = _HEAD.pack(len(packed), crc32(packed)) + packed
            written = os.write(self._fd, entry)
            if written < len(entry):
                # The disk is full. Half an entry would hide all later ones of this file.
                os.ftruncate(self._fd, self._size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._size += written

    def forget(self, number: int, count: int) -> None:
        """Learn that `count` results of file `number` are in the database; remove the file after the last of them."""
        self._open[number] -= count
        if self._open[number] <= 0 and number != self._number:
            del self._open[number]
            (self._folder / f"{PREFIX}{number:08d}").unlink(missing_ok=True)

    def close(self) -> None:
        """End in good order: remove what the database knows."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                self.flush()
            os.close(self._fd)
            self._fd = -1
        for number, count in list(self._open.items()):
            if count <= 0:
                (self._folder / f"{PREFIX}{number:08d}").unlink(missing_ok=True)

    def _roll(self) -> None:
        before = self._number
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1  # before anything can fail: the number will be another file's soon
        self._number += 1
        path = self._folder / f"{PREFIX}{self._number:08d}"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = 0
        self.forget(before, 0)


def read_results(folder: Path) -> list[Settled]:
    """Return the results that a dead owner left, oldest first; a torn or damaged tail of a file is passed over."""
    results: list[Settled] = []
    for path in sorted(folder.glob(f"{PREFIX}*")):
        raw = path.read_bytes()
        at = 0
        while at + _HEAD.size <= len(raw):
            length, check = _HEAD.unpack_from(raw, at)
            packed = raw[at + _HEAD.size : at + _HEAD.size + length]
            if len(packed) != length or crc32(packed) != check:
                break
            try:
                results.extend(_decode(packed))
            except msgspec.DecodeError:
                break
            at += _HEAD.size + length
    return results


def remove_results(folder: Path) -> None:
    """Remove a dead owner's results once they are in the database."""
    for path in folder.glob(f"{PREFIX}*"):
        path.unlink(missing_ok=True)
