"""Message-IDs of the mail that leaves, as the segments of all owners of this spool have them, living and dead.

A record lies in a segment until the database knows it durably. So a Message-ID that is not here, and afterwards not in
the database either, is of no message that was taken on this host before the question. Only heads are read, each once;
nothing is changed and no lock is asked for. Other hosts have spools of their own.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.mail.envelope import Direction
from gateway.spool.folder import SUFFIX
from gateway.spool.record import HEADER_SIZE, read_around, read_header
from gateway.spool.recovery import DAMAGED
from gateway.verdict import Unknown

MAX_RECORDS = 50_000  # read for one question, which takes 0.3 s; the next question reads on
MAX_IDS = 200_000  # in memory, some 30 MB
FIRST_READ = 4096  # octets; header and head of most records
NOWHERE = -1


class _Head(Struct):
    """What is read of an `Accepted`."""

    direction: Direction
    held: str = ""
    message_id: str = ""
    sent_message_id: str = ""


_decode = msgspec.msgpack.Decoder(_Head).decode


class _Segment:
    """What was read of one segment: its first `end` octets."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.end = 0
        self.marker = b""
        self.damaged_at_size = NOWHERE  # the segment's size when no record stood at `end`


class SentIds:
    """Used by one thread at a time. Holds what it has read, as long as the segments are there."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._segments: dict[str, _Segment] = {}

    def find(self, message_ids: Iterable[str]) -> set[str] | Unknown:
        """Return which of the Message-IDs (in angle brackets) stand in the spool; Unknown when that cannot be told."""
        try:
            why = self._read_on()
        except OSError as error:
            why = f"spool cannot be read: {error.strerror}"
        asked = {name.strip() for name in message_ids}
        found = {name for segment in self._segments.values() for name in segment.ids & asked}
        return Unknown(why) if why and not found else found

    def _read_on(self) -> str:
        """Read what is new; return why something was left out, "" when nothing was."""
        sizes = dict(_sizes(self._root))
        self._segments = {name: segment for name, segment in self._segments.items() if name in sizes}
        limit = max(0, min(MAX_RECORDS, MAX_IDS - sum(len(segment.ids) for segment in self._segments.values())))
        why = ""
        for name, size in sizes.items():
            segment = self._segments.get(name)
            # A batch that failed is cut off again, and another may stand in its place: then all is read anew.
            if segment is None or size < segment.end or segment.damaged_at_size not in (NOWHERE, size):
                segment = self._segments[name] = _Segment()
            if segment.end < size and segment.damaged_at_size == NOWHERE:
                limit -= _read(self._root / name, segment, size, limit)
            if segment.damaged_at_size != NOWHERE:
                why = why or "spool is damaged"
            elif limit == 0 and segment.end < size:
                why = "spool is not read to its end yet"
        return why


def _sizes(root: Path) -> Iterator[tuple[str, int]]:
    """Yield the segments of all owners with their sizes. What goes meanwhile is in the database."""
    for owner in _names(root):
        if owner == DAMAGED or owner.startswith("."):
            continue
        for name in _names(root / owner):
            if name.endswith(SUFFIX):
                with contextlib.suppress(FileNotFoundError):
                    yield f"{owner}/{name}", os.stat(root / owner / name).st_size


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(path: Path, segment: _Segment, size: int, limit: int) -> int:
    """Read on from the segment's `end`, at most `limit` records; return how many it were."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        count = 0
        while count < limit and segment.end < size and _read_record(fd, segment, size):
            count += 1
        return count
    finally:
        os.close(fd)


def _read_record(fd: int, segment: _Segment, size: int) -> bool:
    """Read the head of the record at `end`; return False when there is none, or not all of it yet."""
    first = read_around(fd, min(FIRST_READ, size - segment.end), segment.end)
    frame = read_header(first)
    if len(first) < HEADER_SIZE or (frame and segment.end + frame.length > size):
        return False  # It is being written, or its writer died: nobody was promised anything about it.
    segment.marker = segment.marker or (frame.marker if frame else b"")
    if frame is None or frame.marker != segment.marker:
        segment.damaged_at_size = size
        return False
    rest = HEADER_SIZE + frame.head_size - len(first)
    if rest > 0:
        first += read_around(fd, rest, segment.end + len(first))
    try:
        head = _decode(memoryview(first)[HEADER_SIZE : HEADER_SIZE + frame.head_size])
    except (msgspec.MsgspecError, ValueError):
        segment.damaged_at_size = size
        return False
    if head.direction is Direction.OUTBOUND and not head.held:
        segment.ids.update(name.strip() for name in (head.message_id, head.sent_message_id) if name)
    segment.end += frame.length
    return True
