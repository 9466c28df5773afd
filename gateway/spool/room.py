"""How much room the spool's file system has, asked rarely enough to cost nothing."""

import os
import time
from pathlib import Path

ASK_SECONDS = 1.0  # other processes write to the same disk: an answer grows old this fast
MIN_FREE_INODES = 16  # a new segment needs one; a file system without free ones is as full as one without octets


class Room:
    """Free octets on the file system of `path`.

    `min_free` octets stay free of new mail. `reserve` of these may be used by what makes room again or must be told:
    settling, copies of what waits, notifications. Several threads use it without a lock: an update that is lost by that
    is made good when the file system is asked again.
    """

    def __init__(self, path: Path, *, min_free: int, reserve: int) -> None:
        self._path = path
        self._min_free = min_free
        self._reserve_floor = max(0, min_free - reserve)
        self._free = 0
        self._asked_at = float("-inf")

    def allows(self, size: int, *, reserve: bool = False) -> bool:
        """Say whether `size` octets more leave enough free. A file system that cannot be asked has no room."""
        if time.monotonic() - self._asked_at > ASK_SECONDS:
            self._ask()
        return self._free - size >= (self._reserve_floor if reserve else self._min_free)

    def spend(self, size: int) -> None:
        """Note that `size` octets were written (negative: freed) since the file system was asked."""
        self._free -= size

    def forget(self) -> None:
        """Ask again at the next question: a write failed for want of room, or much was removed."""
        self._asked_at = float("-inf")

    def _ask(self) -> None:
        try:
            status = os.statvfs(self._path)
        except OSError:
            self._free = -1
        else:
            # Some file systems count no inodes at all and say 0 of 0.
            has_inodes = status.f_files == 0 or status.f_favail >= MIN_FREE_INODES
            self._free = status.f_bavail * status.f_frsize if has_inodes else -1
        self._asked_at = time.monotonic()
