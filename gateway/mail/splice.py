"""Change a message without copying it: the received bytes with ranges left out, replaced, and something put in front.

Signatures depend on every octet that was not meant to change, so nothing is parsed or written anew here.
"""

from collections.abc import Sequence

from gateway.mail.errors import Malformed

Pieces = tuple[bytes | memoryview, ...]


def splice(
    raw: bytes,
    *,
    prepend: bytes = b"",
    remove: Sequence[tuple[int, int]] = (),
    replace: Sequence[tuple[int, int, bytes]] = (),
) -> Pieces:
    """Return the changed message as pieces in order: views into `raw` and the new bytes between them.

    `remove` and `replace` are ranges of octets `[start, end)` in any order; an empty range in `replace` inserts.
    Ranges that overlap or lie outside of `raw` raise Malformed. There is no empty piece.
    """
    if not remove and not replace:
        return (prepend, raw) if prepend else (raw,)
    changes = sorted([*((start, end, b"") for start, end in remove), *replace], key=_place)
    view = memoryview(raw)
    pieces: list[bytes | memoryview] = [prepend]
    at = 0
    for start, end, new in changes:
        if not at <= start <= end <= len(raw):
            raise Malformed("ranges overlap or lie outside of the message")
        pieces += (view[at:start], new)
        at = end
    pieces.append(view[at:])
    return tuple([piece for piece in pieces if piece])


def _place(change: tuple[int, int, bytes]) -> tuple[int, int]:
    return change[0], change[1]
