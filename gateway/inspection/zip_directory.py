"""The files of a ZIP archive as every reader may see them: by the central directory, and by the local headers.

Readers differ: most believe the last end record and the directory that it names, some the first file's header on. What
either reading shows is an entry here; where they disagree, that is said. Nothing is unpacked.

Sections are those of PKWARE's APPNOTE.TXT 6.3.10.
"""

import binascii
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

LOCAL = b"PK\x03\x04"
CENTRAL = b"PK\x01\x02"
END = b"PK\x05\x06"
END64 = b"PK\x06\x06"
DESCRIPTOR = b"PK\x07\x08"

MAX_ENTRIES = 4096  # read of one archive; more are not looked at and said to be too many
MAX_TRIES = 4 * MAX_ENTRIES  # places that look like a local header
MAX_ENDS = 8  # end records that are tried
END_REACH = 65557  # octets from the end in which readers look for the end record: 22 and a comment of 65535 (4.3.16)

ENCRYPTED = 0x1
STREAMED = 0x8  # sizes follow the data (4.4.4)
STRONG = 0x40
UTF8 = 0x800
MASKED = 0x2000  # the directory is encrypted, local headers hold nothing of worth

_UNKNOWN = 0xFFFFFFFF
_METHODS = frozenset({*range(11), 12, 14, 16, 18, 19, 20, *range(93, 100)})  # 4.4.5
_LOCAL_FIELDS = struct.Struct("<4xHHHHHIIIHH")
_CENTRAL_FIELDS = struct.Struct("<4xHHHHHHIIIHHHHHII")
_END_FIELDS = struct.Struct("<4xHHHHIIH")


@dataclass(slots=True)
class Entry:
    """One file in one reading. Places are octets from the begin of the whole file."""

    names: tuple[str, ...]  # every plausible decoding, the likeliest first
    flags: int
    method: int
    check: int  # CRC-32
    packed: int
    size: int
    header: int  # of the local header
    start: int  # of the data
    time: int = 0
    extra: bytes = b""

    @property
    def end(self) -> int:
        return self.start + self.packed

    @property
    def reading(self) -> tuple[int, int, int, int]:
        """What decides what a reader would unpack."""
        return self.start, self.packed, self.method, self.flags & ENCRYPTED


@dataclass(slots=True)
class Directory:
    """All entries of all readings; by which of `look.PROBLEMS` the archive is odd."""

    entries: list[Entry] = field(default_factory=list)
    problems: dict[str, None] = field(default_factory=dict)

    def note(self, problem: str) -> None:
        self.problems[problem] = None


@dataclass(slots=True, frozen=True)
class End:
    """An end record, and where the directory lies that it names, what stands before the archive allowed for."""

    place: int
    count: int
    directory: int
    shift: int  # octets before the archive, that offsets in the directory do not count
    end: int


def read_directory(data: bytes) -> Directory:
    """Return every entry that some reader may show. Never raises; an archive that shows none has a problem."""
    found = Directory()
    ends = find_ends(data)
    central = _central_entries(data, ends[0], found) if ends else []
    local = _local_entries(data, central, found)
    for end in ends[1:]:
        if not any(entry.start <= end.place < entry.end for entry in local):
            found.note("conflicting_directory")
            central += _central_entries(data, end, found)
    _merge(found, central, local, has_directory=bool(ends))
    _note_overlap(found, central)
    _note_surroundings(data, found, ends)
    return found


def find_ends(data: bytes) -> list[End]:
    """Return the end records near the end of the file that name a directory, the last first."""
    found: list[End] = []
    place = len(data)
    for _ in range(MAX_ENDS):
        place = data.rfind(END, max(0, len(data) - END_REACH), place)
        if place < 0:
            break
        end = _read_end(data, place)
        if end:
            found.append(end)
    return found


def _read_end(data: bytes, place: int) -> End | None:
    if place + _END_FIELDS.size > len(data):
        return None
    _, _, _, count, size, offset, comment = _END_FIELDS.unpack_from(data, place)
    limit = place
    if _UNKNOWN in (size, offset) or count == 0xFFFF:
        count, size, offset, limit = _read_end64(data, place) or (count, size, offset, limit)
    finish = place + _END_FIELDS.size + comment
    # The directory ends where the end record begins; what it lies off is what was put before the archive.
    for directory in (limit - size, offset):
        if count == 0 or (directory >= 0 and data.startswith(CENTRAL, directory)):
            return End(place, count, directory, max(0, directory - offset), finish)
    return None


