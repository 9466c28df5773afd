"""Header fields as spans into the received bytes (RFC 5322 section 2.2), and how one field is read and written.

The scanner points, it does not copy: forwarded mail is changed by `splice`. It takes what real mail has and names
what is wrong by closed codes (`DEFECTS`); it knows no field by name and decodes no encoded words.
"""

import re
from itertools import islice

from msgspec import Struct

from gateway.mail.errors import Malformed

MAX_FIELDS = 10_000  # later fields of one header are not listed
MAX_PLAIN = 64 * 1024  # octets of a header that `plain_fields` reads at once; ordinary ones have a tenth of it
MAX_LINE = 998  # octets without CRLF, RFC 5322 section 2.1.1
FOLD_AT = 78  # characters without CRLF, RFC 5322 section 2.1.1
MAX_BLANKS = 60  # longest run of blanks that `fold` writes: a line must not consist of blanks (RFC 5322 section 3.2.2)

BLANKS = " \t\r\n"  # around a value, with its line ends

DEFECTS = (
    "no_body",  # no empty line after the header
    "header_too_long",  # fields beyond the limit are not listed
    "too_many_fields",
    "not_a_field",  # a line without a colon or with an impossible name; skipped
    "mbox_line",  # the first line is a mailbox file's "From " line; skipped
    "leading_continuation",  # the header begins with a continuation line; skipped
    "space_before_colon",  # obsolete syntax, RFC 5322 section 4.5
    "blank_continuation",  # a line of blanks alone, which some readers take for the end of the header
)

# Well-formed fields, one after the other. A continuation line needs something other than blanks. What is folded into
# more lines than an atomic group can hold in little memory is read field by field like a header that is odd.
_FIELD = re.compile(rb"([!-9;-~]++):([^\r]*+(?>(?:\r\n[ \t]++[^\r]++){0,1000}))\r\n")
# The same as text. What is no field ends the search: else it would try each letter as the start of a name.
_PLAIN_FIELD = re.compile(r"(([!-9;-~]++):([^\r]*+(?>(?:\r\n[ \t]++[^\r]++){0,1000}))\r\n)|[\x00-\xff]++")
_FIELD_END = re.compile(rb"\r\n(?![ \t])|\Z")
# Not `From : x`, which is a field in obsolete syntax (RFC 5322 section 4.5), and names an author.
_MBOX_LINE = re.compile(rb">?From [ \t]*+(?!:)")
_NAME = re.compile(rb"[!-9;-~]++")
_BLANK_LINE = re.compile(rb"\r\n[ \t]++(?=\r\n|\Z)")
_WORD = re.compile(r"([ \t]*+)([^ \t]++)")
_UNFIT = re.compile(r"[\r\n\0]")


class FieldSpan(Struct, frozen=True, gc=False):
    """Where one field lies, in octets: from its name to after its last CRLF; the value begins after the colon."""

    name: str  # as written
    start: int
    end: int
    value_start: int


def scan_header(raw: bytes, max_bytes: int) -> tuple[tuple[FieldSpan, ...], int, tuple[str, ...]]:
    """Find the fields of a message with CRLF line ends.

    Returns their spans in order, the offset of the body (after the empty line; the length of `raw` without one), and
    the defects. At most the first `max_bytes` octets of the header and 10,000 fields are listed.
    """
    header_end, body_start = _header_end(raw)
    defects = [] if body_start > header_end else ["no_body"]
    limit = header_end
    if header_end > max_bytes:
        defects.append("header_too_long")
        limit = _field_end_before(raw, max_bytes)
    spans: list[FieldSpan] = []
    append, match = spans.append, _FIELD.match
    at = 0
    # Field by field: a search would try each letter of a long line that is no field as the start of a name.
    while (field := match(raw, at, limit)) is not None and len(spans) < MAX_FIELDS:
        name, end = field[1], field.end()
        append(FieldSpan(name.decode(), at, end, at + len(name) + 1))
        at = end
    if at != limit:
        spans = _scan_odd(raw, limit, defects)
    return tuple(spans), body_start, tuple(defects)


def plain_fields(raw: bytes) -> tuple[list[tuple[str, str, str]], int]:
    """Read the header of an ordinary message at once: without any defect and of at most 64 KiB.

    Returns the fields, each as the whole field, its name and what follows the colon, and the offset of the body. All is
    Latin-1 text, so that lengths are octets. The fields follow each other without a gap from the first octet on. No
    fields: it is no such header, `scan_header` tells more.
    """
    header_end = raw.find(b"\r\n\r\n", 0, MAX_PLAIN) + 2
    fields = _PLAIN_FIELD.findall(raw[:header_end].decode("latin-1")) if header_end > 2 else []
    if fields and not fields[-1][0]:
        return [], 0
    return fields, header_end + 2


