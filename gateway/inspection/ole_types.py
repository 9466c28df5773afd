"""What an OLE2 file is, by the class and the names in its directory (MS-CFB 2.6). Nothing is opened here."""

from gateway.inspection.media_types import OLE

SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

_CLASSES = {
    # Class of the root as it lies in the file: little-endian fields (MS-CFB 2.6.1, MS-OSHARED, Windows Installer).
    bytes.fromhex("8410 0c00 0000 0000 c000 0000 0000 0046"): "application/x-msi",
    bytes.fromhex("8610 0c00 0000 0000 c000 0000 0000 0046"): "application/x-msi",
    bytes.fromhex("8210 0c00 0000 0000 c000 0000 0000 0046"): "application/x-msi",
    bytes.fromhex("0609 0200 0000 0000 c000 0000 0000 0046"): "application/msword",
    bytes.fromhex("1008 0200 0000 0000 c000 0000 0000 0046"): "application/vnd.ms-excel",
    bytes.fromhex("2008 0200 0000 0000 c000 0000 0000 0046"): "application/vnd.ms-excel",
    bytes.fromhex("0b0d 0200 0000 0000 c000 0000 0000 0046"): "application/vnd.ms-outlook",
}


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-le") + b"\0\0"


_NAMES = (
    (_utf16("WordDocument"), "application/msword"),
    (_utf16("Workbook"), "application/vnd.ms-excel"),
    (b"B\0o\0o\0k\0\0\0", "application/vnd.ms-excel"),
    (_utf16("PowerPoint Document"), "application/vnd.ms-powerpoint"),
    (_utf16("__properties_version1.0"), "application/vnd.ms-outlook"),
    (_utf16("VisioDocument"), "application/vnd.visio"),
    (_utf16("EncryptedPackage"), "application/x-ms-office-encrypted"),
    (_utf16("\x05HwpSummaryInformation"), "application/x-hwp"),
    (_utf16("Quill"), "application/x-mspublisher"),
    (_utf16("TBkndTask"), "application/vnd.ms-project"),
    (_utf16("Catalog"), "application/x-thumbs-db"),
    # Tables of a Windows Installer database: their names are packed into characters from U+3800 on.
    (b"\x40\x48", "application/x-msi"),
)
_ENTRY = 128  # octets of a directory entry
_MAX_ENTRIES = 4096


def ole_types(data: bytes) -> list[str]:
    """Return `media_types.OLE` and what else the directory shows. Entries are looked for where they may lie.

    The chain of the directory's sectors is not followed: whole sectors look like entries or not, and a damaged chain
    hides nothing from readers that repair it.
    """
    found: dict[str, None] = {}
    size = 1 << min(int.from_bytes(data[30:32], "little"), 20)
    root = (int.from_bytes(data[48:52], "little") + 1) * max(size, 512)
    kind = _CLASSES.get(data[root + 80 : root + 96])
    if kind:
        found[kind] = None
    for octets, kind in _NAMES:
        if _has_entry(data, octets):
            found[kind] = None
    return [*found, OLE]


def _has_entry(data: bytes, name: bytes) -> bool:
    """A directory entry begins with its name, at a multiple of its size."""
    place = data.find(name, 512)
    for _ in range(_MAX_ENTRIES):
        if place < 0:
            return False
        if place % _ENTRY == 0:
            return True
        place = data.find(name, place + 1)
    return False
