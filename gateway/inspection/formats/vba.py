"""VBA projects: their source is unpacked and graded. Nothing is run, and p-code is not taken apart.

The layout is that of MS-OVBA. A project with a password is read like any other: the password locks the editor alone.
"""

import re
import struct
from collections.abc import Iterator, Mapping

from gateway.inspection.facts import Macro
from gateway.inspection.look import Look

CHUNK = 4096  # octets of an unpacked chunk at most, MS-OVBA 2.4.1.1.3
# A packed source that starts as all do: signature, header of the first chunk, eight literals (MS-OVBA 2.4.1).
SOURCE = re.compile(rb"\x01[\x00-\xff][\xb0-\xbf]\x00Attribut")

# Procedures that run by themselves. Word: "Auto macros" and Document events; Excel: Workbook and Worksheet events and
# Auto_ macros; PowerPoint: Auto_Open of add-ins; controls: events that come without a click (Office VBA reference).
AUTO_RUN = re.compile(
    r"\b(?:auto_?(?:exec|open|close|exit|new|activate|deactivate|add|remove)"
    r"|document_?(?:open|close|new|beforeclose|contentcontrolonenter|contentcontrolonexit|sync)"
    r"|workbook_(?:open|close|beforeclose|activate|deactivate|windowactivate|addininstall|sheetactivate)"
    r"|worksheet_(?:activate|calculate|change|selectionchange|deactivate)"
    r"|presentation_?open|slideshow_?begin|onslideshowpagechange|app_(?:documentopen|workbookopen|presentationopen)"
    r"|\w+_(?:painted|painting|layout|mousemove|mouseenter|mousehover|gotfocus|lostfocus|resize"
    r"|documentcomplete|downloadcomplete|navigatecomplete2|beforenavigate2|onconnecting|statechange))\b",
    re.IGNORECASE,
)
# What starts programs, fetches, or runs machine code. That alone is suspicious.
STARTS = re.compile(
    r"\bshell(?:execute[aw]?|\$|_|\s*\(|\s+[\"\w])|wscript\.shell|shell\.application|shellbrowserwindow|powershell"
    r"|\bcmd(?:\.exe)?\s+/c|mshta|regsvr32|rundll32|certutil|bitsadmin|cscript"
    r"|urldownloadtofile|internetopenurl|msxml2\.|winhttp\.|microsoft\.xmlhttp|adodb\.stream"
    r"|winmgmts:|win32_process|executeexcel4macro|virtualalloc|createthread|rtlmovememory|writeprocessmemory"
    r"|\bmacscript\b|applescripttask|schedule\.service|enumsystemlocales|\.regwrite\b|vbproject\b|msforms\.htmlfile",
    re.IGNORECASE,
)
# What many useful macros do as well. It is suspicious in one that runs by itself.
REACHES = re.compile(
    r"\bcreateobject\b|\bgetobject\b|\bcallbyname\b|\benviron\$?|\bkill\s|\bdeclare\s[^\r\n]{0,200}\blib\b"
    r"|\bfor\s+(?:binary|output|append|random)\b|\bsavetofile\b|\bfilecopy\b|\bsetattr\b|\bchdir\b"
    r"|\bstrreverse\b|\bapplication\.run\b|\bsendkeys\b|(?:\bchrw?\$?\s*\([^()\r\n]{1,40}\)\s*[&+]\s*){4}",
    re.IGNORECASE,
)
# Identifiers that the cache of a project without code has no use for.
CACHED = re.compile(
    rb"auto_?(?:exec|open|close|exit|new)|document_?(?:open|close|new)|workbook_(?:open|close|beforeclose|activate)"
    rb"|createobject|getobject|callbyname|urldownload|shell|environ",
    re.IGNORECASE,
)
NO_CODE = re.compile(r"\s*(?:attribute\s|option\s|'|$)", re.IGNORECASE)
NEVER_SOURCE = ("dir", "_vba_project")


def chunks(container: bytes) -> Iterator[bytes]:
    """Yield what a packed container holds, chunk by chunk (MS-OVBA 2.4.1.3.1). Raises ValueError if it is none."""
    if container[:1] != b"\x01":
        raise ValueError("no signature of a packed container")
    place = 1
    while place + 2 <= len(container):
        (header,) = struct.unpack_from("<H", container, place)
        if header >> 12 & 7 != 3:
            return  # MS-OVBA 2.4.1.1.5: the signature of each chunk; what follows is none
        end = place + (header & 0xFFF) + 3
        body = container[place + 2 : end]
        yield unpacked_chunk(body) if header & 0x8000 else body[:CHUNK]
        place = end