def _read_end64(data: bytes, place: int) -> tuple[int, int, int, int] | None:
    """Read the zip64 end record, through its locator or right before that (4.3.14, 4.3.15)."""
    if not data.startswith(b"PK\x06\x07", place - 20) or place < 20:
        return None
    (named,) = struct.unpack_from("<Q", data, place - 12)
    for record in (named, place - 76):
        if 0 <= record <= len(data) - 56 and data.startswith(END64, record):
            count, size, offset = struct.unpack_from("<QQQ", data, record + 32)
            return count, size, offset, record
    return None


def _central_entries(data: bytes, end: End, found: Directory) -> list[Entry]:
    entries: list[Entry] = []
    place = end.directory
    if end.count > MAX_ENTRIES:
        found.note("too_many_files")
    while data.startswith(CENTRAL, place) and len(entries) < MAX_ENTRIES:
        if place + _CENTRAL_FIELDS.size > len(data):
            found.note("truncated")
            break
        entry, place = _central_entry(data, place, end.shift)
        if entry:
            entries.append(entry)
        else:
            found.note("damaged")
    if len(entries) < min(end.count, MAX_ENTRIES):
        found.note("damaged")
    elif len(entries) > end.count and end.count < 0xFFFF:
        found.note("conflicting_directory")  # some readers stop at the count, some at the last header
    return entries


def _central_entry(data: bytes, place: int, shift: int) -> tuple[Entry | None, int]:
    _, _, flags, method, time, _, check, packed, size, *rest = _CENTRAL_FIELDS.unpack_from(data, place)
    name_size, extra_size, comment_size, _, _, _, offset = rest
    name_at = place + _CENTRAL_FIELDS.size
    extra_at = name_at + name_size
    extra = data[extra_at : extra_at + extra_size]
    size, packed, offset = _zip64(extra, size, packed, offset)
    header = offset + shift
    names = _names(data[name_at:extra_at], flags, extra)
    after = extra_at + extra_size + comment_size
    start = _data_place(data, header)
    if start is None:
        return None, after
    return Entry(names, flags, method, check, packed, size, header, start, time, extra), after


def _data_place(data: bytes, header: int) -> int | None:
    """Return where the data of the local header begins. None: there is no local header."""
    if header + _LOCAL_FIELDS.size > len(data) or not data.startswith(LOCAL, header):
        return None
    name_size, extra_size = struct.unpack_from("<HH", data, header + 26)
    return header + _LOCAL_FIELDS.size + int(name_size) + int(extra_size)


def _local_entries(data: bytes, central: list[Entry], found: Directory) -> list[Entry]:
    """Return the entries as a reader sees them that goes from one local header to the next."""
    known = {entry.header: entry for entry in central}
    entries: list[Entry] = []
    place = data.find(LOCAL)
    for _ in range(MAX_TRIES):
        if place < 0:
            return entries
        if len(entries) >= MAX_ENTRIES:
            break
        entry = _local_entry(data, place, known.get(place))
        if entry:
            entries.append(entry)
        place = data.find(LOCAL, max(entry.end, place + 4) if entry else place + 4)
    found.note("too_many_files")
    return entries


def _local_entry(data: bytes, place: int, known: Entry | None) -> Entry | None:
    if place + _LOCAL_FIELDS.size > len(data):
        return None
    version, flags, method, time, _, check, packed, size, name_size, extra_size = _LOCAL_FIELDS.unpack_from(data, place)
    if known is None and ((version & 0xFF) > 99 or method not in _METHODS or not name_size):
        return None  # four octets that happen to stand in some data
    name_at = place + _LOCAL_FIELDS.size
    extra_at = name_at + name_size
    start = extra_at + extra_size
    extra = data[extra_at:start]
    size, packed, _ = _zip64(extra, size, packed, 0)
    names = _names(data[name_at:extra_at], flags, extra)
    entry = Entry(names, flags, method, check, packed, size, place, start, time, extra)
    if flags & STREAMED and not packed:
        _take_streamed_size(data, entry, known)
    return entry


