"""tar archives: old, ustar, GNU and pax.

By POSIX.1-2017, pax, "ustar Interchange Format", and the GNU tar manual, "Basic Tar Format".
"""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.inspection.file_names import is_odd_member
from gateway.inspection.look import Look
from gateway.inspection.signatures import is_tar

OPENS = ("application/x-tar",)

BLOCK = 512
MAX_NAME = 64 * 1024  # octets of a long name or a pax header that are read

_LONG_NAMES = b"LK"
_SKIPPED = b"123456V"  # links, devices, folders, a label
_EMPTY = bytes(BLOCK)


@dataclass(slots=True)
class Header:
    """One block that says what follows. `name` is that of the block alone."""

    name: bytes
    kind: bytes
    size: int
    is_sparse: bool
    goes_on: bool  # the map of a sparse file goes on in further blocks


@dataclass(slots=True)
class Extension:
    """What headers before it say of the next file: its name and its size, or that it is sparse."""

    name: bytes = b""
    size: int | None = None
    is_sparse: bool = False


def open_file(look: Look) -> None:
    data = look.data
    place, extension = 0, Extension()
    while place + BLOCK <= len(data):
        look.check_time()
        block = data[place : place + BLOCK]
        if block == _EMPTY:
            following = _after_zeros(data, place)
            if following is None:
                return _note_rest(look, place)
            place = following
            continue
        header = read_header(block)
        if header is None:
            return look.note_problem("damaged")
        start = place + BLOCK
        while header.goes_on and start + BLOCK <= len(data):
            header.goes_on = data[start + 504] > 0
            start += BLOCK
        size = header.size if extension.size is None or header.kind in b"LKxgX" else extension.size
        place = start + -(-size // BLOCK) * BLOCK
        if header.kind in _LONG_NAMES or header.kind in b"xgX":
            _extend(extension, header, data[start : start + min(size, MAX_NAME)])
            continue
        _open_entry(look, header, extension, data[start : start + size], size)
        extension = Extension()
    if place > len(data) or len(data) % BLOCK:
        look.note_problem("truncated")
    return None


def read_header(block: bytes) -> Header | None:
    """Read a header block. None: its sum is wrong, it is none."""
    size = _number(block[124:136])
    if not is_tar(block) or size is None:
        return None
    name, prefix = block[:100].split(b"\0", 1)[0], block[345:500].split(b"\0", 1)[0]
    # Only POSIX has the prefix; GNU keeps times and sparse maps there.
    if prefix and block[257:263] == b"ustar\0":
        name = prefix + b"/" + name
    return Header(name, block[156:157], size, block[156:157] == b"S", block[156:157] == b"S" and block[482] > 0)


def _number(field: bytes) -> int | None:
    """Octal digits, or, marked by the highest bit, binary (GNU tar manual, "Extensions to the archive format")."""
    if field[0] & 0x80:
        value = int.from_bytes(field) & ((1 << (8 * len(field) - 1)) - 1)
        return value if value < 1 << 62 else None
    digits = field.split(b"\0", 1)[0].strip()
    return int(digits or b"0", 8) if not digits.strip(b"01234567") else None


def _extend(extension: Extension, header: Header, content: bytes) -> None:
    if header.kind == b"L":
        extension.name = content.split(b"\0", 1)[0]
    elif header.kind in (b"x", b"X"):
        for key, value in records(content):
            if key == b"path" or key == b"GNU.sparse.name":
                extension.name = value
            elif key == b"size" and value.isdigit() and len(value) < 19:
                extension.size = int(value)
            if key.startswith(b"GNU.sparse") or key == b"SUN.holesdata":
                extension.is_sparse = True


def records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the records of a pax header: length in decimal, blank, key, equals sign, value, line feed."""
    place = 0
    while place < len(content):
        blank = content.find(b" ", place, place + 20)
        digits = content[place:blank] if blank >= 0 else b""
        if not digits.isdigit() or int(digits) < blank - place + 2:
            return
        record = content[blank + 1 : place + int(digits)]
        key, equals, value = record.removesuffix(b"\n").partition(b"=")
        if equals:
            yield key, value
        place += int(digits)


def _open_entry(look: Look, header: Header, extension: Extension, data: bytes, size: int) -> None:
    name = text_of_name(extension.name or header.name)
    if is_odd_member(name):
        look.note_problem("odd_name")
    if header.kind in _SKIPPED or (name.endswith("/") and not size):
        return
    if header.is_sparse or extension.is_sparse:
        look.note_problem("unsupported")
        look.list_member(name, size=size, problem="unsupported")
        return
    if len(data) < size:
        look.note_problem("truncated")
    look.open_member(look.take((data,)), name)


def text_of_name(raw: bytes) -> str:
    """Decode a name: UTF-8 where it can be, else as Latin-1, which every octet is."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _after_zeros(data: bytes, place: int) -> int | None:
    """Return the place of the next header behind zero blocks: of an archive that another was put behind."""
    while place + BLOCK <= len(data):
        block = data[place : place + BLOCK]
        if block != _EMPTY:
            return place if is_tar(block) else None
        place += BLOCK
    return None


def _note_rest(look: Look, place: int) -> None:
    if look.data[place:].strip(b"\0"):
        look.note_problem("appended_data")
