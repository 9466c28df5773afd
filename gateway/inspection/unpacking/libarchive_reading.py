"""Reading by libarchive, of one format and at most one filter: left alone it unwraps compression without end.

libarchive makes names from the locale's character set: the box's child runs with LC_CTYPE C.UTF-8. A name that it
cannot make is None.
"""

import ctypes
import logging
import re
import struct
from collections.abc import Iterator

import libarchive
from libarchive.entry import ArchiveEntry
from libarchive.exception import ArchiveError as LibarchiveError

__all__ = [
    "LibarchiveError",
    "Unsupported",
    "contents",
    "is_about_encryption",
    "is_about_support",
    "is_about_the_end",
    "is_encrypted",
    "members",
    "unpack_stream",
    "unpack_zip_member",
]

MAX_READS = 1 << 20  # of one entry: libarchive may yield small pieces, but not without end
ARCHIVE_EOF, ARCHIVE_RETRY, ARCHIVE_WARN = 1, -10, -20  # archive.h

_read_block = libarchive.ffi.libarchive["archive_read_data_block"]
_read_block.argtypes = [ctypes.c_void_p] * 4
_read_block.restype = ctypes.c_int

_entry_is_encrypted = libarchive.ffi.libarchive.archive_entry_is_encrypted
_entry_is_encrypted.argtypes = [ctypes.c_void_p]
_entry_is_encrypted.restype = ctypes.c_int

logging.getLogger("libarchive").disabled = True  # it would write what hostile files say to the child's standard error

# libarchive has one code for all that it cannot read: its words tell why (archive_read_support_format_*.c, 3.6).
_END = re.compile(r"(?i)truncated|unexpected end|premature|end of file|end-of-file|too small block")
_SUPPORT = re.compile(r"(?i)unsupported|not supported|not currently supported|multivolume|multi-volume")
_ENCRYPTION = re.compile(r"(?i)encrypt|crypto|passphrase|password")


class Unsupported(Exception):
    """It is of a version that there is no decoder for."""


def is_about_encryption(error: LibarchiveError) -> bool:
    """Tell by libarchive's words whether it failed for want of a key: it has no code of its own for that."""
    return _ENCRYPTION.search(str(error.msg)) is not None


def is_about_the_end(error: LibarchiveError) -> bool:
    """Tell whether the archive ends too early."""
    return _END.search(str(error.msg)) is not None


def is_about_support(error: LibarchiveError) -> bool:
    """Tell whether libarchive has no decoder for it."""
    return _SUPPORT.search(str(error.msg)) is not None


def members(data: bytes, format_name: str) -> Iterator[ArchiveEntry]:
    """Yield the entries of an archive; each can be read until the next is asked for. Raises LibarchiveError."""
    with libarchive.memory_reader(data, format_name=format_name, filter_name="none") as archive:
        yield from archive


def is_encrypted(entry: ArchiveEntry) -> bool:
    """Tell whether an entry's data is encrypted, as far as libarchive knows: not of RAR 5."""
    return bool(_entry_is_encrypted(entry._entry_p) > 0)


def contents(entry: ArchiveEntry) -> Iterator[bytes]:
    """Yield an entry's data. Raises LibarchiveError, at the end also for what it only warns of: a wrong checksum.

    The package's own reader takes the code of a warning for a size and yields stale memory. Blocks are joined whatever
    place they claim: for a second file of a xar archive libarchive counts on, and would fill the gap with zeros.
    """
    archive = entry._archive_p
    block, size, place = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_longlong()
    warning = ""
    for _ in range(MAX_READS):
        code = _read_block(archive, ctypes.byref(block), ctypes.byref(size), ctypes.byref(place))
        if code == ARCHIVE_EOF:
            break
        if code in (ARCHIVE_WARN, ARCHIVE_RETRY):
            warning = warning or _words(archive)
        elif code:
            raise LibarchiveError(_words(archive), retcode=code)
        if size.value and block.value and code != ARCHIVE_RETRY:
            yield ctypes.string_at(block.value, size.value)
    if warning:
        raise LibarchiveError(warning, retcode=ARCHIVE_WARN)


def _words(archive: int) -> str:
    octets = libarchive.ffi.error_string(archive)
    return octets if isinstance(octets, str) else (octets or b"").decode("utf-8", "replace")


def unpack_stream(data: bytes, filter_name: str) -> Iterator[bytes]:
    """Unpack what is compressed in one of libarchive's filters. Raises LibarchiveError, Unsupported."""
    if not data:
        return
    with libarchive.memory_reader(data, format_name="raw", filter_name=filter_name) as archive:
        for entry in archive:
            if not archive.filter_names:
                raise Unsupported  # it would hand on what it does not know as it stands
            yield from contents(entry)


def unpack_zip_member(
    packed: bytes, *, method: int, size: int, check: int, version: int = 63, flags: int = 0, passphrase: bytes = b""
) -> Iterator[bytes]:
    """Unpack one member of a ZIP archive by libarchive: an archive of this member alone is made for it.

    Raises LibarchiveError, at the end also when the checksum of what was unpacked is another.
    """
    fields = (version, flags, method, 0, 0, check, len(packed), size)
    local = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", *fields, 1, 0) + b"x"
    central = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", version, *fields, 1, 0, 0, 0, 0, 0, 0) + b"x"
    place = len(local) + len(packed)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(central), place, 0)
    with libarchive.memory_reader(
        local + packed + central + end, format_name="zip", filter_name="none", passphrase=passphrase or None
    ) as archive:
        for entry in archive:
            yield from contents(entry)
