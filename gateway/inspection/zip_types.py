"""What a ZIP archive is, by what it holds and never by its name: Office and OpenDocument files, packages, others.

The type that means "an archive" is left out only for documents that hold nothing but what documents hold: their own
openers look at all of that.
"""

import re
import zlib
from collections.abc import Iterator

from gateway.inspection.media_types import TYPES, ZIP
from gateway.inspection.zip_directory import ENCRYPTED, Directory, Entry

_DESCRIPTION_SIZE = 512 * 1024  # octets of a description of contents that are unpacked
_OOXML = "application/vnd.openxmlformats-officedocument."

# Content types of the main part, without "+xml" (ECMA-376 part 1, 11.3, 12.3, 13.3, 15.2; MS-OFFMACRO2 2.2; MS-XLSB
# 2.1.7).
_MAIN_PARTS = {
    _OOXML + "wordprocessingml.document.main": _OOXML + "wordprocessingml.document",
    _OOXML + "wordprocessingml.template.main": _OOXML + "wordprocessingml.template",
    _OOXML + "spreadsheetml.sheet.main": _OOXML + "spreadsheetml.sheet",
    _OOXML + "spreadsheetml.template.main": _OOXML + "spreadsheetml.template",
    _OOXML + "presentationml.presentation.main": _OOXML + "presentationml.presentation",
    _OOXML + "presentationml.template.main": _OOXML + "presentationml.template",
    _OOXML + "presentationml.slideshow.main": _OOXML + "presentationml.slideshow",
    _OOXML + "presentationml.slide.main": _OOXML + "presentationml.slide",
    "application/vnd.ms-word.document.macroenabled.main": "application/vnd.ms-word.document.macroenabled.12",
    "application/vnd.ms-word.template.macroenabledtemplate.main": "application/vnd.ms-word.template.macroenabled.12",
    "application/vnd.ms-excel.sheet.macroenabled.main": "application/vnd.ms-excel.sheet.macroenabled.12",
    "application/vnd.ms-excel.template.macroenabled.main": "application/vnd.ms-excel.template.macroenabled.12",
    "application/vnd.ms-excel.addin.macroenabled.main": "application/vnd.ms-excel.addin.macroenabled.12",
    "application/vnd.ms-excel.sheet.binary.macroenabled.main": "application/vnd.ms-excel.sheet.binary.macroenabled.12",
    "application/vnd.ms-powerpoint.presentation.macroenabled.main":
        "application/vnd.ms-powerpoint.presentation.macroenabled.12",
    "application/vnd.ms-powerpoint.template.macroenabled.main":
        "application/vnd.ms-powerpoint.template.macroenabled.12",
    "application/vnd.ms-powerpoint.slideshow.macroenabled.main":
        "application/vnd.ms-powerpoint.slideshow.macroenabled.12",
    "application/vnd.ms-powerpoint.addin.macroenabled.main": "application/vnd.ms-powerpoint.addin.macroenabled.12",
    "application/vnd.ms-powerpoint.slide.macroenabled.main": "application/vnd.ms-powerpoint.slide.macroenabled.12",
    "application/vnd.ms-visio.drawing.main": "application/vnd.ms-visio.drawing",
    "application/vnd.ms-visio.template.main": "application/vnd.ms-visio.drawing",
    "application/vnd.ms-visio.stencil.main": "application/vnd.ms-visio.drawing",
    "application/vnd.ms-visio.drawing.macroenabled.main": "application/vnd.ms-visio.drawing.macroenabled.12",
    "application/vnd.ms-visio.template.macroenabled.main": "application/vnd.ms-visio.drawing.macroenabled.12",
    "application/vnd.ms-visio.stencil.macroenabled.main": "application/vnd.ms-visio.drawing.macroenabled.12",
    "application/vnd.ms-package.xps-fixeddocumentsequence": "application/vnd.ms-xpsdocument",
}  # fmt: skip
_CONTENT_TYPE = re.compile(r"""contenttype\s{0,20}=\s{0,20}["']\s{0,20}([^"'\s+]{1,200})""")
_OPENED_AS_DOCUMENTS = (
    _OOXML,
    "application/vnd.ms-word.",
    "application/vnd.ms-excel.",
    "application/vnd.ms-powerpoint.",
    "application/vnd.oasis.opendocument.",
)
# By a part that a document without a readable description has; with macros if there is a VBA part.
_BY_PART = (
    ("word/", _OOXML + "wordprocessingml.document", "application/vnd.ms-word.document.macroenabled.12"),
    ("xl/", _OOXML + "spreadsheetml.sheet", "application/vnd.ms-excel.sheet.macroenabled.12"),
    ("ppt/", _OOXML + "presentationml.presentation", "application/vnd.ms-powerpoint.presentation.macroenabled.12"),
    ("visio/", "application/vnd.ms-visio.drawing", "application/vnd.ms-visio.drawing.macroenabled.12"),
)
_BY_NAME = (
    ("androidmanifest.xml", "application/vnd.android.package-archive"),
    ("classes.dex", "application/vnd.android.package-archive"),
    ("meta-inf/manifest.mf", "application/java-archive"),
    ("install.rdf", "application/x-xpinstall"),
    ("meta-inf/mozilla.rsa", "application/x-xpinstall"),
    ("appxmanifest.xml", "application/x-msix"),
    ("appxmetadata/appxbundlemanifest.xml", "application/x-msix"),
    ("fixeddocseq.fdseq", "application/vnd.ms-xpsdocument"),
)
# What documents are made of; anything else in one is looked at as in an archive.
_PARTS_OF_DOCUMENTS = re.compile(
    r"(?:.*\.(?:xml|rels|vml|png|jpe?g|gif|emf|wmf|tiff?|bmp|svg|wdp|bin|odttf|fntdata|rdf|svm|psmdcp|fdseq|fdoc|fpage|ttf"
    r"|otf|docx|xlsx|pptx|xls|doc|ppt|txt|data|glb|mp4|mp3|wav|fd|frag|struct|emz|wmz)"
    r"|mimetype|.*/(?:content|layout|current|vbaproject|thumbnail|pictures/\w+|object \d+|basic/.*))|[^.]*/",
    re.DOTALL,
)


