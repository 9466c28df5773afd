"""The octets of a message as they come in: after DATA up to the end mark, or in BDAT chunks of told size.

Works by chunk, never by line, and knows neither sockets nor replies. Memory is bounded by the limit given: what goes
beyond it is counted and dropped.
"""

import io
from typing import Final

from gateway.octets import find, replace

# RFC 5321 section 4.1.1.4: the end of mail data is this and nothing else. Whoever also takes LF.LF or CR.CR can be
# smuggled to.
END_MARK: Final = b"\r\n.\r\n"
_LINE_END: Final = b"\r\n"
_LINE_WITH_DOT: Final = b"\r\n."
_OVERLAP: Final = len(END_MARK) - 1
_DOT: Final = ord(".")
# What is too big is read on so that the peer hears why; nobody is listened to for more than this.
DROP_BYTES: Final = 64 << 20

_SLICE: Final = 1 << 20  # octets that are looked at together


class DataReader:
    """Takes what follows DATA. `is_too_big`: the message is not kept. `is_endless`: it does not end, hang up."""

    __slots__ = (
        "_from",
        "_has_dots",
        "_held",
        "_max_plain",
        "_max_wire",
        "is_endless",
        "is_too_big",
        "raw",
        "received",
    )

    def __init__(self, max_bytes: int) -> None:
        # Dots are stuffed on the wire: at worst every line is a dot, three octets that become four. The exact size is
        # known at the end. Without such a line every octet counts, but for what may be the begin of the end mark.
        self._max_plain = max_bytes + len(END_MARK)
        self._max_wire = self._max_plain + max_bytes // 3
        self._held: bytearray | None = None
        self._from = 0  # where in `_held` the search goes on
        self._has_dots = False  # a line was seen that begins with a dot and is not the end
        self.raw = b""
        self.received = 0
        self.is_too_big = False
        self.is_endless = False

    @property
    def has_dots(self) -> bool:
        """Whether a line of `raw` may begin with a dot; False saves looking for one when it is sent on."""
        return self._has_dots

    def feed(self, data: bytes, at: int) -> int:
        """Take octets from `data[at:]`. Return where the message has ended in `data`, or -1 while more is to come.

        After the end `raw` is the message, dots unstuffed, every line with its end.
        """
        held = self._held
        if held is None:
            if at == len(data):
                return -1
            # The whole of a small message often comes at once, and then needs no copy but this slice.
            if data.endswith(END_MARK) and data[at] != _DOT:
                end = find(data, _LINE_WITH_DOT, at)
                if end == len(data) - len(END_MARK):
                    self.received = len(data) - at
                    self.raw = data[at : end + len(_LINE_END)]
                    return len(data)
            # A line begins here: the end mark may follow DATA at once.
            held = self._held = bytearray(_LINE_END)
        before = len(held)
        held += data[at:] if at else data
        end = self._find_end(held)
        if end < 0:
            self.received += len(data) - at
            if self.received > (self._max_wire if self._has_dots else self._max_plain) or self.is_too_big:
                self._drop(held)
            return -1
        used = end + len(END_MARK) - before
        self.received += used
        self._held = None
        if self.received > self._max_wire:
            self.is_too_big = True
        if not self.is_too_big:
            self._finish(held, end)
        return at + used

    def _find_end(self, held: bytearray) -> int:
        """Look for the end mark, and for other dots at the begin of a line on the way: most messages have none."""
        if not self._has_dots:
            dot = find(held, _LINE_WITH_DOT, self._from)
            if dot < 0:
                self._from = len(held) - len(_LINE_END)
                return -1
            if held.startswith(_LINE_END, dot + len(_LINE_WITH_DOT)):
                return dot
            if dot + len(END_MARK) > len(held):
                self._from = dot  # what follows the dot is yet to come
                return -1
            self._has_dots = True
            self._from = dot
        end = find(held, END_MARK, self._from)
        if end < 0:
            self._from = max(self._from, len(held) - _OVERLAP)
        return end

    def _finish(self, held: bytearray, end: int) -> None:
        wire = bytes(memoryview(held)[len(_LINE_END) : end + len(_LINE_END)])
        if self._has_dots:
            # RFC 5321 section 4.5.2: a dot that begins a line and is not alone there is taken away.
            wire = replace(wire.removeprefix(b"."), _LINE_WITH_DOT, _LINE_END)
        self.raw = wire

    def _drop(self, held: bytearray) -> None:
        self.is_too_big = self._has_dots = True
        self.is_endless = self.received > self._max_wire + DROP_BYTES
        del held[:-_OVERLAP]
        self._from = 0


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
    # The standard library's universal newlines note which kinds of line end they met: one exact pass in C. (Counting
    # CRLF, CR and LF with vector instructions is no faster on ordinary mail, and far slower where they are dense.)
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
    return len(raw) <= max_bytes or raw.startswith(_LINE_END) or raw.find(b"\r\n\r\n", 0, max_bytes + 2) >= 0
