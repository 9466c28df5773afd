"""Make the bytes for one group of recipients: transforms carried out, claims of our trust cut, our own fields on top.

The received bytes are never written anew, only cut and added to. What changed is told line by line for the trace; our
own trace fields are not, since every message has them.
"""

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from gateway.inspection.facts import Facts, FieldFact
from gateway.inspection.marker import NAME, passes, sign
from gateway.inspection.words import decode_words
from gateway.mail.address import Address
from gateway.mail.authres import AuthResult, authentication_results
from gateway.mail.encoded_words import encoded
from gateway.mail.envelope import Direction
from gateway.mail.fields import fold
from gateway.mail.splice import Pieces, splice
from gateway.transforms.trust import claims
from gateway.verdict import (
    AddField,
    Case,
    Change,
    PrefixSubject,
    RemoveFields,
    ReplaceField,
    SetField,
    Transform,
    Verdict,
)

MARKER = NAME.lower()
# What begins with a continuation line would continue the last field that we put on top: it becomes a field by itself.
STRAY = b"X-Gatepost-Stray:"
MAX_CHANGES = 100  # lines told for the trace
MAX_LINE = 1000  # characters of one


class Ours(Protocol):
    """What is needed of the policy."""

    @property
    def hostname(self) -> str: ...
    @property
    def own_names(self) -> Collection[str]: ...
    @property
    def own_domains(self) -> Collection[str]: ...
    @property
    def hop_key(self) -> bytes: ...


class Applied(NamedTuple):
    """The message as it goes on. `message_id` is its Message-ID then, "" if that is as it was."""

    pieces: Pieces
    changes: tuple[Change, ...]
    message_id: str = ""


class _Edits:
    """What is cut, put in place and put on top, and how it is told."""

    def __init__(self) -> None:
        self.fates: dict[tuple[int, int], bytes] = {}  # by span; empty bytes cut it
        self.told: dict[tuple[int, int], tuple[str | None, str | None]] = {}
        self.values: dict[tuple[int, int], str] = {}  # those put in place
        self.added: list[tuple[str, str]] = []
        self.message_id = ""

    def cut(self, start: int, end: int, line: str | None) -> None:
        """Cut a span; `line` is what stood there, None for what is not worth telling."""
        self.fates[start, end] = b""
        if line is None:
            self.told.pop((start, end), None)
        else:
            self.told[start, end] = (line[:MAX_LINE], None)

    def put(self, field: FieldFact, value: str) -> None:
        span = field.start, field.end
        self.fates[span] = fold(field.name, value)
        self.values[span] = value
        self.told[span] = (f"{field.name}: {field.value}"[:MAX_LINE], f"{field.name}: {value}"[:MAX_LINE])
        if field.name.lower() == "message-id":
            self.message_id = value

    def add(self, name: str, value: str) -> None:
        self.added.append((name, value))

    def set(self, facts: Facts, name: str, value: str) -> None:
        """Put a value into the first field of the name that is still there, and cut the others."""
        standing = self._standing(facts, name)
        for field in standing[1:]:
            self.cut(field.start, field.end, f"{field.name}: {field.value}")
        if standing:
            self.put(standing[0], value)
        key = name.lower()
        places = [place for place, (added, _) in enumerate(self.added) if added.lower() == key]
        for place in reversed(places if standing else places[1:]):
            del self.added[place]
        if places and not standing:
            self.added[places[0]] = (name, value)
        elif not standing:
            self.add(name, value)

    def value(self, facts: Facts, name: str) -> str:
        """Return what the first field of the name says by now, "" without one."""
        for field in self._standing(facts, name):
            return self.values.get((field.start, field.end), field.value)
        return next((value for added, value in self.added if added.lower() == name.lower()), "")

    def _standing(self, facts: Facts, name: str) -> list[FieldFact]:
        key = name.lower()
        return [field for field in facts.fields if field.key == key and not _is_cut(field, self)]


