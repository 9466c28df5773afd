"""What the header of a MIME part says of it, in every plausible reading (RFC 2045, RFC 2183).

Where a field stands twice, or a value has several readings, all of them are kept, and a code says that readers differ.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct

from gateway.inspection.parameters import MAX_VALUE, Value, read_value, without_comments

MAX_HEADER = 1 << 20  # octets of one part's header that are read
MAX_FIELDS = 2000  # fields of one part's header that are read
MAX_NAME = 1000  # characters of one name that are kept
MAX_NAMES = 40
MAX_TYPES = 8
MAX_BOUNDARIES = 4  # of one multipart that are tried
MAX_BOUNDARY = 70  # RFC 2046 section 5.1.1
NAME_KEYS = ("filename", "name")

# The encodings by the names under which readers know them; the standard's own five are in RFC 2045 section 6.1.
ENCODINGS = {
    "7bit": "7bit",
    "8bit": "8bit",
    "binary": "binary",
    "base64": "base64",
    "quoted-printable": "quoted-printable",
    "x-uuencode": "x-uuencode",
    "x-uue": "x-uuencode",
    "uuencode": "x-uuencode",
    "uue": "x-uuencode",
    "x-yenc": "x-yenc",
    "yenc": "x-yenc",
    "mac-binhex40": "x-binhex40",
    "x-binhex40": "x-binhex40",
    "x-mac-binhex40": "x-binhex40",
}
IDENTITY = frozenset({"7bit", "8bit", "binary"})

_BLANK_LINE = re.compile(rb"\n\r?\n")
_BLANKS_LINE = re.compile(rb"\n[ \t]++\r?\n")
# A field with its continuation lines, or, without a name, one line that is none. Line ends may be LF alone.
_FIELD = re.compile(
    r"([!-9;-~]++)[ \t]*+:([^\n]*+(?>(?:\n[ \t]++[^\n]*+){0,1000}))\n?|([^\n]*+\n|[^\n]++)",
)
_WORDS = re.compile(r"[a-z0-9-]+")


class Header(Struct, frozen=True):
    """One part's description. Each is given in all readings, that of most readers first; `kinds` are media types."""

    kinds: tuple[str, ...] = ()
    boundaries: tuple[str, ...] = ()
    charsets: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    encodings: tuple[str, ...] = ("7bit",)
    is_attachment: bool = False
    is_odd: bool = False  # the content type is not written as the standard has it, or not once
    defects: tuple[str, ...] = ()

    @property
    def is_multipart(self) -> bool:
        return any(kind.startswith("multipart/") for kind in self.kinds)


class HeaderSpan(Struct, frozen=True):
    """The MIME fields of one part's header, as key and value, and where the body may begin, the likeliest first."""

    fields: tuple[tuple[str, str], ...]
    body_starts: tuple[int, ...]
    defects: tuple[str, ...] = ()


def find_header(raw: bytes, start: int, end: int) -> HeaderSpan:
    """Find the header of the part at `start` to `end`. Line ends are CRLF or LF."""
    if raw[start : start + 1] == b"\n" or raw[start : start + 2] == b"\r\n":
        # Before a delimiter that follows at once the line end is the delimiter's.
        return HeaderSpan((), (min(end, raw.index(b"\n", start) + 1),))
    limit = min(end, start + MAX_HEADER)
    blank = _BLANK_LINE.search(raw, start, limit)
    defects: list[str] = []
    if blank is not None:
        header_end, body_start = blank.start() + 1, blank.end()
    else:
        header_end = body_start = limit
        if limit < end:
            defects.append("header_cut")
    text = raw[start:header_end].decode("latin-1")
    fields, strays = _fields(text, defects)
    starts = [body_start]
    if strays >= 0:
        # Some readers begin the body at the first line that is no field, others skip it.
        starts.insert(0, start + strays)
        if strays:
            defects.append("no_blank_line")
        elif not fields:
            del starts[1:]
    blanks = _BLANKS_LINE.search(raw, start, header_end)
    if blanks is not None:
        starts.append(blanks.end())
        defects.append("line_of_blanks")
    return HeaderSpan(tuple(fields), tuple(dict.fromkeys(starts)), tuple(defects))


def _fields(text: str, defects: list[str]) -> tuple[list[tuple[str, str]], int]:
    """Return the MIME fields and the offset of the first line that is no field, -1 without one."""
    fields: list[tuple[str, str]] = []
    stray = -1
    for number, found in enumerate(_FIELD.finditer(text)):
        if number >= MAX_FIELDS:
            defects.append("header_cut")
            if stray < 0:
                stray = found.start()
            break
        name = found[1]
        if name is None:
            if stray < 0 and found[0].strip():
                stray = found.start()
        elif name[:8].lower() == "content-":
            fields.append((name.lower(), unfolded(found[2])))
    return fields, stray


