"""Fields from outside that claim our trust: whoever reads our mail behind us would believe them.

Our own fields, Exchange's internal ones, and Authentication-Results under our name (RFC 8601 section 5), however oddly
the name is written. A results field that cannot be read counts as ours: some reader may find our name in it.
"""

import re
from collections.abc import Collection, Iterator
from functools import lru_cache

from gateway.inspection.facts import Facts
from gateway.mail.fields import unfold

CLAIMING = (
    "x-gatepost-",
    "x-ms-exchange-organization-",
    "x-ms-exchange-forest-",
    "x-ms-exchange-crosstenant-",
    "x-forefront-",
)
RESULTS = "authentication-results"
MAX_COMMENTS = 100  # of one field; with more it cannot be read

# Fields that a scan does not list, because there are too many, are looked through as bytes.
_CLAIMING_BYTES = re.compile(
    rb"^(?:"
    + b"|".join(re.escape(name.encode()) for name in (*CLAIMING, RESULTS))
    + rb")[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*",
    re.IGNORECASE | re.MULTILINE,
)
_UNLISTED = frozenset({"header_too_long", "too_many_fields"})
_ID = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s;()",/]+)')
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def claims(
    raw: bytes, facts: Facts, names: Collection[str], domains: Collection[str]
) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and text of each field that claims our trust.

    `names` are host names of ours, `domains` our domains, all in lower case; names below our domains are ours as well.
    """
    for field in [field for field in facts.fields if _may_claim(field.name)]:
        if field.name.lower() != RESULTS or is_ours(field.value, names, domains):
            yield field.start, field.end, f"{field.name}: {field.value}"
    if not _UNLISTED.isdisjoint(facts.defects):
        seen = facts.fields[-1].end if facts.fields else 0
        for match in _CLAIMING_BYTES.finditer(raw, seen, facts.body_start):
            yield match.start(), match.end(), unfold(match[0])


@lru_cache(maxsize=4096)
def _may_claim(name: str) -> bool:
    """Tell whether a field of this name can claim our trust. Few names make up nearly all mail."""
    key = name.lower()
    return key == RESULTS or key.startswith(CLAIMING)


def is_ours(value: str, names: Collection[str], domains: Collection[str]) -> bool:
    """Tell whether an Authentication-Results value claims to be ours (RFC 8601 section 2.2: `[CFWS] authserv-id`)."""
    rest = _without_comments(value)
    found = _ID.match(rest) if rest is not None else None
    if found is None:
        return True
    name = (_ESCAPED.sub(r"\1", found[1]) if found[1] is not None else found[2]).strip().lower().rstrip(".")
    return name in names or name in domains or any(name.endswith("." + domain) for domain in domains)


def _without_comments(value: str) -> str | None:
    """Return a value without blanks and comments before its first word; None if a comment is not closed."""
    rest = value.lstrip()
    for _ in range(MAX_COMMENTS):
        if not rest.startswith("("):
            return rest
        end = _comment_end(rest)
        if not end:
            return None
        rest = rest[end:].lstrip()
    return None


def _comment_end(text: str) -> int:
    """Return the offset after the comment that begins `text`, 0 if it has none. They nest (RFC 5322 section 3.2.2)."""
    depth, at = 0, 0
    while at < len(text):
        letter = text[at]
        if letter == "\\":
            at += 1
        elif letter == "(":
            depth += 1
        elif letter == ")":
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return 0
