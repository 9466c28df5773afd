"""Archives that libarchive reads: 7z, RAR, cabinets, disk images, cpio, ar, LHA, xar, RPM.

It is told the one format, so that it does not try others, and no filter, so that nothing is unwrapped behind our back.
What it cannot read to the end is said: as locked, truncated or damaged, never as clean.
"""

from collections.abc import Iterator

from libarchive.entry import ArchiveEntry

from gateway.inspection.facts import Lock
from gateway.inspection.file_names import is_odd_member
from gateway.inspection.look import LimitReached, Look
from gateway.inspection.rar_headers import SIGNATURE as RAR5
from gateway.inspection.rar_headers import read_headers
from gateway.inspection.unpacking.libarchive_reading import (
    LibarchiveError,
    contents,
    is_about_encryption,
    is_about_support,
    is_about_the_end,
    is_encrypted,
    members,
)
from gateway.octets import find

# libarchive's format, and the signature at which the archive begins when it stands behind something else. RAR 5 has no
# name in libarchive-c: all formats are tried for it.
_FORMATS = {
    "application/x-7z-compressed": ("7zip", b"7z\xbc\xaf\x27\x1c"),
    "application/vnd.rar": ("rar", b"Rar!\x1a\x07"),
    "application/vnd.ms-cab-compressed": ("cab", b"MSCF\0\0\0\0"),
    "application/x-iso9660-image": ("iso9660", b""),
    "application/x-cpio": ("cpio", b""),
    "application/x-archive": ("ar", b""),
    "application/vnd.debian.binary-package": ("ar", b""),
    "application/x-lzh-compressed": ("lha", b""),
    "application/x-xar": ("xar", b""),
}
OPENS = tuple(_FORMATS)

MAX_STARTS = 4  # places at which a signature is tried


def open_file(look: Look) -> None:
    for kind in look.found_types:
        if kind in _FORMATS:
            _open_format(look, *_FORMATS[kind])


def _open_format(look: Look, format_name: str, signature: bytes) -> None:
    place = find(look.data, signature) if signature else 0
    if place < 0:
        look.note_problem("unsupported")  # RAR before 1.50
        return
    for _ in range(MAX_STARTS):
        data = look.data[place:] if place else look.data
        rar = read_headers(data) if data.startswith(RAR5) else None
        if rar and rar.has_encrypted_headers:
            look.note_lock(is_opened=False)
            return
        sealed = frozenset(file.name for file in rar.files if file.is_encrypted) if rar else frozenset()
        if rar and (not rar.files or any(file.is_split for file in rar.files)):
            look.note_problem("truncated")  # one volume of several
        if _open_archive(look, data, "all" if rar else format_name, sealed) or not signature:
            return
        place = find(look.data, signature, place + 1)
        if place < 0:
            return


def _open_archive(look: Look, data: bytes, format_name: str, sealed: frozenset[str]) -> bool:
    """Open every member; return whether it is an archive at all."""
    seen = False
    try:
        for entry in members(data, format_name):
            look.check_time()
            seen = True
            _open_entry(look, entry, len(data), sealed)
    except LibarchiveError as error:
        _note(look, error)
        return seen or look.lock is not Lock.NONE
    return True


def _open_entry(look: Look, entry: ArchiveEntry, packed: int, sealed: frozenset[str]) -> None:
    name = entry.pathname
    if name is None:
        look.note_problem("odd_name")
    if entry.filetype and not entry.isreg:
        return  # folders, links, devices; archives of ar need not say what a member is
    names = () if name is None else (str(name),)
    if name is not None and is_odd_member(name):
        look.note_problem("odd_name")
    size = entry.size or 0
    if name in sealed or is_encrypted(entry):
        look.note_lock(is_opened=False)
        look.list_member(*names, size=size, lock=Lock.LOCKED)
        return
    problems: list[str] = []
    try:
        data = look.take(_until_error(look, entry, problems), packed=packed)
    except LimitReached as limit:
        look.list_member(*names, size=size, problem=limit.code)
        raise
    if len(data) < size and not problems:
        problems.append("truncated")
        look.note_problem("truncated")
    if data or not problems:
        look.open_member(data, *names)
    else:
        look.list_member(*names, size=size, problem=problems[0])


def _until_error(look: Look, entry: ArchiveEntry, problems: list[str]) -> Iterator[bytes]:
    try:
        yield from contents(entry)
    except LibarchiveError as error:
        problems.append(_problem(error))
        _note(look, error)


def _note(look: Look, error: LibarchiveError) -> None:
    if is_about_encryption(error):
        look.note_lock(is_opened=False)
    else:
        look.note_problem(_problem(error))


def _problem(error: LibarchiveError) -> str:
    if is_about_the_end(error):
        return "truncated"
    return "unsupported" if is_about_support(error) else "damaged"
