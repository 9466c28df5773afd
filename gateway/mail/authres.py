"""Authentication-Results (RFC 8601): written for what we verified, read from those whose word counts.

Whether a field is to be believed is not decided here: compare `authserv_id`.
"""

import re
from collections.abc import Sequence

from msgspec import Struct

from gateway.mail.errors import Malformed
from gateway.mail.fields import fold

MAX_VALUE = 16 * 1024  # characters of a value that are read
MAX_RESULTS = 100

_VALUE = r'(?:"(?>(?:[^"\\]++|\\.)*)"|[^\s";()]++)'
_COMMENT = r"\((?>(?:[^()\\]++|\\.|\((?>(?:[^()\\]++|\\.)*)\))*)\)"
_TOKEN = re.compile(rf"(?P<blank>\s++|{_COMMENT})|(?P<end>;)|(?P<text>{_VALUE})|(?P<odd>.)", re.DOTALL)
_METHOD = re.compile(r"([A-Za-z0-9][\w-]*+)(?:/([0-9]+))?=(.*)", re.DOTALL)
_PROPERTY = re.compile(r"([A-Za-z][\w-]*+)\.([A-Za-z][\w-]*+)=(.*)", re.DOTALL)
_KEYWORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
# RFC 2045 section 5.1: a token needs no quotes. RFC 8601 section 2.2 lets a property also be a mailbox or @domain.
_TOKEN_VALUE = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+(?:@[A-Za-z0-9.-]+)?|@[A-Za-z0-9.-]+")
_UNFIT = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TO_ESCAPE = re.compile(r'(["\\])')


class AuthResult(Struct, frozen=True):
    """What one method found, e.g. `dkim`, `pass`; properties are like ("header", "d", "corp.example")."""

    method: str
    result: str
    reason: str = ""
    properties: tuple[tuple[str, str, str], ...] = ()


class AuthenticationResults(Struct, frozen=True):
    """One field as read: keywords in lower case, values as written. `is_whole`: all of it made sense."""

    authserv_id: str
    results: tuple[AuthResult, ...]
    is_whole: bool = True


def authentication_results(authserv_id: str, results: Sequence[AuthResult]) -> bytes:
    """Write the field with its CRLF; no results are written as `none` (RFC 8601 section 2.2).

    Values are quoted where they need it; controls in them become blanks. Raises Malformed for methods and results
    that are no keywords.
    """
    parts = [_write_result(result) for result in results] or ["none"]
    return fold("Authentication-Results", "; ".join([_write_value(authserv_id), *parts]))


def _write_result(result: AuthResult) -> str:
    words = [f"{_keyword(result.method)}={_keyword(result.result)}"]
    if result.reason:
        words.append(f"reason={_write_value(result.reason)}")
    for kind, name, value in result.properties:
        words.append(f"{_keyword(kind)}.{_keyword(name)}={_write_value(value)}")
    return " ".join(words)


def _keyword(text: str) -> str:
    if not _KEYWORD.fullmatch(text):
        raise Malformed("not a keyword")
    return text


def _write_value(text: str) -> str:
    text = _UNFIT.sub(" ", text)
    return text if _TOKEN_VALUE.fullmatch(text) else '"' + _TO_ESCAPE.sub(r"\\\1", text) + '"'


def parse_authentication_results(value: str) -> AuthenticationResults:
    """Read an unfolded value. Raises Malformed only if no authserv-id can be found; odd parts after it are left out.

    Comments are ignored. At most 100 results and 16,384 characters are read.
    """
    sections, is_whole = _sections(value[:MAX_VALUE])
    if not sections[0]:
        raise Malformed("no authserv-id")
    # After the authserv-id a version may stand (RFC 8601 section 2.2); there is but one.
    is_whole = is_whole and len(value) <= MAX_VALUE and len(sections) - 1 <= MAX_RESULTS
    results: list[AuthResult] = []
    for section in sections[1 : MAX_RESULTS + 1]:
        result = _read_result(section)
        if result is not None:
            results.append(result)
        elif section and section != ["none"]:
            is_whole = False
    return AuthenticationResults(_read_value(sections[0][0]), tuple(results), is_whole)


def _sections(text: str) -> tuple[list[list[str]], bool]:
    """Split at semicolons into words; blanks around "=", "/" and "." do not part them (RFC 8601 section 2.2)."""
    sections: list[list[str]] = [[]]
    is_whole = True
    is_apart = True
    for token in _TOKEN.finditer(text):
        words = sections[-1]
        if token.lastgroup == "text":
            word = token["text"]
            if words and not (is_apart and (len(sections) == 1 or _are_apart(words[-1], word))):
                words[-1] += word
            else:
                words.append(word)
        elif token.lastgroup == "end":
            sections.append([])
        elif token.lastgroup == "odd":
            is_whole = False
            if token["odd"] in '"(':
                break  # never closed: what follows has no certain reading
        is_apart = token.lastgroup != "text"
    return sections, is_whole


def _are_apart(left: str, right: str) -> bool:
    """Tell whether a blank between two words parts them: not before the value, nor around the marks of its name."""
    equals = left.find("=")
    if equals >= 0:
        return equals != len(left) - 1
    return left[-1] not in "/." and right[0] not in "=/."


def _read_result(words: list[str]) -> AuthResult | None:
    method = _METHOD.fullmatch(words[0]) if words else None
    if method is None:
        return None
    reason = ""
    properties: list[tuple[str, str, str]] = []
    for word in words[1:]:
        if found := _PROPERTY.fullmatch(word):
            properties.append((found[1].lower(), found[2].lower(), _read_value(found[3])))
        elif word[:7].lower() == "reason=":
            reason = _read_value(word[7:])
    return AuthResult(method[1].lower(), _read_value(method[3]).lower(), reason, tuple(properties))


def _read_value(text: str) -> str:
    return _ESCAPED.sub(r"\1", text[1:-1]) if len(text) > 1 and text[0] == text[-1] == '"' else text
