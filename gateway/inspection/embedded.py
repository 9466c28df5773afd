"""Files that stand in the text of a part without MIME: uuencode, yEnc, BinHex, base64 blocks, MIME parts undeclared.

Old readers, and those that search, show them as attachments. Only where they lie is told here.
"""

import re
from collections.abc import Iterator

from msgspec import Struct

MAX_BLOCKS = 100  # of one part
MAX_NAME = 1000  # octets

# POSIX uuencode: "begin mode name"; the name is all that is left of the line.
_UU_BEGIN = re.compile(rb"begin(-base64)? [0-7]{3,4}[ \t]++([^\r\n]{0,1000}+)[^\n]*+\n", re.IGNORECASE)
_UU_END = re.compile(rb"\n(?:end|====)[ \t]*+(?=\r?\n|\Z)", re.IGNORECASE)
# yEnc 1.3: "=ybegin line=128 size=123456 name=mybinary.dat"
_YENC_BEGIN = re.compile(rb"=ybegin ([^\r\n]*+)")
# RFC 1741 section 4, the line before BinHex 4.0 data.
_BINHEX_BEGIN = re.compile(rb"\(This file must be converted with BinHex[^\r\n]{0,80}\r?\n\s{0,20}:")
# Two lines of letters, or one long one: no prose, whatever the part's encoding is said to be.
_BASE64 = re.compile(rb"\n[A-Za-z0-9+/]{40,}+=*+\r?\n[A-Za-z0-9+/=]{2}|\n[A-Za-z0-9+/]{200,}+=*+")
_BASE64_FIRST = re.compile(rb"\s{0,100}+(?:[A-Za-z0-9+/]{40,}+=*+\r?\n[A-Za-z0-9+/=]{2}|[A-Za-z0-9+/]{200})")
# A delimiter of no multipart that we know of, with a MIME field after it.
_HIDDEN_PART = re.compile(rb"\n--([^\r\n]{1,998}+)\r?\n(?=(?>(?:[!-9;-~]{1,80}+:[^\n]{0,998}+\n){0,3})(?i:content-t))")
_HIDDEN_FIRST = re.compile(rb"\s{0,20}+--([^\r\n]{1,998}+)\r?\n(?=(?i:content-))")


class Block(Struct, frozen=True):
    """A file in text: where it lies, in what encoding, and the name that its first line gives it."""

    start: int
    end: int
    encoding: str
    name: str = ""


def find_blocks(raw: bytes, start: int, end: int) -> list[Block]:
    """Return the encoded files in the text from `start` to `end`, at most 100."""
    blocks: list[Block] = []
    if raw.find(b"egin", start, end) >= 0:
        blocks += _take(_uu_blocks(raw, start, end))
        blocks += _take(_yenc_blocks(raw, start, end))
    if raw.find(b"with BinHex", start, end) >= 0:
        blocks += _take(_binhex_blocks(raw, start, end))
    return blocks[:MAX_BLOCKS]


def has_base64(raw: bytes, start: int, end: int) -> bool:
    """Tell whether lines of base64 stand in a text."""
    return _BASE64_FIRST.match(raw, start, end) is not None or _BASE64.search(raw, start, end) is not None


def hidden_boundary(raw: bytes, start: int, end: int) -> bytes:
    """Return the boundary of what looks like MIME parts in a text, empty if nothing does."""
    if raw.find(b"--", start, end) < 0:
        return b""
    found = _HIDDEN_FIRST.match(raw, start, end) or _HIDDEN_PART.search(raw, start, end)
    return found[1].rstrip(b" \t") if found is not None else b""


def _take(found: Iterator[Block]) -> list[Block]:
    return [block for block, _ in zip(found, range(MAX_BLOCKS), strict=False)]


def _uu_blocks(raw: bytes, start: int, end: int) -> Iterator[Block]:
    at = start
    for found in _UU_BEGIN.finditer(raw, start, end):
        if found.start() < at:
            continue  # its text is in the block before
        if found.start() > start and raw[found.start() - 1] not in b"\n\r \t>":
            continue
        closing = _UU_END.search(raw, found.end() - 1, end)
        at = closing.end() if closing is not None else end
        yield Block(found.start(), at, "x-uuencode", _name(found[2]))


def _yenc_blocks(raw: bytes, start: int, end: int) -> Iterator[Block]:
    at = start
    for found in _YENC_BEGIN.finditer(raw, start, end):
        if found.start() < at:
            continue
        closing = raw.find(b"\n=yend", found.end(), end)
        at = closing + 1 if closing >= 0 else end
        # The name is the last parameter, and all that is left of the line.
        yield Block(found.start(), at, "x-yenc", _name(found[1].partition(b"name=")[2][:MAX_NAME]))


def _binhex_blocks(raw: bytes, start: int, end: int) -> Iterator[Block]:
    at = start
    for found in _BINHEX_BEGIN.finditer(raw, start, end):
        if found.start() < at:
            continue
        closing = raw.find(b":", found.end(), end)
        at = closing + 1 if closing >= 0 else end
        yield Block(found.start(), at, "x-binhex40")


def _name(octets: bytes) -> str:
    octets = octets.strip(b' \t"')
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")