def apply(
    raw: bytes,
    case: Case,
    verdict: Verdict,
    *,
    direction: Direction,
    received: bytes,
    policy: Ours,
    results: Sequence[AuthResult] = (),
) -> Applied:
    """Return the message for the verdict's recipients of one direction.

    `received` is our trace field with its CRLF. `results` are what was verified of a message from outside; without any,
    no Authentication-Results is written.
    """
    facts = case.facts
    inbound = direction is Direction.INBOUND
    claiming = list(claims(raw, facts, policy.own_names, policy.own_domains)) if inbound else []
    if not (verdict.transforms or claiming or results or facts.markers or facts.defects):
        # Most mail: nothing is cut, two fields go on top.
        return Applied((received + _first_marker(policy.hop_key), raw), ())
    edits = _Edits()
    _transform(facts, verdict.transforms, edits)
    if "leading_continuation" in facts.defects and not _is_cut(facts.fields[0], edits):
        edits.fates[0, 0] = STRAY
    for start, end, line in claiming:
        edits.cut(start, end, line)
    prepend = [authentication_results(policy.hostname, results)] if results else []
    prepend.append(received)
    if policy.hop_key:
        prepend.append(_marker(facts, edits, policy.hop_key))
    pieces = splice(
        raw,
        prepend=b"".join([*prepend, *[fold(name, value) for name, value in edits.added]]),
        remove=[span for span, new in edits.fates.items() if not new],
        replace=[(*span, new) for span, new in edits.fates.items() if new],
    )
    return Applied(pieces, _changes(edits, verdict.recipients), edits.message_id)


def _is_cut(field: FieldFact, edits: _Edits) -> bool:
    return edits.fates.get((field.start, field.end)) == b""


def _transform(facts: Facts, transforms: Sequence[Transform], edits: _Edits) -> None:
    """Carry out transforms in their order; of two that change the same field the later one counts."""
    for transform in transforms:
        if isinstance(transform, RemoveFields):
            for index in transform.indexes:
                field = facts.fields[index]
                edits.cut(field.start, field.end, f"{field.name}: {field.value}" if field.name else field.value)
        elif isinstance(transform, ReplaceField):
            edits.put(facts.fields[transform.index], transform.value)
        elif isinstance(transform, AddField):
            edits.add(transform.name, transform.value)
        elif isinstance(transform, SetField):
            edits.set(facts, transform.name, transform.value)
        elif isinstance(transform, PrefixSubject):
            _prefix_subject(facts, transform.text, edits)


def _prefix_subject(facts: Facts, text: str, edits: _Edits) -> None:
    subject = edits.value(facts, "subject")
    if text in decode_words(subject):
        return
    if not subject:
        edits.set(facts, "Subject", encoded(text))
    elif text.isascii():
        edits.set(facts, "Subject", f"{text} {subject}")
    else:
        # RFC 2047 section 6.2: the blank between two encoded words is not shown, so it goes into the first.
        is_encoded = subject.startswith("=?")
        edits.set(facts, "Subject", f"{encoded(f'{text} ' if is_encoded else text)} {subject}")


@lru_cache(maxsize=16)
def _first_marker(key: bytes) -> bytes:
    """Return our hop marker for a message that has none yet; nothing without a key."""
    return f"{NAME}: {sign(1, key)}\r\n".encode() if key else b""


def _marker(facts: Facts, edits: _Edits, key: bytes) -> bytes:
    """Return our hop marker, one pass further, and cut those that the message has."""
    if facts.markers:
        for field in facts.fields:
            if field.name.lower() == MARKER:
                edits.cut(field.start, field.end, None)
    return f"{NAME}: {sign(passes(facts.markers, key) + 1, key)}\r\n".encode()


def _changes(edits: _Edits, recipients: tuple[Address, ...]) -> tuple[Change, ...]:
    added = [(None, f"{name}: {value}"[:MAX_LINE]) for name, value in edits.added]
    told: list[tuple[str | None, str | None]] = [*edits.told.values(), *added]
    if len(told) > MAX_CHANGES:
        more = len(told) - MAX_CHANGES
        told = [*told[:MAX_CHANGES], (f"({more} more lines)", f"({more} more lines)")]
    return tuple([Change(recipients, before, after) for before, after in told])
