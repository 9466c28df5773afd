"""libmagic's opinion of a file that our own table does not know. C code: in the box's child only."""

from functools import cache

import magic

from gateway.inspection.media_types import TYPES

LOOKED_AT = 256 * 1024  # octets at the begin: libmagic's tests that go further find nothing that we ask it for

# libmagic's names (file 5.44) for types that our table calls otherwise.
_OTHER_NAMES = {
    "application/x-dosexec": "application/vnd.microsoft.portable-executable",
    "application/vnd.microsoft.portable-executable": "application/vnd.microsoft.portable-executable",
    "application/x-executable": "application/x-elf",
    "application/x-pie-executable": "application/x-elf",
    "application/x-sharedlib": "application/x-elf",
    "application/x-object": "application/x-elf",
    "application/x-java-applet": "application/java-vm",
    "application/x-ole-storage": "application/x-ole-storage",
    "application/vnd.ms-office": "application/x-ole-storage",
    "application/cdfv2": "application/x-ole-storage",
    "application/x-rar": "application/vnd.rar",
    "application/x-iso9660-image": "application/x-iso9660-image",
    "application/x-zstd": "application/zstd",
    "application/x-debian-package": "application/vnd.debian.binary-package",
    "application/x-lha": "application/x-lzh-compressed",
    "application/x-bytecode.python": "application/x-python-bytecode",
    "application/x-pgp-keyring": "application/pgp-keys",
    "application/x-ms-wim": "application/x-ms-wim",
    "application/x-msaccess": "application/vnd.ms-access",
    "application/x-wine-extension-ini": "text/plain",
    "application/x-sqlite3": "application/vnd.sqlite3",
    "application/x-hwp": "application/x-hwp",
    "text/rtf": "application/rtf",
    "text/xml": "application/xml",
    "text/x-shellscript": "application/x-sh",
    "text/x-msdos-batch": "application/x-bat",
    "text/x-perl": "application/x-perl",
    "text/x-ruby": "application/x-ruby",
    "text/x-php": "application/x-httpd-php",
    "application/javascript": "text/javascript",
    "audio/x-wav": "audio/wav",
    "audio/x-aiff": "audio/aiff",
    "audio/x-hx-aac-adts": "audio/aac",
    "audio/x-m4a": "audio/mp4",
    "image/x-ms-bmp": "image/bmp",
    "image/vnd.djvu": "image/vnd.djvu",
    "image/x-portable-greymap": "image/x-portable-anymap",
    "image/x-portable-pixmap": "image/x-portable-anymap",
    "image/x-portable-bitmap": "image/x-portable-anymap",
    "video/x-m4v": "video/mp4",
    "video/mpeg4-generic": "video/mpeg",
    "font/sfnt": "font/ttf",
    "application/font-sfnt": "font/ttf",
    "application/dicom": "application/dicom",
}


@cache
def _libmagic() -> magic.Magic:
    return magic.Magic(mime=True)


def warm_up() -> None:
    """Read libmagic's database: to be done before the box takes the right to open files away."""
    _libmagic().from_buffer(b"\0")


def libmagic_type(data: bytes) -> str | None:
    """Return a type of our table, or None: libmagic knows none, or one that the table does not name."""
    try:
        answer = _libmagic().from_buffer(data[:LOOKED_AT]).lower()
    except magic.MagicException:
        return None
    kind = _OTHER_NAMES.get(answer, answer)
    return kind if kind in TYPES else None
