"""Taking over what dead processes left: their folders, and every record in them whose octets are intact.

Nothing is changed in a segment. A torn tail is passed over: its record was cut short before anybody was told of it. Any
other damage is reported and copied aside to `damaged/` in the spool's root, before the segment can be removed.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from msgspec import Struct

from gateway import log
from gateway.accepted import Accepted, Location
from gateway.durable import sync_folder
from gateway.mail.errors import Malformed, NotAllowed
from gateway.octets import crc32
from gateway.spool.folder import Folder, sweep, take
from gateway.spool.record import (
    CHUNK,
    FIRST_READ,
    HEADER_SIZE,
    MAGIC,
    Frame,
    decode_head,
    read_around,
    read_header,
)

DAMAGED = "damaged"


class Damage(Struct, frozen=True):
    """Octets of a segment that are no intact record. `is_torn`: nobody was promised anything about them."""

    segment: str
    offset: int
    length: int
    is_torn: bool
    why: str


def adopt(root: Path) -> list["Adopted"]:
    """Take the folders of all dead owners of this spool. Those of the living, our own among them, are left alone.

    Whoever adopts has the dead owner's segments and its leases, and nobody else gets them until `done` or `release`.
    """
    if not root.is_dir():
        return []
    sweep(root)
    owners = sorted(entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))
    folders = (take(root, owner) for owner in owners if owner != DAMAGED and not owner.startswith("."))
    return [Adopted(folder) for folder in folders if folder]


class Adopted:
    """The folder of a dead owner, ours until `done` or `release`. If we die before, the next adopter begins anew."""

    def __init__(self, folder: Folder) -> None:
        self.owner = folder.owner
        self.damaged: list[Damage] = []
        self._folder = folder
        self._scanned: set[str] = set()
        self._not_aside: dict[str, list[Damage]] = {}

    def __enter__(self) -> "Adopted":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def segments(self) -> list[str]:
        """Return the segments that are there, oldest first."""
        return self._folder.segments()

    def records(self) -> Iterator[tuple[Location, Accepted]]:
        """Yield every intact record of every segment, in the order of writing. The rest is noted in `damaged`."""
        for segment in self.segments():
            yield from self._records_of(segment)
            self._scanned.add(segment)

    def unlink(self, segment: str) -> None:
        """Remove a segment. The caller knows that nothing in it is needed, and knows it durably.

        Raises NotAllowed for one that was not read to its end, OSError when damaged octets cannot be copied aside.
        """
        if segment not in self._scanned:
            raise NotAllowed(f"{segment} was not read to its end yet")
        while self._not_aside.get(segment):
            _copy_aside(self._folder.root, self._not_aside[segment][0])
            self._not_aside[segment].pop(0)
        (self._folder.root / segment).unlink(missing_ok=True)

    def done(self) -> bool:
        """Remove the folder when nothing is left in it; otherwise say False and keep it."""
        return self._folder.remove()

    def release(self) -> None:
        """Let go of the folder with what is in it: the next may adopt it."""
        self._folder.release()

    def _records_of(self, segment: str) -> Iterator[tuple[Location, Accepted]]:
        self.damaged = [damage for damage in self.damaged if damage.segment != segment]
        self._not_aside.pop(segment, None)
        fd = os.open(self._folder.root / segment, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for found in scan(fd, segment, self._folder.marker):
                if isinstance(found, Damage):
                    self._note(found)
                else:
                    yield found
        finally:
            os.close(fd)

    def _note(self, damage: Damage) -> None:
        self.damaged.append(damage)
        if damage.is_torn:
            return
        try:
            _copy_aside(self._folder.root, damage)
        except OSError as error:
            # They are still in the segment, which is not removed before they are aside.
            log.error("spool.failed", error=f"damaged octets are not copied aside yet: {error}", segment=damage.segment)
            self._not_aside.setdefault(damage.segment, []).append(damage)


def scan(fd: int, segment: str, marker: bytes | None) -> Iterator[tuple[Location, Accepted] | Damage]:
    """Yield what stands in an open segment, in order: intact records, and the stretches between them that are none.

    `marker` is the folder's; None when it is lost, then the one of the segment's first record counts.
    """
    size = os.fstat(fd).st_size
    if marker is None:
        first = read_header(read_around(fd, HEADER_SIZE, 0))
        marker = first.marker if first else None
    offset = 0
    while offset < size:
        frame = _intact(fd, offset, size, marker)
        if frame is None:
            end = _next_intact(fd, offset + 1, size, marker)
            yield _damage(fd, segment, offset, end, size, marker)
            offset = end
            continue
        try:
            accepted = decode_head(read_around(fd, frame.head_size, offset + HEADER_SIZE))
            yield Location(segment, offset, frame.length), accepted
        except Malformed as error:
            yield Damage(segment, offset, frame.length, False, str(error))
        offset += frame.length


def _intact(fd: int, offset: int, size: int, marker: bytes | None) -> Frame | None:
    """Return the frame of the record at `offset` when all of its octets are as they were written."""
    first = read_around(fd, min(FIRST_READ, size - offset), offset)
    frame = read_header(first)
    if frame is None or frame.marker != marker or offset + frame.length > size:
        return None
    check = crc32(memoryview(first)[HEADER_SIZE : frame.length])
    for chunk in _chunks(fd, offset + len(first), frame.length - len(first)):
        check = crc32(chunk, check)
    return frame if check == frame.check else None


def _next_intact(fd: int, start: int, size: int, marker: bytes | None) -> int:
    """Return the offset of the first intact record from `start` on, or `size`.

    Within a damaged message, too: its length may be wrong for what is left of it, and no sender knows the marker.
    """
    if marker is None:
        return size
    wanted = MAGIC + marker
    while start < size:
        chunk = read_around(fd, min(CHUNK, size - start), start)
        at = chunk.find(wanted)
        while at >= 0:
            if _intact(fd, start + at, size, marker):
                return start + at
            at = chunk.find(wanted, at + 1)
        # The wanted octets may lie across the end of this chunk.
        start += max(1, len(chunk) - len(wanted) + 1)
    return size


def _damage(fd: int, segment: str, offset: int, end: int, size: int, marker: bytes | None) -> Damage:
    """Tell a torn tail from damage. When in doubt it is damage: that costs a copy, the other would cost mail."""
    length = end - offset
    if end < size:
        return Damage(segment, offset, length, False, "what was written here has changed")
    head = read_around(fd, min(HEADER_SIZE, length), offset)
    frame = read_header(head)
    if len(head) < HEADER_SIZE or (frame and frame.marker == marker and offset + frame.length > size):
        return Damage(segment, offset, length, True, "the segment ends within a record")
    if all(not chunk.strip(b"\0") for chunk in _chunks(fd, offset, length)):
        return Damage(segment, offset, length, True, "the length of the segment was on disk before its octets")
    return Damage(segment, offset, length, False, "the last record has changed, or was never whole")


def _chunks(fd: int, offset: int, length: int) -> Iterator[bytes]:
    for at in range(0, length, CHUNK):
        yield read_around(fd, min(CHUNK, length - at), offset + at)


def _copy_aside(root: Path, damage: Damage) -> None:
    """Copy damaged octets to `damaged/OWNER-NUMBER-OFFSET`, durably. Doing it again changes nothing."""
    folder = root / DAMAGED
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"{damage.segment.replace('/', '-')}-{damage.offset}"
    unfinished = folder / f".{name}-{os.getpid()}"
    try:
        with open(root / damage.segment, "rb") as segment, open(unfinished, "wb") as copy:
            copy.writelines(_chunks(segment.fileno(), damage.offset, damage.length))
            copy.flush()
            os.fsync(copy.fileno())
        os.rename(unfinished, folder / name)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    sync_folder(folder)
    sync_folder(root)