def text_of_value(value: str) -> str:
    """Do what `unfold` does with a value that was read as Latin-1."""
    text = value.strip(BLANKS)
    if "\n" in text:
        # RFC 5322 section 2.2.3: unfolding removes the CRLF and keeps the blank after it.
        text = text.replace("\r\n", "")
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode()
    except UnicodeDecodeError:
        return text


def _header_end(raw: bytes) -> tuple[int, int]:
    """Return the offsets after the last field and of the body."""
    if raw.startswith(b"\r\n"):
        return 0, 2
    at = raw.find(b"\r\n\r\n")
    return (at + 2, at + 4) if at >= 0 else (len(raw), len(raw))


def _field_end_before(raw: bytes, limit: int) -> int:
    """Return the end of the last field that ends at or before `limit`: a field is listed whole or not at all."""
    end = raw.rfind(b"\r\n", 0, limit)
    while end >= 0 and raw[end + 2 : end + 3] in (b" ", b"\t"):
        end = raw.rfind(b"\r\n", 0, end)
    return end + 2 if end >= 0 else 0


def _scan_odd(raw: bytes, limit: int, defects: list[str]) -> list[FieldSpan]:
    """Scan a header that is not well formed, field by field, and add what is wrong to `defects`."""
    spans: list[FieldSpan] = []
    found: set[str] = set()
    at = 0
    for field_end in islice(_FIELD_END.finditer(raw, 0, limit), MAX_FIELDS):
        end = field_end.end()
        if end > at:
            span, defect = _read_field(raw, at, end)
            if span is not None:
                spans.append(span)
            if defect:
                found.add(defect)
        at = end
    if at < limit:
        found.add("too_many_fields")
    if _BLANK_LINE.search(raw, 0, limit):
        found.add("blank_continuation")
    defects += [code for code in DEFECTS if code in found]
    return spans


def _read_field(raw: bytes, start: int, end: int) -> tuple[FieldSpan | None, str]:
    if raw[start : start + 1] in (b" ", b"\t"):
        return None, "leading_continuation"
    if start == 0 and _MBOX_LINE.match(raw):
        return None, "mbox_line"
    line_end = raw.find(b"\r\n", start, end)
    colon = raw.find(b":", start, end if line_end < 0 else line_end)
    name = _NAME.match(raw, start, max(colon, start))
    if name is None or raw[name.end() : colon].strip(b" \t"):
        return None, "not_a_field"
    defect = "" if name.end() == colon else "space_before_colon"
    return FieldSpan(name[0].decode(), start, end, colon + 1), defect


def unfold(raw_value: bytes) -> str:
    """Return a field's value as one line of text, without blanks around it.

    `raw_value` is what follows the colon, with line ends. UTF-8, else Latin-1: for matching and display, not to be
    written back. Encoded words stay as they are.
    """
    return text_of_value(raw_value.decode("latin-1"))


def fold(name: str, value: str) -> bytes:
    """Write one field with its CRLF: lines of at most 78 characters where blanks allow it, of 998 octets always.

    `value` is unfolded text, written in UTF-8. `unfold` gives it back, but that a word of more than 900 octets is
    broken by a blank, and runs of more than 60 blanks are shortened. Raises Malformed for an impossible name and for
    CR, LF or NUL.
    """
    if not _NAME.fullmatch(encoded := name.encode("utf-8", "replace")):
        raise Malformed("not a field name")
    if _UNFIT.search(value):
        raise Malformed("a field value has no CR, LF or NUL")
    text = value.strip(" \t")
    if len(encoded) + 2 + len(text) <= FOLD_AT:
        return b"%b: %b\r\n" % (encoded, text.encode("utf-8", "replace"))
    return b"\r\n".join(_fold_lines(encoded + b":", text)) + b"\r\n"


def _fold_lines(line: bytes, text: str) -> list[bytes]:
    lines: list[bytes] = []
    is_first = True
    for blanks, word in _WORD.findall(text):
        piece = (blanks[:MAX_BLANKS] or " ").encode() + word.encode("utf-8", "replace")
        if not is_first and len(line) + len(piece) > FOLD_AT:
            lines.append(line)
            line = b""
        line += piece
        is_first = False
        while len(line) > MAX_LINE:
            cut = _character_start(line, MAX_LINE - MAX_BLANKS)
            lines.append(line[:cut])
            line = b" " + line[cut:]
    return [*lines, line]


def _character_start(line: bytes, at: int) -> int:
    """Return the nearest offset at or before `at` where a UTF-8 character begins."""
    while line[at] & 0xC0 == 0x80:
        at -= 1
    return at
