"""The octets of a message as they come in: after DATA up to the end mark, or in BDAT chunks of told size.

Works by chunk, never by line, and knows neither sockets nor replies. Memory is bounded by the limit given: what goes
beyond it is counted and dropped.
"""

import io
from typing import Final

# RFC 5321 section 4.1.1.4: the end of mail data is this and nothing else. Whoever also takes LF.LF or CR.CR can be
# smuggled to.
END_MARK: Final = b"\r\n.\r\n"
_LINE_START: Final = b"\r\n"
_OVERLAP: Final = len(END_MARK) - 1
# What is too big is read on so that the peer hears why; nobody is listened to for more than this.
DROP_BYTES: Final = 64 << 20

_SLICE: Final = 1 << 20  # octets that are looked at together


class DataReader:
    """Takes what follows DATA. `is_too_big`: the message is not kept. `is_endless`: it does not end, hang up."""

    __slots__ = ("_held", "_max_wire", "is_endless", "is_too_big", "raw", "received")

    def __init__(self, max_bytes: int) -> None:
        # Dots are stuffed on the wire: at worst every line is a dot, three octets that become four. The exact size is
        # known at the end.
        self._max_wire = max_bytes + max_bytes // 3 + len(END_MARK)
        self._held: bytearray | None = None
        self.raw = b""
        self.received = 0
        self.is_too_big = False
        self.is_endless = False

    def feed(self, data: bytes, at: int) -> int:
        """Take octets from `data[at:]`. Return where the message has ended in `data`, or -1 while more is to come.

        After the end `raw` is the message, dots unstuffed, every line with its end.
        """
        held = self._held
        if held is None:
            if at == len(data):
                return -1
            # The whole of a small message often comes at once, and then needs no copy but this slice.
            end = data.find(END_MARK, at)
            if end >= 0 and not data.startswith(b".\r\n", at):
                self.received = end + len(END_MARK) - at
                self._finish(data[at : end + len(_LINE_START)])
                return end + len(END_MARK)
            # The end mark may follow DATA at once: an empty message.
            held = self._held = bytearray(_LINE_START)
        before = len(held)
        held += data[at:] if at else data
        end = held.find(END_MARK, max(0, before - _OVERLAP))
        if end >= 0:
            used = end + len(END_MARK) - before
            self.received += used
            self._held = None
            if self.received > self._max_wire:
                self.is_too_big = True
            if not self.is_too_big:
                del held[end + len(_LINE_START) :]
                del held[: len(_LINE_START)]
                self._finish(bytes(held))
            return at + used
        self.received += len(data) - at
        if self.received > self._max_wire:
            self._drop(held)
        return -1

    def _finish(self, wire: bytes) -> None:
        # RFC 5321 section 4.5.2: a dot that begins a line and is not alone there is taken away.
        if wire.startswith(b"."):
            wire = wire[1:]
        self.raw = wire.replace(b"\r\n.", b"\r\n")

    def _drop(self, held: bytearray) -> None:
        self.is_too_big = True
        self.is_endless = self.received > self._max_wire + DROP_BYTES
        del held[:-_OVERLAP]


class ChunkReader:
    """Takes one BDAT chunk (RFC 3030): exactly `size` octets, appended to `into`, or dropped when that is None."""

    __slots__ = ("_into", "_left", "is_last", "size")

    def __init__(self, size: int, *, is_last: bool, into: bytearray | None) -> None:
        self.size = size
        self.is_last = is_last
        self._left = size
        self._into = into

    def feed(self, data: bytes, at: int) -> int:
        """Take octets from `data[at:]`. Return where the chunk has ended in `data`, or -1 while more is to come."""
        end = min(len(data), at + self._left)
        self._left -= end - at
        if self._into is not None:
            self._into += data[at:end]
        return -1 if self._left else end


def has_clean_line_ends(raw: bytes) -> bool:
    """Tell whether every CR and LF of `raw` is in a CRLF and there is no NUL."""
    if b"\0" in raw:
        return False
    # The standard library's universal newlines note which kinds of line end they met: one exact pass in C. (Leaving only
    # CR and LF by `translate` and comparing is no faster and takes CR.LF, apart, for a pair.)
    ends = io.IncrementalNewlineDecoder(None, translate=False)
    for at in range(0, len(raw), _SLICE):
        ends.decode(raw[at : at + _SLICE].decode("latin-1"))
    ends.decode("", final=True)
    return ends.newlines in (None, "\r\n")


def repair_line_ends(raw: bytes) -> bytes:
    """Return `raw` with each bare CR and bare LF as CRLF, and without NULs."""
    return raw.replace(b"\0", b"").replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def is_header_within(raw: bytes, max_bytes: int) -> bool:
    """Tell whether the header of `raw`, without the empty line after it, has at most `max_bytes` octets."""
    return len(raw) <= max_bytes or raw.startswith(_LINE_START) or raw.find(b"\r\n\r\n", 0, max_bytes + 2) >= 0