def _take_streamed_size(data: bytes, entry: Entry, known: Entry | None) -> None:
    """Sizes that follow the data: the directory's if something of a ZIP archive stands behind them, else up to that."""
    if known and _is_boundary(data, known.end):
        entry.packed, entry.size, entry.check = known.packed, known.size, known.check
        return
    end = len(data)
    for mark in (LOCAL, DESCRIPTOR, CENTRAL):
        # Each search ends where the one before found something: what all entries cost together is linear.
        place = data.find(mark, entry.start, end)
        end = place if place >= 0 else end
    entry.packed = max(0, end - entry.start)
    entry.check = 0


def _is_boundary(data: bytes, place: int) -> bool:
    """Tell whether a data descriptor or the next header stands at a place (4.3.9: its signature may be missing)."""
    marks = (LOCAL, CENTRAL, b"PK\x06\x08")
    if data.startswith(DESCRIPTOR, place) or data.startswith(marks, place):
        return True
    return data.startswith(marks, place + 12) or data.startswith(marks, place + 20)


def _zip64(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Take sizes and the offset that do not fit from the extra field 0x0001, in this order (4.5.3)."""
    if _UNKNOWN not in (size, packed, offset):
        return size, packed, offset
    values = [size, packed, offset]
    for kind, content in extra_fields(extra):
        if kind == 1:
            wide = [int.from_bytes(content[at : at + 8], "little") for at in range(0, len(content) - 7, 8)]
            for index, value in enumerate(values):
                if value == _UNKNOWN and wide:
                    values[index] = wide.pop(0)
    return values[0], values[1], values[2]


def extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of each extra field (4.5.1)."""
    place = 0
    while place + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, place)
        yield kind, extra[place + 4 : place + 4 + size]
        place += 4 + size


def _names(raw: bytes, flags: int, extra: bytes) -> tuple[str, ...]:
    """Return the name in all its readings: UTF-8 by flag or extra field 0x7075 (4.6.9), else CP437 (Appendix D)."""
    if raw.isascii() and b"up" not in extra:
        return (raw.decode(),)
    found: dict[str, None] = {}
    for kind, content in extra_fields(extra):
        if kind == 0x7075 and len(content) > 5:
            name = content[5:].decode("utf-8", "replace")
            # Readers that check the name's CRC fall back to the other name, others do not.
            if int.from_bytes(content[1:5], "little") == binascii.crc32(raw):
                found = {name: None, **found}
            else:
                found[name] = None
    try:
        found[raw.decode("utf-8")] = None
    except UnicodeDecodeError:
        if flags & UTF8:
            found[raw.decode("utf-8", "replace")] = None
    if not flags & UTF8:
        found[raw.decode("cp437")] = None
    return tuple(found)


def _merge(found: Directory, central: list[Entry], local: list[Entry], *, has_directory: bool) -> None:
    """Join the readings of each file; note where one shows what another does not."""
    by_header: dict[int, list[Entry]] = {}
    for entry in central:
        _add_reading(found, by_header, entry)
    if not has_directory:
        found.note("damaged" if local else "truncated")
    covered = {entry.header for entry in central}
    for entry in local:
        if has_directory and entry.header not in covered:
            found.note("conflicting_directory")
        _add_reading(found, by_header, entry)


def _add_reading(found: Directory, by_header: dict[int, list[Entry]], entry: Entry) -> None:
    readings = by_header.setdefault(entry.header, [])
    for other in readings:
        if other.reading == entry.reading:
            if set(other.names).isdisjoint(entry.names) and not entry.flags & MASKED:
                found.note("mismatched_name")
            other.names = tuple(dict.fromkeys([*other.names, *entry.names]))
            return
    if readings:
        found.note("conflicting_directory")
    readings.append(entry)
    found.entries.append(entry)


def _note_overlap(found: Directory, central: list[Entry]) -> None:
    """Entries that share data: how a small archive unpacks to much without any other oddity."""
    reached = -1
    for entry in sorted(central, key=lambda entry: entry.header):
        if entry.header < reached:
            found.note("conflicting_directory")
            return
        reached = max(reached, entry.end)


def _note_surroundings(data: bytes, found: Directory, ends: list[End]) -> None:
    if found.entries and min(entry.header for entry in found.entries) > 0 and not data.startswith(b"PK00PK"):
        found.note("prepended_data")
    if ends and ends[0].end > len(data):
        found.note("truncated")
    elif ends and ends[0].end < len(data):
        found.note("appended_data")