def unpacked_chunk(body: bytes) -> bytes:
    """Unpack the tokens of one chunk (MS-OVBA 2.4.1.3.2 to 2.4.1.3.5); damaged ones as far as they go."""
    out = bytearray()
    place = 0
    while place < len(body) and len(out) < CHUNK:
        flags = body[place]
        place += 1
        for bit in range(8):
            if not flags >> bit & 1:
                out += body[place : place + 1]
                place += 1
                continue
            if place + 2 > len(body) or not out:
                return bytes(out)
            token = body[place] | body[place + 1] << 8
            place += 2
            copy_token(out, token)
    return bytes(out[:CHUNK])


def copy_token(out: bytearray, token: int) -> None:
    """Append what a copy token points at (MS-OVBA 2.4.1.3.19.1: the split moves with what is unpacked already)."""
    bits = max((len(out) - 1).bit_length(), 4)
    length = (token & (0xFFFF >> bits)) + 3
    offset = (token >> (16 - bits)) + 1
    piece = out[-offset:]
    out += (piece * (length // len(piece) + 1))[:length]


def module_offsets(directory: bytes) -> dict[str, int]:
    """Return where in its stream each module's source starts, from the unpacked `dir` stream (MS-OVBA 2.3.4.2)."""
    offsets: dict[str, int] = {}
    name = ""
    place = 0
    while place + 6 <= len(directory):
        kind, size = struct.unpack_from("<HI", directory, place)
        size = 6 if kind == 0x0009 else size  # MS-OVBA 2.3.4.2.1.11: PROJECTVERSION says 4 and has 6
        body = directory[place + 6 : place + 6 + size]
        if kind == 0x001A:  # MODULESTREAMNAME in the code page, then the same as UTF-16
            name = body.decode("latin-1").lower()
        elif kind == 0x0032:
            name = body.decode("utf-16-le", "replace").lower() or name
        elif kind == 0x0031 and size == 4:
            offsets[name] = int.from_bytes(body, "little")
        place += 6 + size
    return offsets


class Project:
    """The streams of one VBA storage, by their names in lower case, and the sources that stand in them."""

    def __init__(self, look: Look, streams: Mapping[str, bytes]) -> None:
        self._look = look
        self._streams = streams
        self._offsets = module_offsets(self._unpacked(streams.get("dir", b"")))
        self.sources = [self._source(name) for name in streams if self._is_module(name)]

    def _is_module(self, name: str) -> bool:
        return name not in NEVER_SOURCE and not name.startswith("__srp_")

    def _unpacked(self, container: bytes) -> bytes:
        try:
            return self._look.take(chunks(container), packed=len(container))
        except ValueError:
            return b""

    def _source(self, name: str) -> str:
        stream = self._streams[name]
        found = self._unpacked(stream[self._offsets[name] :]) if name in self._offsets else b""
        # Where the directory leads nowhere, the way all sources start leads there.
        if not found and (start := SOURCE.search(stream)):
            found = self._unpacked(stream[start.start() :])
        return found.decode("latin-1")

    def grade(self) -> Macro:
        """Return how dangerous the project is."""
        code = "\n".join(without_comments(source) for source in self.sources)
        if not code.strip():
            return Macro.SUSPICIOUS if self._is_stomped() else Macro.PRESENT
        runs = AUTO_RUN.search(code) is not None
        if STARTS.search(code) or (runs and REACHES.search(code)):
            return Macro.SUSPICIOUS
        return Macro.AUTO_RUN if runs else Macro.PRESENT

    def _is_stomped(self) -> bool:
        """Whether the source is gone and the identifiers of its p-code are there (MS-OVBA 2.3.4.1, the cache)."""
        cache = self._streams.get("_vba_project", b"").replace(b"\0", b"")
        return CACHED.search(cache) is not None


def without_comments(source: str) -> str:
    """Return the lines that do something, joined where they are continued (MS-VBAL 3.2.2), and without string joints.

    `"Sh" & "ell"` reads as one: splitting words is the plainest way to hide them.
    """
    joined = re.sub(r"[ \t]_[ \t]*\r?\n", " ", source)
    lines = (line for line in joined.splitlines() if not NO_CODE.match(line))
    return re.sub(r'"\s*[&+]\s*"', "", "\n".join(lines))
