"""Encodings that are older than MIME or beside it: uuencode (POSIX), yEnc 1.3, BinHex 4.0 (RFC 1741)."""

import binascii
import re
from collections.abc import Iterator

import pybase64

MAX_LINES = 2_000_000
MAX_EXPANDED = 128 << 20  # octets of one BinHex file

_UU_BEGIN = re.compile(rb"(?:\A|(?<=[\n>]))[ \t]*+begin(-base64)? [0-7]{3,4}[^\n]*+\n", re.IGNORECASE)
_UU_END = re.compile(rb"(?:end|====)[ \t\r]*+", re.IGNORECASE)
_YENC_BEGIN = re.compile(rb"=ybegin [^\n]*+\n(?:=ypart [^\n]*+\n)?")
_UNSHIFTED = bytes((one - 42) % 256 for one in range(256))
# The critical octets with 64 added, as writers escape them (yEnc 1.3); "=}" comes last, for it yields the sign itself.
_YENC_ESCAPES = tuple((b"=%c" % (one + 64), b"%c" % one) for one in (0x00, 0x0A, 0x0D, 0x09, 0x20, 0x2E, 0x3D))

# RFC 1741 appendix A: the letters of BinHex 4.0 stand for 0 to 63, in this order.
_BINHEX = b"!\"#$%&'()" + b"*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TO_BASE64 = bytes.maketrans(_BINHEX, _BASE64)
_NO_BINHEX = bytes(set(range(256)) - set(_BINHEX))
_BINHEX_FORKS = 2


def uu_files(encoded: bytes) -> Iterator[bytes]:
    """Yield the file of uuencoded text, also of lines without a first one. Damaged lines give what can be read."""
    begin = _UU_BEGIN.search(encoded)
    start = begin.end() if begin is not None else 0
    is_base64 = begin is not None and begin[1] is not None
    lines: list[bytes] = []
    for line in encoded[start:].split(b"\n", MAX_LINES):
        if _UU_END.fullmatch(line):
            break
        lines.append(line.rstrip(b"\r"))
    if is_base64:
        yield pybase64.b64decode(b"".join(lines) + b"==")
        return
    data = b"".join(map(_uu_line, lines))
    if data or begin is not None:
        yield data


def _uu_line(line: bytes) -> bytes:
    if not line or not 0x20 <= line[0] <= 0x60:
        return b""
    try:
        return binascii.a2b_uu(line)
    except binascii.Error:
        # Writers fill the last group with what they like: only the letters that the length asks for count.
        letters = (((line[0] - 32) & 63) * 4 + 5) // 3
        try:
            return binascii.a2b_uu(line[:letters])
        except binascii.Error:
            return b""


def yenc_files(encoded: bytes) -> Iterator[bytes]:
    """Yield the file of yEnc data. Lines end in CRLF or LF; checksums are not looked at."""
    begin = _YENC_BEGIN.search(encoded)
    if begin is None:
        return
    end = encoded.find(b"\n=yend", begin.end() - 1)
    data = encoded[begin.end() : end if end >= 0 else len(encoded)].translate(None, b"\r\n")
    for escape, octet in _YENC_ESCAPES:
        data = data.replace(escape, octet)
    yield data.translate(_UNSHIFTED)


def binhex_files(encoded: bytes) -> Iterator[bytes]:
    """Yield the data fork and the resource fork of a BinHex 4.0 file, where they are not empty (RFC 1741 section 4)."""
    start = encoded.find(b":", max(0, encoded.find(b"BinHex")))
    if start < 0:
        return
    end = encoded.find(b":", start + 1)
    letters = encoded[start + 1 : end if end >= 0 else len(encoded)].translate(None, _NO_BINHEX)
    packed = pybase64.b64decode(letters.translate(_TO_BASE64)[: len(letters) // 4 * 4] + _tail(letters))
    data = _expanded(packed)
    if not data or len(data) < data[0] + 22:
        return
    # Length and name, a zero, type and creator, flags, the lengths of both forks, a checksum.
    at = 1 + data[0] + 1 + 4 + 4 + 2
    sizes = [int.from_bytes(data[at + 4 * fork : at + 4 * fork + 4]) for fork in range(_BINHEX_FORKS)]
    at += 4 * _BINHEX_FORKS + 2
    for size in sizes:
        if size:
            yield data[at : at + size]
        at += size + 2


def _tail(letters: bytes) -> bytes:
    rest = letters.translate(_TO_BASE64)[len(letters) // 4 * 4 :]
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""


def _expanded(packed: bytes) -> bytes:
    """Undo the run-length coding: 0x90 and a count stand for repetitions, 0x90 and 0 for itself (RFC 1741)."""
    expanded = bytearray()
    first, *runs = packed.split(b"\x90")
    expanded += first
    is_marker = False  # the octet before was the marker's second one already
    for run in runs:
        if is_marker:
            count, rest, is_marker = 0x90, run, False
        elif not run:
            is_marker = True
            continue
        else:
            count, rest = run[0], run[1:]
        if count == 0:
            expanded.append(0x90)
        elif expanded:
            expanded += expanded[-1:] * (count - 1)
        expanded += rest
        if len(expanded) > MAX_EXPANDED:
            break
    return bytes(expanded)
