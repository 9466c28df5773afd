"""The messages on which a child of the box has died within a day, remembered by all workers of a host together."""

import hashlib
import mmap
import struct

SLOTS = 1024
KEEP_SECONDS = 24 * 3600.0
SLOT = struct.Struct("<16sd")  # the beginning of the message's SHA-256, the time in seconds


class CrashTable:
    """A table in shared memory: make it before the workers are forked. It outlives each of them.

    A later message with the same slot displaces the earlier one. Slots are written without a lock: one that is torn
    matches no message, so the worst outcome is a crash that is not remembered.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SLOTS * SLOT.size)

    def note(self, raw: bytes, now: float) -> bool:
        """Remember a crash on this message; True when there was one within the last day. `now` is in seconds."""
        key = hashlib.sha256(raw).digest()[:16]
        place = int.from_bytes(key[:4], "little") % SLOTS * SLOT.size
        known, at = SLOT.unpack_from(self._memory, place)
        SLOT.pack_into(self._memory, place, key, now)
        return bool(known == key and now - at < KEEP_SECONDS)
