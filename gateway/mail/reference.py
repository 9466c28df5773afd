"""Message ids (ULID: 26 characters of Crockford's base32, ordered by time), and the reference that people read out.

The reference is the last eight characters of the id, 40 random bits: it names a message to people, it proves nothing
and is not quite unique, so a look-up by reference may find two.
"""

import os
import re
from functools import lru_cache

from gateway.mail.errors import Malformed

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base32: no I, L, O, U
MAX_MILLISECONDS = (1 << 48) - 1

_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]  # ten bits at a time
_READ_AS = str.maketrans("OIL", "011", "- ")
_REFERENCE = re.compile(f"[{ALPHABET}]{{8}}")


@lru_cache(maxsize=16)
def _time_part(now_ms: int) -> str:
    if not 0 <= now_ms <= MAX_MILLISECONDS:
        raise ValueError("the time is outside of the years 1970 to 10889")
    return "".join(_PAIRS[now_ms >> shift & 1023] for shift in (40, 30, 20, 10, 0))


CHANCE_BYTES = 10
_POOL_BYTES = 4000
_pool: list[bytes] = []


def _chance() -> bytes:
    """Return ten octets of the system's chance: asked for by the block, since each question is a system call."""
    if not _pool:
        block = os.urandom(_POOL_BYTES)
        _pool.extend([block[at : at + CHANCE_BYTES] for at in range(0, _POOL_BYTES, CHANCE_BYTES)])
    return _pool.pop()


# A child must not hand out what its parent hands out too.
os.register_at_fork(after_in_child=_pool.clear)


def new_id(now_ms: int) -> str:
    """Return a new id for the time `now_ms` (milliseconds since 1970): ten characters of time, sixteen of chance."""
    chance = int.from_bytes(_chance(), "big")
    pairs = _PAIRS
    return (
        _time_part(now_ms)
        + pairs[chance >> 70]
        + pairs[chance >> 60 & 1023]
        + pairs[chance >> 50 & 1023]
        + pairs[chance >> 40 & 1023]
        + pairs[chance >> 30 & 1023]
        + pairs[chance >> 20 & 1023]
        + pairs[chance >> 10 & 1023]
        + pairs[chance & 1023]
    )


def reference(id: str) -> str:
    """Return the reference of a message id as people see it, e.g. `7KQ2-M9PX`."""
    return f"{id[-8:-4]}-{id[-4:]}"


def parse_reference(text: str) -> str:
    """Read a reference as people type it and return its eight characters, upper case, without the hyphen.

    Case, hyphens and blanks do not matter; O is read as 0, I and L as 1 (Crockford). Raises Malformed for anything
    else.
    """
    if (
        len(text) > 100
        or not text.isascii()
        or not _REFERENCE.fullmatch(found := text.strip().upper().translate(_READ_AS))
    ):
        raise Malformed("a reference has eight letters and digits, like 7KQ2-M9PX")
    return found
