"""Values of MIME header fields with their parameters, in every way in which readers read them (RFC 2045, RFC 2231).

A value that is written by the book has one reading and is read at once. Any other is cut in several ways: with quotes
and comments and without, at semicolons and at blanks. All that any of them yields is returned.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from gateway.inspection.words import codec_of, decode_words

MAX_VALUE = 64 * 1024  # characters of one value
MAX_PARAMETERS = 300  # of one value, in each reading
MAX_READINGS = 12  # kept of one parameter, and of the media type
MAX_CACHED = 160  # characters; longer values are seldom met again

_TYPE = r"[!#$&-'*+.0-9A-Z^_`a-z{|}~-]++"  # a token without its slash, RFC 2045 section 5.1
_PLAIN = re.compile(
    rf"({_TYPE}(?:/{_TYPE})?)[ \t]*+"
    rf'((?>(?:;[ \t]*+[!#$&+.0-9A-Z^_`a-z{{|}}~-]++=(?:"[^"\\\x00-\x1f]*+"|[!#$&+./:0-9=?A-Z^_`a-z{{|}}~-]++)'
    r"[ \t]*+){0,40}));?[ \t]*+"
)
_PLAIN_PARAMETER = re.compile(r';[ \t]*+([^=;"]++)=(?:"([^"]*+)"|([^; \t"]++))')
_COMMENT = re.compile(r"\([^()]*+\)")
_QUOTED_PIECE = re.compile(r'(?>(?:[^;"]++|"(?>(?:[^"\\]++|\\.)*)"?)+)')
_NAMED = re.compile(r"[ \t\"']*([A-Za-z][!#$&+.0-9A-Z^_`a-z{|}~-]{0,60}+(?:\*[0-9]{0,4}\*?)?)[ \t]*+=(.*)", re.DOTALL)
# Wherever a name that matters stands, whatever is around it: what searching readers find.
_ANYWHERE = re.compile(
    r"(?<![a-z0-9_-])((?:boundary|filename|name|charset)(?:\*[0-9]{0,4}\*?)?)[ \t]*+=[ \t]*+"
    r"(\"[^\"]*+\"?|'[^']*+'|[^;\s]++)",
    re.IGNORECASE,
)
_TYPE_ANYWHERE = re.compile(r"([!#$&+.0-9A-Z^_`a-z{|}~-]++)[ \t]*+/[ \t]*+([!#$&+.0-9A-Z^_`a-z{|}~-]++)")
_ESCAPE = re.compile(r"\\(.)")
_SECTION = re.compile(r"([^*]+)\*([0-9]{1,4})?(\*)?")
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")


class Value(Struct, frozen=True):
    """One field's value. `kinds` are its media type or disposition and `parameters` all values of a name, both in lower
    case but for the values, the first being the one of most readers. `is_odd` if readers could read it differently."""

    kinds: tuple[str, ...] = ()
    parameters: dict[str, tuple[str, ...]] = {}
    is_odd: bool = False


def read_value(text: str) -> Value:
    """Read an unfolded value."""
    return _cached(text) if len(text) <= MAX_CACHED else _read(text[:MAX_VALUE])


def _read(text: str) -> Value:
    found = _PLAIN.fullmatch(text)
    if found is not None:
        parameters: dict[str, tuple[str, ...]] = {}
        for name, quoted, bare in _PLAIN_PARAMETER.findall(found[2]):
            key = name.lower()
            if key in parameters or quoted.startswith("'") or " " in quoted[:1] + quoted[-1:]:
                return _read_odd(text)
            value = quoted or bare
            is_coded = "%" in value or "=?" in value
            parameters[key] = tuple(dict.fromkeys(_decoded_readings(value))) if is_coded else (value,)
        return Value((found[1].lower(),), parameters)
    return _read_odd(text)


_cached = lru_cache(maxsize=1024)(_read)


def _read_odd(text: str) -> Value:
    found: dict[str, dict[str, None]] = {}
    for pairs in _cuts(text):
        for name, value in _joined(pairs):
            values = found.setdefault(name, {})
            for reading in _value_readings(value):
                if len(values) < MAX_READINGS:
                    values[reading] = None
    parameters = {name: tuple(values) for name, values in found.items() if values}
    return Value(_kinds(text), parameters, is_odd=True)


def _kinds(text: str) -> tuple[str, ...]:
    """Return the media types that are found before the parameters, and wherever else one stands for one."""
    bare = without_comments(text)
    found: dict[str, None] = {}
    for one in (bare, text):
        head = one.partition(";")[0].strip(" \t\"'").lower()
        slash = _TYPE_ANYWHERE.search(head)
        if slash is not None:
            found[f"{slash[1]}/{slash[2]}"] = None
        elif len(head) < 100 and (words := head.split()):  # none: blanks that only Unicode knows
            found[words[0]] = None
    late = _TYPE_ANYWHERE.search(bare.lower())
    if not any("/" in kind for kind in found) and late is not None:
        found[f"{late[1]}/{late[2]}"] = None
    return tuple(found)[:MAX_READINGS]


def without_comments(text: str) -> str:
    """Return a value without comments outside quotes (RFC 822 section 3.4.3), nested ones too."""
    if "(" not in text:
        return text
    kept: list[str] = []
    depth = 0
    is_quoted = False
    is_escaped = False
    for character in text:
        if is_escaped:
            is_escaped = False
        elif character == "\\":
            is_escaped = True
        elif character == '"' and not depth:
            is_quoted = not is_quoted
        elif character == "(" and not is_quoted:
            depth += 1
        elif character == ")" and depth:
            depth -= 1
            continue
        if not depth:
            kept.append(character)
    return "".join(kept)


def _cuts(text: str) -> Iterator[list[tuple[str, str]]]:
    """Yield the parameters as names in lower case and values as written, once for each way to cut them."""
    bare = without_comments(text)
    yield _named(_QUOTED_PIECE.findall(bare))
    if bare != text:
        yield _named(_QUOTED_PIECE.findall(text))
    yield _named(text.split(";", MAX_PARAMETERS))
    yield [(name.lower(), value) for name, value in _ANYWHERE.findall(text)[:MAX_PARAMETERS]]
    last_first = _ANYWHERE.findall(text)[-MAX_PARAMETERS:]
    yield [(name.lower(), value) for name, value in reversed(last_first)]


def _named(pieces: list[str]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for piece in pieces[:MAX_PARAMETERS]:
        found = _NAMED.match(piece)
        if found is not None:
            pairs.append((found[1].lower(), found[2]))
    return pairs


def _joined(pairs: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield names with values, continuations put together (RFC 2231 section 3) by number and as they stand."""
    sections: dict[str, list[tuple[int, str, bool]]] = {}
    for name, value in pairs:
        section = _SECTION.fullmatch(name)
        if section is None:
            yield name, value
        elif section[2] is None:
            yield from ((section[1], one) for one in extended_readings(_unquoted(value)))
        else:
            sections.setdefault(section[1], []).append((int(section[2]), _unquoted(value), bool(section[3])))
    for name, parts in sections.items():
        for ordered in (sorted(parts, key=lambda part: part[0]), parts):
            yield from ((name, one) for one in _assembled(ordered))
        # A reader that knows no continuations takes the last or each for itself.
        yield name, parts[0][1]
        yield name, parts[-1][1]


