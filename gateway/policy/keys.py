"""Bypass keys: what is known of one, how strings in a Subject are recognised as one, and how they are taken out.

A key is hexadecimal digits, found by its keyed hash: nobody who reads the policy in force can write one. It is switched
by its own instants, so that a month's change needs nobody to be awake. The time of all that is done with a text is
linear in its length.
"""

import hmac
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from msgspec import Struct

from gateway.mail.address import Address
from gateway.policy.document import KeyClass
from gateway.policy.periods import begins_at, next_period

MIN_LENGTH, MAX_LENGTH = 8, 32  # characters, as a class may ask for
MAX_CANDIDATES = 64  # strings of one text that are hashed
MAX_PLACES = 500  # of one text that are looked at: a Subject is shorter than that many groups
_KEY = re.compile(r"(?=.*[0-9])(?=.*[A-F])[0-9A-F]{8,32}")
_NUMERAL = re.compile("[0-9]")
# A word of hexadecimal digits alone: what goes on with any letter or digit is another word.
_RUN = re.compile(r"(?<![^\W_])[0-9A-Fa-f]{2,32}+(?![^\W_])")
# Writing programs put typographic hyphens and blanks in the place of ours.
_HYPHENS = frozenset("-\u2010\u2011\u2012\u2013\u2014\u2212")
_BLANKS = frozenset(" \t\u00a0\u202f")
_PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">", '"': '"', "'": "'", "\u201c": "\u201d", "\u201e": "\u201c"}
_PAIRS |= {"\u2018": "\u2019", "\u00ab": "\u00bb", "\u00bb": "\u00ab"}
_DANGLING = " \t\u00a0-\u2013\u2014|/,;"


Span = tuple[int, int]


class KeyState(StrEnum):
    """Where a key stands at a moment. Only the middle two open anything."""

    WAITING = "waiting"  # for its month
    VALID = "valid"
    GRACE = "grace"
    EXPIRED = "expired"


OPENING = frozenset({KeyState.VALID, KeyState.GRACE})


class BypassKey(Struct, frozen=True, tag="bypass_key"):
    """One key of a class, without the key itself: `digest` is its keyed hash as hexadecimal digits.

    `period` is the month of a monthly key, "" for a personal one. `uses` is how many messages to one recipient each it
    opens, 0 without a limit. `recipients` and `senders` (addresses, domains) and `types` (endings of file names) limit
    it further than its class does; empty: no further.
    """

    id: str
    key_class: str
    digest: str
    length: int
    valid_from: datetime
    expires_at: datetime | None
    period: str = ""
    uses: int = 0
    recipients: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    owner: str = ""
    reason: str = ""


class Candidate(NamedTuple):
    """A string that may be a key: where it stands, and its digits in upper case."""

    start: int
    end: int
    text: str


def is_key(text: str) -> bool:
    """Tell whether a text can be a key as it is hashed. Letters and digits both: no number of an order is one."""
    return _KEY.fullmatch(text) is not None


def digest_of(match_key: bytes, text: str) -> str:
    """Return the keyed hash of a key (HMAC with SHA-256, RFC 2104) as hexadecimal digits."""
    return hmac.digest(match_key, text.upper().encode("ascii"), "sha256").hex()


def state_of(key: BypassKey, classes: Mapping[str, KeyClass], now: datetime) -> KeyState:
    """Return where a key stands. One whose class is no more has expired; grace is for what changes by the month."""
    key_class = classes.get(key.key_class)
    if key_class is None:
        return KeyState.EXPIRED
    if now < key.valid_from:
        return KeyState.WAITING
    if key.expires_at is None or now < key.expires_at:
        return KeyState.VALID
    if key.period and now < key.expires_at + timedelta(days=key_class.grace_days):
        return KeyState.GRACE
    return KeyState.EXPIRED


def monthly_key(
    name: str, key_class: KeyClass, period: str, zone: tzinfo, *, since: datetime | None = None
) -> BypassKey:
    """Return a class's key of a month as it will be made; `since`: it begins only then."""
    begins, ends = begins_at(period, zone), begins_at(next_period(period), zone)
    return BypassKey("", name, "", key_class.length, since or begins, ends, period=period)


def is_among(address: Address, parties: Collection[str]) -> bool:
    """Tell whether an address or its domain is named; none named: all are."""
    return not parties or address.key in parties or address.ascii_domain in parties


def candidates(text: str, lengths: Collection[int]) -> list[Candidate]:
    """Return what may be a key of one of these lengths: a word, or words of equal size with hyphens or blanks between.

    What overlaps is all told. Groups with hyphens that go on with another group of their size are part of something
    longer, and are none. Of an absurd number of groups the first ones are looked at.
    """
    if _NUMERAL.search(text) is None:  # most
        return []
    runs = [match.span() for match in _RUN.finditer(text)]
    places: list[tuple[Span, ...]] = [((start, end),) for start, end in runs if end - start in lengths]
    for group, kind in _groups(text, runs) if len(runs) > 1 else ():
        places += _within(group, kind, lengths)
        if len(places) > MAX_PLACES:
            break
    found = []
    for place in places[:MAX_PLACES]:
        digits = "".join([text[start:end] for start, end in place]).upper()
        if is_key(digits):
            found.append(Candidate(place[0][0], place[-1][1], digits))
    return found[:MAX_CANDIDATES]


def _groups(text: str, runs: Sequence[Span]) -> Iterator[tuple[list[Span], frozenset[str]]]:
    """Yield the longest rows of runs of one size, all with one hyphen or all with one blank between."""
    group: list[Span] = []
    kind: frozenset[str] | None = None
    for run, following in pairwise(runs):
        between = _between(text, run, following)
        if between is not kind or not group:
            if kind is not None:
                yield group, kind
            group, kind = [run], between
        group.append(following)
        if between is None:
            group = []
    if kind is not None and group:
        yield group, kind


def _between(text: str, run: Span, following: Span) -> frozenset[str] | None:
    """Return what separates two runs, None unless they are of one size with one character between."""
    if following[0] - run[1] != 1 or run[1] - run[0] != following[1] - following[0]:
        return None
    return next((kind for kind in (_HYPHENS, _BLANKS) if text[run[1]] in kind), None)


def _within(group: list[Span], kind: frozenset[str], lengths: Collection[int]) -> Iterator[tuple[Span, ...]]:
    """Yield the parts of a row that have a key's length. Among blanks other words and numbers may stand around it."""
    size = group[0][1] - group[0][0]
    for count in {length // size for length in lengths if length % size == 0 and length > size}:
        if kind is _BLANKS or count == len(group):
            for first in range(min(len(group) - count + 1, MAX_PLACES)):
                yield tuple(group[first : first + count])


def without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return a text without these spans, the brackets or quotes right around them, and what separated them."""
    end = len(text)
    for start, stop in sorted(spans, reverse=True):
        if stop <= end:  # of two that overlap the later one went already, and takes the rest with it
            text, end = _cut(text, start, stop)
        elif start < end:
            text, end = _cut(text, start, end)
    return text.strip()


def _cut(text: str, start: int, end: int) -> tuple[str, int]:
    """Return the text without one span, and where the part before it ends."""
    while start > 0 and end < len(text) and _PAIRS.get(text[start - 1]) == text[end]:
        start, end = start - 1, end + 1
    before, after = text[:start].rstrip(), text[end:].lstrip()
    if not after:
        before = before.rstrip(_DANGLING)
    elif not before:
        after = after.lstrip(_DANGLING + ".:")
    joint = " " if before and after and after[0] not in ".,;:!?)]}" else ""
    return before + joint + after, len(before)