def unfolded(value: str) -> str:
    """Return a Latin-1 value with its lines joined (RFC 5322 section 2.2.3), as UTF-8 where it is that."""
    if "\n" in value or "\r" in value:
        value = value.replace("\r", "").replace("\n", "")
    value = value.strip(" \t")
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def read_header(fields: Iterable[tuple[str, str]]) -> Header:
    """Return what the MIME fields say. Keys are in lower case, values unfolded."""
    types: list[str] = []
    dispositions: list[str] = []
    encodings: list[str] = []
    for key, value in fields:
        if key == "content-type":
            types.append(value)
        elif key == "content-disposition":
            dispositions.append(value)
        elif key == "content-transfer-encoding":
            encodings.append(value)
    return _header(tuple(types), tuple(dispositions), tuple(encodings))


def _described(types: tuple[str, ...], dispositions: tuple[str, ...], encodings: tuple[str, ...]) -> Header:
    defects: dict[str, None] = {}
    if len(types) > 1 or len(dispositions) > 1 or len(encodings) > 1:
        defects["repeated_field"] = None
    type_values = _ends(types)
    disposition_values = _ends(dispositions)
    kinds = tuple(dict.fromkeys(kind for value in type_values for kind in value.kinds if "/" in kind))
    if len(kinds) > 1 or (types and not kinds):
        defects["ambiguous_type"] = None
    boundaries = tuple(_all(type_values, ("boundary",)))
    if len(boundaries) > 1:
        defects["ambiguous_boundary"] = None
    if any(len(boundary) > MAX_BOUNDARY for boundary in boundaries):
        defects["long_boundary"] = None
    names = _names(type_values, disposition_values, defects)
    if any(len(value) > MAX_VALUE for value in (*types, *dispositions, *encodings)):
        defects["header_cut"] = None
    return Header(
        kinds[:MAX_TYPES],
        boundaries[:MAX_BOUNDARIES],
        tuple(charset.lower() for charset in _all(type_values, ("charset",)))[:MAX_TYPES],
        names,
        encodings_of(encodings, defects) if encodings else ("7bit",),
        bool(names) or any("attachment" in value.kinds for value in disposition_values),
        len(types) > 1 or any(value.is_odd for value in type_values),
        tuple(defects),
    )


_remembered = lru_cache(maxsize=512)(_described)


def _header(types: tuple[str, ...], dispositions: tuple[str, ...], encodings: tuple[str, ...]) -> Header:
    # Most parts of most mail say one of a few things; what has a boundary or a name is not met again.
    if not dispositions and len(types) < 2 and len(encodings) < 2 and sum(map(len, types + encodings)) < 60:
        return _remembered(types, dispositions, encodings)
    return _described(types, dispositions, encodings)


def _ends(values: tuple[str, ...]) -> list[Value]:
    """Read the first and the last fields of a name: readers take the first or the last."""
    kept = values if len(values) <= 2 * MAX_TYPES else values[:MAX_TYPES] + values[-MAX_TYPES:]
    return [read_value(value) for value in kept]


def _all(values: Iterable[Value], keys: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(one for key in keys for value in values for one in value.parameters.get(key, ())))


def _names(types: list[Value], dispositions: list[Value], defects: dict[str, None]) -> tuple[str, ...]:
    values = [*dispositions, *types]
    if not any("name" in value.parameters or "filename" in value.parameters for value in values):
        return ()
    names = [name for name in _all(values, NAME_KEYS) if name]
    firsts = {value.parameters[key][0].casefold() for value in values for key in NAME_KEYS if key in value.parameters}
    if len(firsts) > 1:
        defects["ambiguous_name"] = None
    if len(names) > MAX_NAMES or any(len(name) > MAX_NAME for name in names):
        defects["long_name"] = None
        # The end of a name is what opens it.
        names = [name if len(name) <= MAX_NAME else name[: MAX_NAME // 2] + name[-MAX_NAME // 2 :] for name in names]
    return tuple(dict.fromkeys(names[:MAX_NAMES]))


def encodings_of(values: tuple[str, ...], defects: dict[str, None]) -> tuple[str, ...]:
    """Return the transfer encodings that readers could see in the values of Content-Transfer-Encoding."""
    found: dict[str, None] = {}
    kept = values if len(values) <= 2 * MAX_TYPES else values[:MAX_TYPES] + values[-MAX_TYPES:]
    for value in kept:
        plain = ENCODINGS.get(value.lower())
        if plain is not None:
            found[plain] = None
            continue
        defects["odd_encoding"] = None
        found.update(dict.fromkeys(_guessed(value[:MAX_VALUE])))
    if len(found) > 1:
        defects["ambiguous_encoding"] = None
    return tuple(found)


def _guessed(value: str) -> list[str]:
    """Return the encodings that a value which is none may be taken for; none of them is one too."""
    bare = without_comments(value).lower()
    exact = ENCODINGS.get(bare.strip(" \t\"';"))
    guessed = [exact] if exact is not None else []
    words = _WORDS.findall(bare, 0, 2000) + _WORDS.findall(value.lower(), 0, 2000)
    guessed += [ENCODINGS[word] for word in words if word in ENCODINGS]
    letters = "".join(words)
    if "base64" in letters or "base-64" in letters or "b64" in letters:
        guessed.append("base64")
    if "printable" in letters or letters == "qp":
        guessed.append("quoted-printable")
    return list(dict.fromkeys([*guessed, "7bit"] if exact is None else [exact, *guessed, "7bit"]))
