"""What a file is, told by its octets: our own table of signatures, with libmagic as a second opinion.

Several types are told of a file that is several at once, so that every opener looks. A name decides only between kinds
of text: see `text_types`. libmagic costs more than all the rest and is asked only where our own table has no answer.
"""

from collections.abc import Iterator, Sequence

from gateway.inspection import second_opinion
from gateway.inspection.file_names import extensions
from gateway.inspection.magic_numbers import fixed_types
from gateway.inspection.media_types import DATA, PLAIN, TYPES, ZIP, Kind
from gateway.inspection.ole_types import SIGNATURE as OLE_SIGNATURE
from gateway.inspection.ole_types import ole_types
from gateway.inspection.text_types import hidden_markup, text_of, text_types
from gateway.inspection.zip_directory import END, LOCAL, find_ends, read_directory
from gateway.inspection.zip_types import zip_types
from gateway.octets import find

__all__ = ["TYPES", "found_types", "is_tar"]

PDF_REACH = 1024  # octets within which readers look for the header (ISO 32000-1, Annex H, implementation note 13)
TAIL = 66 * 1024

# Archives that readers find behind something else: a program that unpacks them, a picture.
_BEHIND = (
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"MSCF\0\0\0\0", "application/vnd.ms-cab-compressed"),
)
# ISO 9660 begins at sector 16 (ECMA-119, 6.2.1).
_ISO_PLACES = (32769, 34817, 36865, 37633)  # "CD001" at sectors 16 to 18, and in 2352 octet sectors
_UDF_MARKS = (b"BEA01", b"NSR02", b"NSR03")

# Types that may hold other files as they are: what looks like an archive within is one of those, not behind the file.
_HOLDERS = frozenset(
    {
        "application/x-tar",
        "application/x-iso9660-image",
        "application/x-cpio",
        "application/x-archive",
        "application/vnd.debian.binary-package",
        "application/x-ole-storage",
        "application/vnd.ms-tnef",
        "application/onenote",
        "application/x-raw-disk-image",
    }
)
# Signatures so short that much else begins with them: libmagic is asked as well.
_UNCERTAIN = frozenset({DATA, "application/x-dos-executable", "application/x-arj", "application/x-compress"})


def found_types(data: bytes, names: Sequence[str], declared_types: Sequence[str]) -> tuple[str, ...]:
    """Return every type that the octets may be, of `media_types.TYPES`, the likeliest first.

    `names` and `declared_types` decide between kinds of text, nothing else.
    """
    if not data:
        return (PLAIN,)
    found = dict.fromkeys(_by_signature(data))
    text = None if _are_certain(found) else text_of(data)
    if text is not None:
        found |= dict.fromkeys(text_types(text, names, declared_types))
    elif hidden_markup(data) or (not found and "text/html" in declared_types):
        found["text/html"] = None
    if not found or _UNCERTAIN.issuperset(found):
        kind = second_opinion.libmagic_type(data)
        if kind and not (kind == PLAIN and found):
            found = {kind: None, **found}
    found |= dict.fromkeys(_by_name_alone(found, names))
    return tuple(found) or (DATA,)


def _are_certain(found: dict[str, None]) -> bool:
    return bool(found) and not all(TYPES.get(kind) in (Kind.TEXT, Kind.SCRIPT) for kind in found)


def _by_signature(data: bytes) -> Iterator[str]:
    """Yield the types whose signature is there: at its fixed place, or where readers look for it."""
    fixed = fixed_types(data)
    if data.startswith(OLE_SIGNATURE):
        fixed += ole_types(data)
    yield from fixed
    if data[:5] == b"{\\rtf" or data.lstrip(b"\r\n\t \0\xef\xbb\xbf")[:4] == b"{\\rt":
        yield "application/rtf"
    if _is_pdf(data):
        yield "application/pdf"
    if "application/x-tar" not in fixed and is_tar(data):
        yield "application/x-tar"
    yield from _disk_images(data)
    yield from _zips(data, fixed)
    yield from _archives_behind(data, fixed)
    if _is_dmg(data):
        yield "application/x-apple-diskimage"