def _assembled(parts: list[tuple[int, str, bool]]) -> Iterator[str]:
    if any(is_extended for _, _, is_extended in parts):
        # Only sections with a star are encoded; a percent sign in another one is to stay (RFC 2231 section 4.1).
        yield from extended_readings("".join(text if star else text.replace("%", "%25") for _, text, star in parts))
    yield "".join(text for _, text, _ in parts)


def extended_readings(text: str) -> list[str]:
    """Return the readings of `charset'language'percent-encoded` (RFC 2231 section 4): by its charset, and others."""
    charset, _, rest = text.partition("'")
    _, quote, encoded = rest.partition("'")
    if not quote:
        return [*_percent_readings(text, ""), text]
    return [*_percent_readings(encoded, codec_of(charset)), encoded]


def _percent_readings(text: str, codec: str) -> list[str]:
    octets = unquote_to_bytes(text.encode("utf-8", "replace"))
    readings = [octets.decode(codec, "replace")] if codec else []
    readings.append(octets.decode("utf-8", "replace"))
    if "\ufffd" in readings[-1]:
        readings.append(octets.decode("latin-1"))
    return readings


def _unquoted(value: str) -> str:
    value = value.strip(" \t\r\n")
    if value.startswith('"'):
        inner = value[1:-1] if value.endswith('"') and len(value) > 1 else value[1:]
        return _ESCAPE.sub(r"\1", inner)
    return value


def _value_readings(value: str) -> Iterator[str]:
    """Yield what readers take a parameter's value for: with quotes undone, cut at blanks, decoded."""
    value = value.strip(" \t\r\n")
    for reading in dict.fromkeys(_quote_readings(value)):
        if reading or not value.strip("\"'"):  # an empty boundary is one to some readers
            yield from _decoded_readings(reading)


def _decoded_readings(text: str) -> Iterator[str]:
    if "=?" in text:
        yield decode_words(text)  # not allowed here (RFC 2047 section 5), written by many and read by most
        yield decode_words(text.replace(" ", ""))
    yield text
    if "%" in text and _PERCENT.search(text):
        yield from _percent_readings(text, "")


def _quote_readings(value: str) -> Iterator[str]:
    if value.startswith('"'):
        inner = _UNCLOSED.match(value)
        quoted = inner[1] if inner is not None else value[1:]
        yield _ESCAPE.sub(r"\1", quoted)
        yield quoted  # backslashes that stay: Windows paths
        rest = value[inner.end() :] if inner is not None else ""
        if rest.strip('" \t'):
            yield _ESCAPE.sub(r"\1", value.replace('"', ""))
            yield value[1:].partition('"')[0]
        return
    bare = _BARE.match(value)
    if bare is not None:
        yield bare[0]
    yield value
    if value.startswith("'") and value.count("'") > 1:
        yield value[1:].partition("'")[0]
    if '"' in value:
        yield value.replace('"', "")
        yield value.partition('"')[0]


_UNCLOSED = re.compile(r'"((?>(?:[^"\\]++|\\.)*))"?')
_BARE = re.compile(r"[^\s;,\"]++")
