"""The format of a record in a segment, and how one is read and checked.

A segment is a bare sequence of records. A record is a header of 32 octets (little endian), the head, and the message:

    octets  what
    4       magic with the format's version
    8       marker of the folder: random, so that no message can hold what recovery would take for a record
    4       length of the head: MessagePack of `Accepted`, a map by names
    8       length of the message
    4       CRC-32 of head and message
    4       CRC-32 of the 28 octets before

The header has its own check sum, so that a damaged length is never believed.
"""

import errno
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.accepted import Accepted, Location
from gateway.mail.errors import Malformed, NotFound
from gateway.octets import crc32

Pieces = Sequence[bytes | memoryview]

MAGIC = b"GPR1"
MARKER_SIZE = 8
_FIELDS = struct.Struct("<4s8sIQI")
_CHECK = struct.Struct("<I")
HEADER_SIZE = _FIELDS.size + _CHECK.size
FIRST_READ = 32 * 1024  # header, head and the message of most mail in one system call
CHUNK = 1024 * 1024  # a message is checked in pieces of this size, so that memory stays bounded
PAGE = 4096  # what a disk fails to read is given up in pieces of this size
# The CRC lets go of the interpreter for more octets than QUIET, and must win it back afterwards: that takes up to 5 ms
# while the event loop is busy, for each message of a batch. Up to LOUD (0.04 ms of work) it is kept instead.
QUIET = 5 * 1024
LOUD = 256 * 1024

encode_head = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Accepted).decode


class Frame(Struct, frozen=True):
    """What a header says about its record. `check` is the CRC-32 of head and message."""

    marker: bytes
    head_size: int
    body_size: int
    check: int

    @property
    def length(self) -> int:
        return HEADER_SIZE + self.head_size + self.body_size


def check_of(pieces: Pieces) -> int:
    """Return the CRC-32 of the pieces one after the other."""
    check = 0
    for piece in pieces:
        if QUIET < len(piece) <= LOUD:
            view = memoryview(piece)
            for at in range(0, len(view), QUIET):
                check = crc32(view[at : at + QUIET], check)
        else:
            check = crc32(piece, check)
    return check


def write_header(marker: bytes, head_size: int, body_size: int, check: int) -> bytes:
    """Return the 32 octets that open a record."""
    fields = _FIELDS.pack(MAGIC, marker, head_size, body_size, check)
    return fields + _CHECK.pack(crc32(fields))


def read_header(raw: bytes) -> Frame | None:
    """Return what the header at the start of `raw` says; None when no intact header stands there."""
    if len(raw) < HEADER_SIZE or not raw.startswith(MAGIC):
        return None
    if crc32(raw[: _FIELDS.size]) != _CHECK.unpack_from(raw, _FIELDS.size)[0]:
        return None
    _, marker, head_size, body_size, check = _FIELDS.unpack_from(raw)
    return Frame(marker, head_size, body_size, check)


def decode_head(raw: bytes | memoryview) -> Accepted:
    """Return the head. Raises Malformed when it is not one that this release can read."""
    try:
        return _decode_head(raw)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Malformed(f"the head of the record cannot be read: {error}") from error


def read(root: Path, location: Location) -> tuple[Accepted, bytes]:
    """Return head and message of a record, whoever wrote it. The message is read without a second copy of it in memory.

    Raises NotFound when its segment is gone, Malformed when it is damaged, OSError when the system cannot open it now.
    """
    with _Opened(root, location) as opened:
        frame, first = opened.frame, opened.first
        start = HEADER_SIZE + frame.head_size
        if len(first) == frame.length:
            head, body = first[HEADER_SIZE:start], first[start:]
        else:
            head = opened.octets(HEADER_SIZE, frame.head_size)
            body = opened.octets(start, frame.body_size)
        opened.require(crc32(body, crc32(head)))
    return decode_head(head), body


def read_range(root: Path, location: Location, start: int, end: int) -> bytes:
    """Return octets `start` to `end` of the message. Checks the whole record, in bounded memory; raises like `read`."""
    with _Opened(root, location) as opened:
        kept: list[bytes] = []
        check = crc32(opened.octets(HEADER_SIZE, opened.frame.head_size))
        at = 0
        for chunk in opened.body_chunks():
            check = crc32(chunk, check)
            kept.append(chunk[max(0, start - at) : max(0, end - at)])
            at += len(chunk)
        opened.require(check)
    return b"".join(kept)


def read_raw(root: Path, location: Location) -> tuple[Frame, bytes]:
    """Return what follows the header, checked, to be copied elsewhere. Raises like `read`."""
    with _Opened(root, location) as opened:
        raw = opened.octets(HEADER_SIZE, opened.frame.length - HEADER_SIZE)
        opened.require(crc32(raw))
    return opened.frame, raw


class _Opened:
    """One record of a segment, opened for reading. Its header is intact and agrees with the location."""

    def __init__(self, root: Path, location: Location) -> None:
        self._location = location
        try:
            self._fd = os.open(root / location.segment, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound(f"no segment {location.segment}") from error
        try:
            self.first = self.octets(0, min(location.length, FIRST_READ))
            self.frame = self._checked_frame()
        except BaseException:
            os.close(self._fd)
            raise

    def _checked_frame(self) -> Frame:
        frame = read_header(self.first)
        if frame is None or frame.length != self._location.length:
            raise Malformed(f"no record of {self._location.length} octets at {self._where(0)}")
        return frame

    def __enter__(self) -> "_Opened":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def octets(self, start: int, size: int) -> bytes:
        """Return `size` octets from `start` on, counted from the start of the record."""
        try:
            octets = os.pread(self._fd, size, self._location.offset + start)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise Malformed(f"the disk cannot read {self._where(start)}") from error
        if len(octets) != size:
            raise Malformed(f"the segment ends within the record at {self._where(start)}")
        return octets

    def require(self, check: int) -> None:
        if check != self.frame.check:
            raise Malformed(f"the record at {self._where(0)} is damaged")

    def body_chunks(self) -> Iterator[bytes]:
        at = HEADER_SIZE + self.frame.head_size
        while at < self.frame.length:
            yield self.octets(at, min(CHUNK, self.frame.length - at))
            at += CHUNK

    def _where(self, start: int) -> str:
        return f"{self._location.segment}:{self._location.offset + start}"


def read_around(fd: int, size: int, offset: int) -> bytes:
    """Read `size` octets, with zeros in place of the pages that the disk cannot read any more."""
    try:
        return os.pread(fd, size, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    pages = []
    for at in range(offset, offset + size, PAGE):
        wanted = min(PAGE, offset + size - at)
        try:
            pages.append(os.pread(fd, wanted, at))
        except OSError:
            pages.append(bytes(wanted))
    return b"".join(pages)
