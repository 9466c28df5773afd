"""Workbooks in BIFF records (MS-XLS): macro sheets, names that run by themselves, DDE, encryption, links."""

import struct
from collections.abc import Iterator

from gateway.inspection.facts import Macro
from gateway.inspection.formats.fields import is_remote
from gateway.inspection.formats.xlm import CALLED
from gateway.inspection.look import Look

# Record numbers, MS-XLS 2.3.
FORMULA, NAME, FILEPASS, BOUNDSHEET, SUPBOOK, EXTERNNAME, BOF = 0x06, 0x18, 0x2F, 0x85, 0x1AE, 0x23, 0x809
BOFS = (BOF, 0x009, 0x209, 0x409)  # BIFF8 and 5, 2, 3, 4
MACRO_SHEET = 0x40  # BOF.dt, MS-XLS 2.4.21
AUTO_BUILTINS = b"\x01\x02\x0a\x0b"  # MS-XLS 2.4.150, Name: Auto_Open, Auto_Close, Auto_Activate, Auto_Deactivate
AUTO_NAMES = (b"auto_open", b"auto_close", b"auto_activate", b"auto_deactivate")
BIFF5 = b"\x00\x05"  # BOF.vers


def records(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the records of a workbook stream with their numbers (MS-XLS 2.1.4)."""
    place = 0
    while place + 4 <= len(stream):
        kind, size = struct.unpack_from("<HH", stream, place)
        yield kind, stream[place + 4 : place + 4 + size]
        place += 4 + size


def is_encrypted(stream: bytes) -> bool:
    """Whether FILEPASS stands where it must, behind the first BOF and WRITEPROTECT (MS-XLS 2.1.7.20.5)."""
    for number, (kind, _) in enumerate(records(stream)):
        if kind == FILEPASS:
            return True
        if number > 8:
            break
    return False


def scan_workbook(look: Look, stream: bytes) -> None:
    """Note what a workbook that is not encrypted does."""
    substream = 0
    is_dde = is_biff5 = False
    for number, (kind, body) in enumerate(records(stream)):
        if number % 4096 == 0:
            look.check_time()
        if kind in BOFS:
            is_biff5 = body[:2] == BIFF5
            substream = int.from_bytes(body[2:4], "little")
            if substream == MACRO_SHEET:
                look.note_macro(Macro.PRESENT)
        elif kind == BOUNDSHEET and body[5:6] == b"\x01":  # MS-XLS 2.4.28: dt 1 is a macro sheet, seen or hidden
            look.note_macro(Macro.PRESENT)
        elif kind == NAME and is_auto_name(body, is_biff5=is_biff5):
            look.note_macro(Macro.AUTO_RUN)
        elif kind == FORMULA and substream == MACRO_SHEET and CALLED.search(body):
            look.note_macro(Macro.SUSPICIOUS)
        elif kind == SUPBOOK:
            is_dde = note_other_book(look, body)
        # MS-XLS 2.4.105: an external name of a data source is an OLE link if fOleLink is set, else DDE.
        elif kind == EXTERNNAME and is_dde and body and not body[0] & 0x10:
            look.note_active("dde")


def is_auto_name(body: bytes, *, is_biff5: bool) -> bool:
    """Whether a defined name (Lbl, MS-XLS 2.4.150) is one that Excel runs by itself."""
    if len(body) < 15:
        return False
    # BIFF5 has no octet of flags before the characters (MS-XLS 2.5.296).
    name = body[14 if is_biff5 else 15 :]
    if body[0] & 0x20:  # fBuiltin: one character is the number of the name
        return name[:1] in AUTO_BUILTINS and bool(name)
    return name.replace(b"\0", b"").lower().startswith(AUTO_NAMES)


def note_other_book(look: Look, body: bytes) -> bool:
    """Note a reference to another file (MS-XLS 2.4.271); return whether it is a DDE or OLE data source."""
    (size,) = struct.unpack_from("<H", body, 2) if len(body) >= 4 else (0,)
    if not 1 <= size <= 0xFF:  # 0x401 and 0x3A01: this workbook, add-in functions
        return False
    path = body[5:].replace(b"\0", b"").decode("latin-1")
    if is_remote(path.lstrip("\x01\x05")):
        look.note_active("external_relationship")
    return "\x03" in path  # MS-XLS 2.5.277: between program and topic
