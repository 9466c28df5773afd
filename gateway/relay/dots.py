"""Dot-stuffing by pieces (RFC 5321 section 4.5.2): no loop over lines, and never a second copy of the whole message."""

from collections.abc import Iterator

from gateway.octets import find, replace
from gateway.spool import Pieces

SLICE = 256 * 1024  # octets handled, and copied at most, at once


def stuffed(pieces: Pieces) -> Iterator[bytes]:
    """Yield a message (CRLF line ends) as it goes over the wire but for the final dot; a missing last CRLF is added."""
    tail = b"\r\n"  # the two octets before what comes: a message begins at a line's beginning
    for piece in pieces:
        for start in range(0, len(piece), SLICE):
            chunk = bytes(piece[start : start + SLICE])
            yield _stuff(chunk, tail)
            tail = chunk[-2:] if len(chunk) > 1 else tail[-1:] + chunk
    if tail != b"\r\n":
        yield b"\r\n"


def slices(pieces: Pieces) -> Iterator[memoryview]:
    """Yield a message in which no line begins with a dot and which ends with a line end, without copying any of it."""
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), SLICE):
            yield view[start : start + SLICE]


def stuffed_whole(pieces: Pieces) -> bytes:
    """Return a small message as it goes over the wire, with its final dot."""
    wire = b"".join((*pieces, b".\r\n"))
    # Nearly always the only line with a dot in front is the one just added: nothing has to be copied again.
    if find(wire, b"\r\n.") == len(wire) - 5 >= 0 and wire[:1] != b".":
        return wire
    return b"".join((*stuffed(pieces), b".\r\n"))


def _stuff(chunk: bytes, tail: bytes) -> bytes:
    begins_line = chunk[:1] == b"." and tail == b"\r\n"
    ends_line_end = chunk[:2] == b"\n." and tail[-1:] == b"\r"
    chunk = replace(chunk, b"\r\n.", b"\r\n..")
    if begins_line:
        return b"." + chunk
    if ends_line_end:
        return b"\n." + chunk[1:]
    return chunk
