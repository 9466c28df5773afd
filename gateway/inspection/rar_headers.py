"""The headers of RAR 5 archives: which files are encrypted or go on in another volume, which libarchive does not tell.

By "RAR 5.0 archive format" (technote of the format's maker). Nothing is unpacked.
"""

from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"Rar!\x1a\x07\x01\0"
MAX_BLOCKS = 10_000

_FILE, _ENCRYPTION, _END = 2, 4, 5
_HAS_EXTRA, _HAS_DATA, _SPLIT = 0x1, 0x2, 0x8 | 0x10
_HAS_TIME, _HAS_CHECK = 0x2, 0x4


@dataclass(frozen=True, slots=True)
class RarFile:
    """A file's header; `is_split`: begins or ends in another volume."""

    name: str
    is_encrypted: bool
    is_split: bool


@dataclass(frozen=True, slots=True)
class RarHeaders:
    """What the headers of an archive show; with encrypted headers they show no files."""

    files: tuple[RarFile, ...]
    has_encrypted_headers: bool


def read_headers(data: bytes) -> RarHeaders:
    """Read the headers of an archive that begins with `SIGNATURE`. Stops at what cannot be read."""
    files: list[RarFile] = []
    for kind, flags, content, extra in _blocks(data):
        if kind == _ENCRYPTION:
            return RarHeaders(tuple(files), True)
        if kind == _FILE:
            is_encrypted = any(record == 1 for record in _records(extra))
            files.append(RarFile(_name(content), is_encrypted, bool(flags & _SPLIT)))
        if kind == _END:
            break
    return RarHeaders(tuple(files), False)


def _blocks(data: bytes) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Yield type, flags, fields of the type, extra area of each block."""
    place = len(SIGNATURE)
    for _ in range(MAX_BLOCKS):
        size, start = _number(data, place + 4)
        end = start + size
        if not size or end > len(data):
            return
        kind, at = _number(data, start)
        flags, at = _number(data, at)
        extra_size, at = _number(data, at) if flags & _HAS_EXTRA else (0, at)
        data_size, at = _number(data, at) if flags & _HAS_DATA else (0, at)
        yield kind, flags, data[at : max(at, end - extra_size)], data[max(at, end - extra_size) : end]
        place = end + data_size


def _number(data: bytes, place: int) -> tuple[int, int]:
    """Read a number of seven bits an octet, the lowest first, and return it with the place behind it; 0 at the end."""
    value = 0
    for shift, octet in enumerate(data[place : place + 10]):
        value |= (octet & 0x7F) << 7 * shift
        if octet < 0x80:
            return value, place + shift + 1
    return 0, len(data)


def _records(extra: bytes) -> Iterator[int]:
    """Yield the types of the records in an extra area."""
    place = 0
    while place < len(extra):
        size, start = _number(extra, place)
        if not size:
            return
        yield _number(extra, start)[0]
        place = start + size


def _name(content: bytes) -> str:
    flags, place = _number(content, 0)
    _, place = _number(content, place)  # unpacked size
    _, place = _number(content, place)  # attributes
    place += (4 if flags & _HAS_TIME else 0) + (4 if flags & _HAS_CHECK else 0)
    _, place = _number(content, place)  # compression
    _, place = _number(content, place)  # system
    size, place = _number(content, place)
    return content[place : place + size].decode("utf-8", "replace")
