"""Open what a bypass key in the Subject opens, and take the key out of the Subject on its way in and out.

Reads Subject and Thread-Topic, the one author that readers show, the attachments' names. A key counts in the one
Subject field of a message from outside; what it opens is its class's list, never the safety floor. Strings like a key
that are none, or no more, are noted and have no effect: outside nobody learns which it was. Every key that is seen, in
From too, is marked as a secret, so that what is stored of the message does not hold it.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from gateway.filters import Filter, FilterOptions
from gateway.inspection.facts import Facts, Secret
from gateway.inspection.words import decode_words, encode_words
from gateway.mail.address import Address
from gateway.mail.envelope import Direction
from gateway.policy.compile import Policy
from gateway.policy.document import KeyClass
from gateway.policy.keys import (
    OPENING,
    BypassKey,
    Candidate,
    KeyState,
    candidates,
    digest_of,
    is_among,
    state_of,
    without,
)
from gateway.verdict import Action, Answers, Case, Finding, KeyUseQuestion, Kind, Question, ReplaceField, Unknown

CLEANED = frozenset({"subject", "thread-topic"})
LOOKED_AT = CLEANED | {"from"}
# With these there may be another Subject field that nobody looked at.
UNSEEN = frozenset({"header_too_long", "too_many_fields"})
MAX_FIELDS = 10  # looked at in one message
MAX_ROUNDS = 3


class Options(FilterOptions):
    """What keys open is said by their classes."""


class Seen(NamedTuple):
    """A string that is or may be a key, and where: `field` is the position in `Facts.fields`."""

    field: int
    start: int
    end: int
    digest: str
    key: BypassKey | None
    in_subject: bool


def ask(case: Case, options: Options, policy: Policy) -> Iterable[Question]:
    if not policy.ledger.has_limited_keys:
        return ()
    return _questions(case, policy)


def _questions(case: Case, policy: Policy) -> Iterator[Question]:
    seen = _look(case.facts, policy)
    for key, key_class in _opening(case, policy, seen):
        if key.uses and (recipients := _recipients(case, key, key_class)):
            yield _question(key, recipients)


def judge(case: Case, options: Options, policy: Policy, answers: Answers) -> Iterable[Finding]:
    if not policy.ledger.key_lengths:
        return ()
    seen = _look(case.facts, policy)
    return tuple(_found(case, policy, answers, seen)) if seen else ()


def _look(facts: Facts, policy: Policy) -> list[Seen]:
    """Return what looks like a key, known or not. In stored facts markers stand where keys were, and are these keys."""
    find = policy.ledger.key
    seen = [
        Seen(one.field, one.start, one.end, one.digest, find(one.digest), facts.fields[one.field].key == "subject")
        for one in facts.secrets
        if one.name == "key"
    ]
    fields = 0
    for number, field in enumerate(facts.fields):
        name = field.name.lower()
        if name in LOOKED_AT and fields < MAX_FIELDS:
            fields += 1
            found = candidates(decode_words(field.value), policy.ledger.key_lengths)
            seen += [_seen(number, one, name == "subject", policy) for one in found]
    return seen


def _seen(number: int, candidate: Candidate, in_subject: bool, policy: Policy) -> Seen:
    digest = digest_of(policy.match_key, candidate.text)
    return Seen(number, candidate.start, candidate.end, digest, policy.ledger.key(digest), in_subject)


def _found(case: Case, policy: Policy, answers: Answers, seen: list[Seen]) -> Iterator[Finding]:
    yield from _cleaned(case, policy, [one for one in seen if one.key])
    inbound = case.towards(Direction.INBOUND)
    if not inbound:
        return
    to = case.only(inbound)
    unknown = _guesses(seen)
    if unknown:
        detail = f"strings like a key in the Subject that are none: {unknown}"
        yield Finding("wrong_key", detail, recipients=to)
    keys = _in_subject(seen)
    for key in keys:
        state = state_of(key, policy.document.key_classes, case.now)
        if state not in OPENING:
            code = "early_key" if state is KeyState.WAITING else "expired_key"
            yield Finding(code, f"a key of the class {key.key_class} is {state}", recipients=to)
    if (keys or unknown) and not _has_one_subject(case.facts):
        yield Finding("two_subjects", "more than one Subject field, so no key in it counts", recipients=to)
    for key, key_class in _opening(case, policy, seen):
        yield from _opened(case, key, key_class, answers)


def _guesses(seen: list[Seen]) -> int:
    """Count what is like a key in the Subject and is none. Groups that overlap a key are part of its neighbourhood."""
    known = [one for one in seen if one.key]
    return sum(
        1
        for one in seen
        if one.key is None
        and one.in_subject
        and not any(one.field == key.field and one.start < key.end and key.start < one.end for key in known)
    )


def _in_subject(seen: list[Seen]) -> list[BypassKey]:
    """Return the known keys in the Subject, each once."""
    return list({one.digest: one.key for one in seen if one.key and one.in_subject}.values())


def _has_one_subject(facts: Facts) -> bool:
    return len(facts.values("subject")) == 1 and UNSEEN.isdisjoint(facts.defects)


def _opening(case: Case, policy: Policy, seen: list[Seen]) -> Iterator[tuple[BypassKey, KeyClass]]:
    """Yield the keys that count now, with their classes."""
    keys = _in_subject(seen)
    if not keys or not _has_one_subject(case.facts):
        return
    classes = policy.document.key_classes
    for key in keys:
        if state_of(key, classes, case.now) in OPENING:
            yield key, classes[key.key_class]


def _recipients(case: Case, key: BypassKey, key_class: KeyClass) -> tuple[Address, ...]:
    """Return for whom a key opens anything: none when its author is not one of those who may use it."""
    senders = (key.senders, key_class.senders)
    author = case.facts.author
    if any(senders) and (author is None or not all(is_among(author, one) for one in senders)):
        return ()
    limits = (key.recipients, key_class.recipients)
    return tuple([one for one in case.towards(Direction.INBOUND) if all(is_among(one, limit) for limit in limits)])


def _question(key: BypassKey, recipients: tuple[Address, ...]) -> KeyUseQuestion:
    return KeyUseQuestion(key.id, key.uses, tuple([one.key for one in recipients]))


def _opened(case: Case, key: BypassKey, key_class: KeyClass, answers: Answers) -> Iterator[Finding]:
    recipients = _recipients(case, key, key_class)
    inbound = case.towards(Direction.INBOUND)
    if len(recipients) < len(inbound):
        rest = tuple([one for one in inbound if one not in recipients])
        yield Finding("not_for", _told(key, "is not for this author or recipient"), recipients=case.only(rest))
    if not recipients:
        return
    opens = _opens(case.facts, key, key_class)
    granted = recipients
    if key.uses:
        answer = answers[_question(key, recipients)]
        if isinstance(answer, Unknown):
            yield _deferred(key, answer.why, opens, case.only(recipients))
            return
        granted = tuple([one for one in recipients if one.key in answer])
    if len(granted) < len(recipients):
        rest = tuple([one for one in recipients if one not in granted])
        yield Finding("uses_spent", _told(key, "has been used up"), recipients=case.only(rest))
    if granted:
        detail = _told(key, f"opens {', '.join(opens) or 'nothing'}")
        yield Finding("key", detail, exempts=opens, recipients=case.only(granted), entry=key.id)


def _deferred(key: BypassKey, why: str, opens: tuple[Kind, ...], to: tuple[Address, ...] | None) -> Finding:
    """Defer what the key may open: without that it would be refused for good, although a use may be left."""
    detail = _told(key, f"has a number of uses, and it cannot be told how many are left: {why}")
    return Finding("cannot_tell", detail, action=Action.DEFER, category="failed", exempts=opens, recipients=to)


def _told(key: BypassKey, what: str) -> str:
    return f"a {'monthly' if key.period else 'personal'} key of the class {key.key_class} {what}"


def _opens(facts: Facts, key: BypassKey, key_class: KeyClass) -> tuple[Kind, ...]:
    """Return the kinds that a key opens: not attachments, if one of them is of another type than the key is for."""
    kinds = key_class.opens
    if Kind.ATTACHMENT in kinds and not all(_are_of(facts, types) for types in (key.types, key_class.types) if types):
        kinds = tuple([kind for kind in kinds if kind is not Kind.ATTACHMENT])
    return kinds


def _are_of(facts: Facts, types: tuple[str, ...]) -> bool:
    """Tell whether every attached file, those within others too, ends as these types do under each of its names."""
    return all(
        part.names and all(name.rpartition(".")[2].lower() in types for name in part.names)
        for part in facts.parts
        if part.is_attachment
    )


def _cleaned(case: Case, policy: Policy, known: list[Seen]) -> Iterator[Finding]:
    """Mark all keys as secrets, and take them out of the fields that are for people, on the way in and out."""
    if not known:
        return
    secrets = tuple([Secret(one.field, one.start, one.end, "key", one.digest) for one in known])
    crossing = case.towards(Direction.INBOUND) + case.towards(Direction.OUTBOUND)
    cleaned = tuple(_replaced(case.facts, policy, known)) if crossing else ()
    if cleaned:
        names = ", ".join(dict.fromkeys(case.facts.fields[one.index].name for one in cleaned))
        yield Finding(
            "strip",
            f"a key is removed from {names}",
            transforms=cleaned,
            secrets=secrets,
            recipients=case.only(crossing),
        )
    else:
        yield Finding("seen", "a key stands where it has no effect", secrets=secrets)


def _replaced(facts: Facts, policy: Policy, known: list[Seen]) -> Iterator[ReplaceField]:
    for number, group in groupby(known, key=lambda one: one.field):
        field = facts.fields[number]
        if field.key in CLEANED:
            text = without(decode_words(field.value), [(one.start, one.end) for one in group])
            for _ in range(MAX_ROUNDS):  # what stood around a key may be one, once it has gone
                again = [_seen(number, one, True, policy) for one in candidates(text, policy.ledger.key_lengths)]
                text = without(text, [(one.start, one.end) for one in again if one.key])
            # A header of plain 8-bit text goes on as such (RFC 6532); any other is written in encoded words.
            is_plain = facts.eight_bit_header and "=?" not in text
            yield ReplaceField(number, text if is_plain else encode_words(text))


FILTER = Filter(
    "bypass_key",
    # Counts in observe mode too: keys are removed whatever is blocked.
    Kind.PROTOCOL,
    Options(),
    ask,
    judge,
    codes=(
        "key",
        "strip",
        "seen",
        "not_for",
        "wrong_key",
        "expired_key",
        "early_key",
        "two_subjects",
        "uses_spent",
        "cannot_tell",
    ),
    floor=("strip", "cannot_tell"),  # not to be exempted by what the key itself opens
)