def _is_pdf(data: bytes) -> bool:
    begin = data[: PDF_REACH + 8]
    if begin.startswith(b"%PDF"):
        return True
    if b"%PDF" in begin or b"PDF-" in begin:
        # A letter about PDF has no objects.
        return any(mark in data for mark in (b"endobj", b"startxref", b"trailer", b" obj"))
    # Readers that repair files do without the header.
    return find(data, b"/Pages") >= 0 and find(data, b"/Root") >= 0 and find(data, b" obj") >= 0


def is_tar(data: bytes) -> bool:
    """Tell whether the first block is a header by its sum: old archives have no signature (POSIX ustar)."""
    if len(data) < 512 or not data[0]:
        return False
    field = data[148:156].strip(b" \0")
    if not field or not set(field) <= set(b"01234567"):
        return False
    block = data[:148] + b" " * 8 + data[156:512]
    return int(field, 8) == sum(block)


def _disk_images(data: bytes) -> Iterator[str]:
    if any(data.startswith(b"CD001", place) for place in _ISO_PLACES):
        yield "application/x-iso9660-image"
    if len(data) > 0x9000 and any(data.startswith(_UDF_MARKS, 32769 + 2048 * sector) for sector in range(6)):
        yield "application/x-udf-image"
    if data[510:512] == b"\x55\xaa" and data[0] in (0xEB, 0xE9, 0x33, 0xFA, 0) and _is_boot_sector(data):
        yield "application/x-raw-disk-image"
    if len(data) > 512 and data.startswith(b"conectix", len(data) - 512):
        yield "application/x-vhd"
    if data[512:520] == b"EFI PART":
        yield "application/x-raw-disk-image"


def _is_boot_sector(data: bytes) -> bool:
    """Tell FAT, NTFS and exFAT by their names, and a partition table by its first entry (UEFI specification, 5.2.1)."""
    if data[54:57] == b"FAT" or data[82:87] == b"FAT32" or data[3:7] == b"NTFS" or data[3:8] == b"EXFAT":
        return True
    return len(data) % 512 == 0 and data[446] in (0, 0x80) and data[450] > 0


def _is_dmg(data: bytes) -> bool:
    return len(data) >= 512 and data.startswith(b"koly\0\0\0\x04", len(data) - 512)


def _zips(data: bytes, fixed: Sequence[str]) -> Iterator[str]:
    """Yield what a ZIP archive in the file is: from its begin, by its end, or behind something else."""
    at_start = data.startswith((LOCAL, b"PK00PK\x03\x04", b"PK\x07\x08PK\x03\x04", END))
    has_end = data.find(END, max(0, len(data) - TAIL)) >= 0 and bool(find_ends(data))
    if not at_start and not has_end and (_HOLDERS.intersection(fixed) or find(data, LOCAL) < 0):
        return
    directory = read_directory(data)
    if directory.entries:
        yield from zip_types(data, directory)
    elif at_start:
        yield ZIP


def _archives_behind(data: bytes, fixed: Sequence[str]) -> Iterator[str]:
    for signature, kind in _BEHIND:
        place = find(data, signature)
        if place == 0 or (place > 0 and not _lies_within(data, place, fixed)):
            yield kind


def _lies_within(data: bytes, place: int, fixed: Sequence[str]) -> bool:
    """Tell whether what stands at a place is a file that the whole holds, which its opener hands on anyway."""
    if not data.startswith(LOCAL) and not _HOLDERS.intersection(fixed):
        return False
    if data.startswith(LOCAL):
        return any(entry.start <= place < entry.end for entry in read_directory(data).entries)
    if data.startswith(b"CD001", 32769):
        # The image ends after as many sectors as its volume has (ECMA-119, 8.4.8).
        return place < 2048 * int.from_bytes(data[32848:32852], "little")
    return True


def _by_name_alone(found: dict[str, None], names: Sequence[str]) -> Iterator[str]:
    """Yield what data without any signature is by its name: programs for DOS are nothing but machine code."""
    if (not found or DATA in found) and any(extensions(name)[:1] == ("com",) for name in names):
        yield "application/x-dos-executable"
