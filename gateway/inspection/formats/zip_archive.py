"""ZIP archives: every file that some reader may show, unpacked by all methods that there is a decoder for.

Sections are those of PKWARE's APPNOTE.TXT 6.3.10.
"""

import bz2
import zlib
from collections.abc import Iterator

from gateway.inspection.facts import Lock
from gateway.inspection.file_names import is_odd_member
from gateway.inspection.look import LimitReached, Look
from gateway.inspection.unpacking.libarchive_reading import LibarchiveError, unpack_stream, unpack_zip_member
from gateway.inspection.unpacking.streams import Truncated, decode, inflate, unpack_raw_lzma, until_broken, unxz
from gateway.inspection.unpacking.zip_encryption import AES, aes_field, encodings, open_aes, open_traditional
from gateway.inspection.zip_directory import ENCRYPTED, MASKED, STRONG, Entry, read_directory

OPENS = ("application/zip",)

MAX_RATIO = 200  # of all files to the archive, above a megabyte: entries that share data have no ratio of their own
MAX_LOCKED = 20  # entries in a row that no password opens: then the rest is not tried

# Methods (4.4.5). Those that libarchive unpacks within an archive that is made for it:
STORED, DEFLATED, BZIP2, LZMA, OLD_ZSTD, ZSTD, XZ, PPMD = 0, 8, 12, 14, 20, 93, 95, 98
_SUPPORTED = frozenset({STORED, DEFLATED, BZIP2, LZMA, OLD_ZSTD, ZSTD, XZ, PPMD})


def open_file(look: Look) -> None:
    directory = read_directory(look.data)
    for problem in directory.problems:
        look.note_problem(problem)
    left = max(1 << 20, len(look.data) * MAX_RATIO)
    keys = Keys(look.passwords)
    for entry in directory.entries:
        look.check_time()
        if any(is_odd_member(name) for name in entry.names):
            look.note_problem("odd_name")
        left -= _open_entry(look, entry, keys)
        if left < 0:
            raise LimitReached("ratio")


class Keys:
    """The passwords, the one that worked last at first."""

    def __init__(self, passwords: tuple[str, ...]) -> None:
        self._keys = list(dict.fromkeys(key for password in passwords for key in encodings(password)))
        self._failures = 0

    def open(self, look: Look, entry: Entry) -> bytes | None:
        """Return an entry's data decrypted, still packed; None: no password opens it."""
        if self._failures >= MAX_LOCKED or entry.flags & (STRONG | MASKED):
            return None
        packed = look.data[entry.start : entry.end]
        for index, key in enumerate(self._keys):
            look.check_time()
            opened = _opened(packed, entry, key)
            if opened is not None:
                self._keys.insert(0, self._keys.pop(index))
                self._failures = 0
                return opened
        self._failures += 1
        return None


def _opened(packed: bytes, entry: Entry, key: bytes) -> bytes | None:
    field = aes_field(entry.extra) if entry.method == AES else None
    if field:
        return open_aes(packed, field, key)
    if entry.method == AES:
        return None
    try:
        opened = open_traditional(packed, entry, key)
    except LibarchiveError:
        return None
    if opened is not None and entry.method in (STORED, DEFLATED) and not _fits(opened, entry):
        return None
    return opened


def _fits(opened: bytes, entry: Entry) -> bool:
    """Tell a wrong password that the one octet did not tell: by the checksum, or by what inflates at all."""
    if entry.method == STORED:
        return not entry.check or zlib.crc32(opened) == entry.check
    try:
        zlib.decompressobj(-15).decompress(opened[:65536], 65536)
    except zlib.error:
        return False
    return True


def _open_entry(look: Look, entry: Entry, keys: Keys) -> int:
    """Open one file of the archive; return how many octets it unpacked to."""
    if all(name.endswith(("/", "\\")) for name in entry.names) and not entry.packed and not entry.size:
        return 0
    packed = look.data[entry.start : entry.end]
    method = entry.method
    if entry.flags & ENCRYPTED:
        opened = keys.open(look, entry)
        look.note_lock(is_opened=opened is not None)
        if opened is None:
            look.list_member(*entry.names, size=entry.size, lock=Lock.LOCKED)
            return 0
        packed = opened
        field = aes_field(entry.extra)
        method = field.method if field and method == AES else method
    if method not in _SUPPORTED:
        look.note_problem("unsupported")
        look.list_member(*entry.names, size=entry.size, problem="unsupported")
        return 0
    return _unpack_entry(look, entry, packed, method)


def _unpack_entry(look: Look, entry: Entry, packed: bytes, method: int) -> int:
    problems = ["truncated"] if entry.end > len(look.data) else []
    try:
        data = look.take(until_broken(_unpack(packed, method, entry), problems), packed=len(packed))
    except LimitReached as limit:
        look.note_problem(limit.code)
        look.list_member(*entry.names, size=entry.size, problem=limit.code)
        if limit.code not in ("ratio", "too_big"):
            raise
        return 1 << 20
    if not problems and not _is_sound(entry, data):
        problems.append("damaged")
    for problem in problems:
        look.note_problem(problem)
    if data or not problems:
        look.open_member(data, *entry.names)
    else:
        look.list_member(*entry.names, size=entry.size, problem=problems[0])
    return len(data)


def _is_sound(entry: Entry, data: bytes) -> bool:
    """Compare the checksum, where there is one: AE-2 has none, nor has a local header whose sizes follow."""
    return not entry.check or zlib.crc32(data) == entry.check


def _unpack(packed: bytes, method: int, entry: Entry) -> Iterator[bytes]:
    if method == STORED:
        return iter((packed,))
    if method == DEFLATED:
        return inflate(packed)
    if method == BZIP2:
        return decode(bz2.BZ2Decompressor(), packed)
    if method == LZMA:
        # 5.8.8: version of the SDK, size of the properties, properties.
        size = int.from_bytes(packed[2:4], "little")
        return unpack_raw_lzma(packed[4 + size :], packed[4 : 4 + max(size, 5)].ljust(5, b"\xff"))
    if method == XZ:
        return unxz(packed)
    if method == PPMD:
        return _up_to(entry.size, unpack_zip_member(packed, method=PPMD, size=entry.size, check=entry.check))
    return unpack_stream(packed, "zstd")


def _up_to(size: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut PPMd at the size that is declared: it has no end mark. The checksum is compared elsewhere."""
    while size > 0:
        try:
            chunk = next(chunks)
        except StopIteration:
            raise Truncated from None
        yield chunk[:size]
        size -= len(chunk)
