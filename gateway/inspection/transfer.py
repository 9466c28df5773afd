"""Content transfer encodings undone, in every way in which readers undo them (RFC 2045 section 6).

What is encoded by the book has one result. Where there is junk, missing padding or padding in the middle, readers stop,
go on, or begin anew: each different result is yielded, and said to be odd.
"""

import binascii
import re
from collections.abc import Callable, Iterator, Sequence

import pybase64

from gateway.inspection.old_encodings import binhex_files, uu_files, yenc_files

MAX_RUNS = 5000  # runs of base64 between padding that are decoded each for itself
MIN_BLOCK = 40  # octets of base64 between lines of prose
MAX_BLOCKS = 20  # of them that are decoded each for itself
MAX_LINES = 1_000_000  # lines of damaged base64 that are decoded each for itself

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NO_LETTERS = bytes(set(range(256)) - set(ALPHABET))
_NO_LETTERS_OR_PADDING = bytes(set(range(256)) - set(ALPHABET) - {0x3D})
_BLANKS = b" \t\r\n"
_PADDING = re.compile(rb"=++")
# A line that holds anything but base64, with its line end.
_PROSE_LINE = re.compile(rb"(?m)^(?![A-Za-z0-9+/]*+={0,2}[ \t]*+\r?$)[^\n]*+\n?")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
# RFC 2045 section 6.7: an equals sign stands before two digits, or ends a line.
_BAD_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n|\Z)")
_TRAILING_BLANKS = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")


def decodings(encoded: bytes, encodings: Sequence[str]) -> Iterator[tuple[bytes, bool]]:
    """Yield each different result of decoding, and whether the encoding was odd. The first is that of most readers.

    `encodings` are names as `part_header.ENCODINGS` has them; what is none of them leaves the octets as they are.
    """
    results: list[bytes] = []
    for number, encoding in enumerate(encodings or ("7bit",)):
        decode = _DECODERS.get(encoding, _identity)
        for data, is_odd in decode(encoded):
            if data not in results:
                yield data, is_odd or number > 0
                results.append(data)


def _identity(encoded: bytes) -> Iterator[tuple[bytes, bool]]:
    yield encoded, False


# --- base64 -----------------------------------------------------------------------------------------------------------


def _base64(encoded: bytes) -> Iterator[tuple[bytes, bool]]:
    compact = encoded.translate(None, _BLANKS)
    try:
        yield pybase64.b64decode(compact, validate=True), False
    except ValueError:  # also binascii.Error
        for result in _base64_readings(encoded, compact):
            yield result, True


def _base64_readings(encoded: bytes, compact: bytes) -> Iterator[bytes]:
    """Yield what readers make of damaged base64; not all are different."""
    kept = compact.translate(None, _NO_LETTERS_OR_PADDING)
    runs = _PADDING.split(kept, MAX_RUNS)
    yield _letters(runs[0])  # stops at padding
    yield b"".join(map(_letters, runs))  # goes on after padding
    yield _letters(kept.replace(b"=", b""))  # does not know padding
    has_junk = len(kept) < len(compact)
    if b"-" in compact or b"_" in compact:
        safe = compact.translate(_URL_SAFE, bytes(set(_NO_LETTERS_OR_PADDING) - {0x2D, 0x5F}))
        yield b"".join(map(_letters, _PADDING.split(safe, MAX_RUNS)))  # RFC 4648 section 5
    # Letters alone may be prose as well, by the blanks between them.
    letters = _PROSE_LINE.sub(b"", encoded).translate(None, _NO_LETTERS_OR_PADDING)
    yield b"".join(map(_letters, _PADDING.split(letters, MAX_RUNS)))  # skips lines of prose
    yield from _blocks(encoded)
    yield from _by_lines(encoded)
    if has_junk or any(len(run) % 4 == 1 for run in runs):
        yield encoded  # not encoded at all, or given up


def _blocks(encoded: bytes) -> Iterator[bytes]:
    """Yield the first blocks of base64 between lines of prose, each for itself."""
    blocks = [block for block in _PROSE_LINE.split(encoded, MAX_RUNS) if len(block) > MIN_BLOCK]
    for block in blocks[:MAX_BLOCKS]:
        yield b"".join(map(_letters, _PADDING.split(block.translate(None, _NO_LETTERS_OR_PADDING), MAX_RUNS)))


def _by_lines(encoded: bytes) -> Iterator[bytes]:
    """Yield the result of decoding each line for itself, if that makes any difference."""
    lines = [line.translate(None, _NO_LETTERS) for line in encoded.split(b"\n", MAX_LINES)]
    if any(len(line) % 4 for line in lines[:-1]):
        yield b"".join(map(_letters, lines))


def _letters(letters: bytes) -> bytes:
    """Decode letters of the alphabet alone, without padding; one letter too many is nothing."""
    rest = len(letters) % 4
    if rest == 1:
        letters = letters[:-1]
    elif rest:
        letters += b"=" * (4 - rest)
    return pybase64.b64decode(letters)


# --- quoted-printable -------------------------------------------------------------------------------------------------


def _quoted_printable(encoded: bytes) -> Iterator[tuple[bytes, bool]]:
    is_bad = _BAD_ESCAPE.search(encoded) is not None
    # RFC 2045 section 6.7 rule 3: blanks at the end of a line were added on the way. They also hide soft line breaks.
    bare = _TRAILING_BLANKS.sub(b"", encoded) if b" \r\n" in encoded or b"\t\r\n" in encoded or is_bad else encoded
    yield binascii.a2b_qp(bare), is_bad
    if bare is not encoded:
        yield binascii.a2b_qp(encoded), is_bad  # keeps the blanks
    if is_bad:
        yield binascii.a2b_qp(_BAD_ESCAPE.sub(b"", bare)), True  # the sign alone is dropped
        yield encoded, True


# --- Older ones -------------------------------------------------------------------------------------------------------


def _files_or_text(decode: Callable[[bytes], Iterator[bytes]]) -> Callable[[bytes], Iterator[tuple[bytes, bool]]]:
    def decoder(encoded: bytes) -> Iterator[tuple[bytes, bool]]:
        is_text = True
        for data in decode(encoded):
            is_text = False
            yield data, False
        if is_text:
            yield encoded, True

    return decoder


_DECODERS: dict[str, Callable[[bytes], Iterator[tuple[bytes, bool]]]] = {
    "base64": _base64,
    "quoted-printable": _quoted_printable,
    "x-uuencode": _files_or_text(uu_files),
    "x-yenc": _files_or_text(yenc_files),
    "x-binhex40": _files_or_text(binhex_files),
}