def zip_types(data: bytes, directory: Directory) -> list[str]:
    """Return what an archive with this directory may be, its most telling type first."""
    names = {name.replace("\\", "/").lower() for entry in directory.entries for name in entry.names}
    found = dict.fromkeys([*_documents(data, directory, names), *_packages(names)])
    if not found or not all(kind.startswith(_OPENED_AS_DOCUMENTS) for kind in found) or _is_more(directory, names):
        found[ZIP] = None
    return list(found)


def _documents(data: bytes, directory: Directory, names: set[str]) -> Iterator[str]:
    for entry in directory.entries:
        lowered = {name.lower() for name in entry.names}
        if "mimetype" in lowered:
            kind = begin_of(data, entry, 200).decode("latin-1").strip().lower()
            if kind in TYPES:
                yield kind
        elif "[content_types].xml" in lowered:
            described = [*_described(begin_of(data, entry, _DESCRIPTION_SIZE))]
            yield from described or _by_part(names)
    if "[content_types].xml" not in names and "_rels/.rels" in names:
        yield from _by_part(names)


def _described(description: bytes) -> Iterator[str]:
    """Yield the types that [Content_Types].xml gives the main parts (ECMA-376 part 2, 10.1.2.2)."""
    codec = "utf-16" if description[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    for kind in _CONTENT_TYPE.findall(description.decode(codec, "replace").lower()):
        if kind in _MAIN_PARTS:
            yield _MAIN_PARTS[kind]


def _by_part(names: set[str]) -> Iterator[str]:
    has_macros = any(name.endswith("vbaproject.bin") for name in names)
    for folder, plain, with_macros in _BY_PART:
        if any(name.lstrip("/").startswith(folder) for name in names):
            yield with_macros if has_macros else plain


def _packages(names: set[str]) -> Iterator[str]:
    for name, kind in _BY_NAME:
        if name in names:
            yield kind
    if "manifest.json" in names and any(name.endswith(".js") for name in names):
        yield "application/x-xpinstall"


def _is_more(directory: Directory, names: set[str]) -> bool:
    if directory.problems or any(entry.flags & ENCRYPTED for entry in directory.entries):
        return True
    return not all(_PARTS_OF_DOCUMENTS.fullmatch(name) for name in names)


def begin_of(data: bytes, entry: Entry, size: int) -> bytes:
    """Return at most `size` octets of a stored or deflated entry, as far as they can be unpacked."""
    packed = data[entry.start : min(entry.end, entry.start + _DESCRIPTION_SIZE)]
    if entry.flags & ENCRYPTED:
        return b""
    if entry.method == 0:
        return packed[:size]
    try:
        return zlib.decompressobj(-15).decompress(packed, size) if entry.method == 8 else b""
    except zlib.error:
        return b""
