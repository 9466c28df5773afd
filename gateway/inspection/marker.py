"""Our own hop marker: how often a message passed through us, signed so that nobody else can raise or lower it.

It replaces the trace fields that outgoing mail loses: loops are still found when internal Received fields are not sent.
The value is `v1 COUNT MAC`. It holds nothing about the message, so that a list or a forwarder may change the rest.
"""

import hmac
from collections.abc import Iterable
from functools import lru_cache

NAME = "X-Gatepost-Hop"
MAC_DIGITS = 32  # 128 bits, as hexadecimal digits
MAX_COUNT = 999


@lru_cache(maxsize=64)
def sign(count: int, key: bytes) -> str:
    """Return the marker's value for a message that passed `count` times. `key` is the site's, never empty.

    The same for every message with that count, so it is remembered.
    """
    said = f"v1 {min(count, MAX_COUNT)}"
    return f"{said} {_mac(said, key)}"


def passes(values: Iterable[str], key: bytes) -> int:
    """Return the highest count among the markers that we signed; 0 without one, or without a key to tell by."""
    if not key:
        return 0
    counts = [0]
    for value in values:
        said, _, mac = value.rpartition(" ")
        if said.startswith("v1 ") and hmac.compare_digest(mac.encode("utf-8", "replace"), _mac(said, key).encode()):
            counts.append(int(said[3:]))
    return max(counts)


def _mac(said: str, key: bytes) -> str:
    return hmac.digest(key, b"gatepost hop " + said.encode("utf-8", "replace"), "sha256").hex()[:MAC_DIGITS]
