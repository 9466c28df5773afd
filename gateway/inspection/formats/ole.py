"""Compound files (MS-CFB): Word, Excel, PowerPoint and Visio of before 2007, Outlook messages, encrypted OOXML.

A found type says no more than "compound file": what is inside is told by its streams, and each is looked at for what
it is. MSI packages and the like have nothing here that is opened.
"""

import re
import struct
import zlib
from collections.abc import Iterator

from gateway.inspection.formats.compound import MAGIC, Compound, Damaged
from gateway.inspection.formats.fields import note_field
from gateway.inspection.formats.msg import PROPERTIES, open_message
from gateway.inspection.formats.office_crypto import decrypted
from gateway.inspection.formats.ole_package import open_native
from gateway.inspection.formats.vba_storage import grade_projects
from gateway.inspection.formats.xls_biff import is_encrypted, scan_workbook
from gateway.inspection.look import Look

OPENS = ("application/x-ole-storage",)
EQUATION_EDITOR = "0002CE02-0000-0000-C000-000000000046"  # its parser was exploited (CVE-2017-11882), it is gone since
# MS-OSHARED 2.3.7.6, URLMoniker: class, size, then the URL as UTF-16.
URL_MONIKER = bytes.fromhex("E0C9EA79F9BACE118C8200AA004BA90B")
# Field begin, instruction, separator or end (MS-DOC 2.8.25), in texts of one octet a character and of two.
FIELD = re.compile(rb"\x13([^\x13-\x15]{1,2048})[\x13-\x15]")
WIDE_FIELD = re.compile(rb"\x13\x00((?:[^\x13-\x15]\x00){1,2048})[\x13-\x15]\x00")
WORKBOOKS = ("workbook", "book")
INFLATED = 64 * 1024  # octets at a time


def open_file(look: Look) -> None:
    try:
        compound = Compound(look, look.data)
        if ("encryptedpackage",) in compound or ("encryptioninfo",) in compound:
            open_encrypted(look, compound)
        elif any(path[-1] == PROPERTIES for path in compound.paths):
            open_message(look, compound)
        else:
            open_document(look, compound)
    except Damaged:
        look.note_problem("damaged")


def open_encrypted(look: Look, compound: Compound) -> None:
    """Open an OOXML file with a password (MS-OFFCRYPTO 2.3)."""
    opened = decrypted(look, look.data, info=compound.read(("encryptioninfo",)))
    if opened:
        look.open_member(opened, *look.names)


def open_document(look: Look, compound: Compound) -> None:
    if has_password(compound):
        opened = decrypted(look, look.data)
        if opened:
            look.open_member(opened, *look.names)
            return
    if ("\tdrmcontent",) in compound:  # MS-OFFCRYPTO 2.2: rights are asked of a server
        look.note_lock(is_opened=False)
    if ("visiodocument",) in compound:  # its macros lie in a stream that is packed in a way of its own
        look.note_problem("unsupported")
    grade_projects(look, compound)
    for name in WORKBOOKS:
        for path in compound.ending_with(name):
            stream = compound.read(path)
            if not is_encrypted(stream):
                scan_workbook(look, stream)
            note_monikers(look, stream)
    for path in compound.ending_with("worddocument"):
        note_fields(look, compound.read(path))
    for path in compound.ending_with("powerpoint document"):
        open_slides(look, compound.read(path))
    open_embedded(look, compound)


def has_password(compound: Compound) -> bool:
    """Whether the document at the root is encrypted."""
    word = compound.read(("worddocument",))
    if len(word) > 12 and struct.unpack_from("<H", word, 10)[0] & 0x0100:  # MS-DOC 2.5.2, FibBase.fEncrypted
        return True
    if any(is_encrypted(compound.read((name,))) for name in WORKBOOKS):
        return True
    # MS-PPT 2.3.2, CurrentUserAtom.headerToken
    return compound.read(("current user",))[12:16] == b"\xdf\xc4\xd1\xf3"


def note_fields(look: Look, stream: bytes) -> None:
    for pattern in (FIELD, WIDE_FIELD):
        for found in pattern.finditer(stream):
            note_field(look, found[1].replace(b"\0", b"").decode("latin-1"))
    look.check_time()


def note_monikers(look: Look, stream: bytes) -> bool:
    """Note the URLs of links as OLE writes them; return whether there are any."""
    place = stream.find(URL_MONIKER)
    is_found = place >= 0
    while place >= 0:
        start = place + len(URL_MONIKER)
        size = int.from_bytes(stream[start : start + 4], "little")
        url = stream[start + 4 : start + 4 + min(size, 8192)].decode("utf-16-le", "replace").split("\0", 1)[0]
        if url:
            look.note_link(url)
        place = stream.find(URL_MONIKER, start)
    return is_found


def open_slides(look: Look, stream: bytes) -> None:
    """Open the storages that stand in a presentation's records, macros among them (MS-PPT 2.10.34)."""
    for packed, is_packed in storages(stream):
        try:
            data = look.take(inflated(packed[4:]), packed=len(packed)) if is_packed else packed
        except zlib.error:
            look.note_problem("damaged")
            continue
        if not data.startswith(MAGIC):
            continue
        try:
            if grade_projects(look, Compound(look, data)):
                continue
        except Damaged:
            look.note_problem("damaged")
        look.note_active("embedded_object")
        look.open_member(data)


def storages(stream: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield the storages among the records at the top (MS-PPT 2.3.1), and whether they are packed."""
    place = 0
    while place + 8 <= len(stream):
        head, kind, size = struct.unpack_from("<HHI", stream, place)
        if kind == 0x1011:  # RT_ExternalOleObjectStg, packed if recInstance is 1
            yield stream[place + 8 : place + 8 + size], head >> 4 == 1
        place += 8 + size


def inflated(packed: bytes) -> Iterator[bytes]:
    unpacker = zlib.decompressobj()
    while packed and not unpacker.eof:
        yield unpacker.decompress(packed, INFLATED)
        packed = unpacker.unconsumed_tail


def open_embedded(look: Look, compound: Compound) -> None:
    """Open the objects in ObjectPool, MBD and other storages."""
    if EQUATION_EDITOR in compound.classes or any(compound.ending_with("equation native")):
        look.note_active("embedded_object")
    if any(compound.ending_with("\x03ocxname")):
        look.note_active("activex")
    for path in list(compound.paths):
        if path[-1] == "\x01ole10native":
            open_native(look, compound.read(path))
        elif path[-1] == "\x01ole" and note_monikers(look, compound.read(path)):
            look.note_active("external_relationship")  # OLE2Link: fetched and opened with the document
        elif path[-1] in ("package", "contents") and len(path) > 1:
            open_contents(look, compound.read(path))
        elif path[-1] in ("worddocument", *WORKBOOKS, "powerpoint document") and len(path) > 1:
            look.note_active("embedded_object")


def open_contents(look: Look, data: bytes) -> None:
    """Open what stands whole in a stream of its own: OOXML and PDF files; a control's own state is none."""
    if data.startswith((b"PK\x03\x04", b"%PDF", MAGIC, b"{\\rt")):
        look.note_active("embedded_object")
        look.open_member(data)
