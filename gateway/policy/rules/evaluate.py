"""Rules at work on one message: what they ask, and what they find after the filters. Pure, and bounded.

Within a section the order of rules does not matter; tags are seen by later sections only.
"""

from collections.abc import Iterable, Iterator, Sequence
from traceback import extract_tb
from typing import NamedTuple

from gateway.mail.address import Address
from gateway.policy.rules.actions import transforms_of
from gateway.policy.rules.compile import CompiledRule, Rules
from gateway.policy.rules.schema import WhenUnknown
from gateway.policy.rules.truth import Truth
from gateway.policy.rules.view import Ours, View
from gateway.verdict import RULE, Action, Answers, Case, Finding, Question, Unknown

MAX_DETAIL = 300  # characters of an exception's text

# Who is meant by what a rule does; None: everybody.
Meant = tuple[Address, ...] | None


def questions(case: Case, ours: Ours, rules: Rules) -> list[Question]:
    """Return what the rules need to know that may match. Whatever is not known yet counts as unknown."""
    asked: list[Question] = []
    view = View(case, ours, rules.zone)
    for rule in rules.asking:
        if rule.is_over(case.now) or not _concerns(rule, case):
            continue
        try:
            if rule.tree(view) is not False:
                for asks, name in rule.asks:
                    asked += asks(view, name)
        except Exception:
            continue  # `judge` looks again and makes a finding of it
    return asked


def judge(case: Case, ours: Ours, rules: Rules, answers: Answers, findings: Sequence[Finding]) -> list[Finding]:
    """Return what the rules find after the filters, whose `findings` count but for those in shadow."""
    view = View(case, ours, rules.zone, answers, [one for one in findings if not one.shadow])
    found: list[Finding] = []
    section, tagged = -1, _Tagged(len(case.envelope.recipients))
    for place in candidates(rules, view):
        rule = rules.rules[place]
        if rule.section != section:
            section = rule.section
            view.tags = tagged.all()
        if rule.is_over(case.now) or not _concerns(rule, case):
            continue
        try:
            outcome = outcome_of(rule, view)
        except Exception as error:
            # The border of one rule: like a filter that fails, it defers the message and lets nothing pass.
            found.append(_stamped(rule, _failed(rule, error), action=Action.DEFER, category="failed"))
            continue
        if outcome.matching and rule.effect.tags and not rule.is_shadow:
            tagged.add(rule.effect.tags, outcome.matching)
        found += _findings(rule, view, outcome)
    return found


class _Tagged:
    """The tags of each recipient."""

    def __init__(self, recipients: int) -> None:
        self._tags = [frozenset[str]()] * recipients

    def add(self, tags: frozenset[str], places: Iterable[int]) -> None:
        for place in places:
            self._tags[place] |= tags

    def all(self) -> tuple[frozenset[str], ...]:
        return tuple(self._tags)


def candidates(rules: Rules, view: View) -> list[int]:
    """Return the places of the rules that can be other than false, in their order."""
    places = set(rules.unindexed)
    for ref, table in rules.by_key:
        keys = view.keys(ref)
        if isinstance(keys, Unknown):
            places.update([place for some in table.values() for place in some])
        else:
            for key in keys if len(keys) < len(table) else table.keys() & keys:
                if key in table:
                    places.update(table[key])
    for pool, by_number in rules.by_pattern:
        hits = pool.hits(view)
        for number in by_number if isinstance(hits, Unknown) else hits:
            places.update(by_number.get(number, ()))
    return sorted(places)


def _concerns(rule: CompiledRule, case: Case) -> bool:
    direction = rule.direction
    return direction is None or any(one.direction is direction for one in case.envelope.recipients)


class Outcome(NamedTuple):
    """The places of the recipients whom a rule matches, and of those of whom it cannot be told and that defers."""

    matching: Sequence[int]
    deferred: Sequence[int]


def outcome_of(rule: CompiledRule, view: View) -> Outcome:
    """Judge the rule for all recipients at once, and where that cannot be told for each by itself."""
    recipients = view.case.envelope.recipients
    places = [
        place for place, one in enumerate(recipients) if rule.direction is None or one.direction is rule.direction
    ]
    truth = rule.tree(view)
    if truth is not None:
        return Outcome(places if truth else (), ())
    by_truth = _by_truth(rule, view, places)
    if rule.when_unknown is WhenUnknown.MATCH:
        return Outcome(sorted(by_truth[True] + by_truth[None]), ())
    return Outcome(by_truth[True], by_truth[None] if rule.when_unknown is WhenUnknown.DEFER else ())


def _by_truth(rule: CompiledRule, view: View, places: Iterable[int]) -> dict[Truth, list[int]]:
    """Judge the rule for each recipient by itself; return their places by the outcome."""
    outcomes: dict[Truth, list[int]] = {True: [], False: [], None: []}
    before = view.place
    for place in places:
        view.place = place
        outcomes[rule.tree(view)].append(place)
    view.place = before
    return outcomes


def _findings(rule: CompiledRule, view: View, outcome: Outcome) -> Iterator[Finding]:
    if outcome.matching:
        yield _matched(rule, view, _addresses(view.case, outcome.matching))
    if outcome.deferred:
        detail = f"{rule.label}: cannot tell yet whether it matches"
        meant = _addresses(view.case, outcome.deferred)
        yield _stamped(rule, detail, meant, action=Action.DEFER, category="failed")


def _addresses(case: Case, places: Sequence[int]) -> Meant:
    recipients = case.envelope.recipients
    if len(places) == len(recipients):
        return None
    return tuple([recipients[place].address for place in places])


def _matched(rule: CompiledRule, view: View, recipients: Meant) -> Finding:
    effect = rule.effect
    return _stamped(
        rule,
        "; ".join([f"{rule.label} matched", *effect.notes]),
        recipients,
        action=effect.action or Action.DELIVER,
        category=effect.category,
        score=effect.score,
        exempts=effect.exempts,
        transforms=transforms_of(effect.edits, view.case.facts) if effect.edits else (),
        route=effect.route,
        hold=effect.hold,
    )


def _stamped(rule: CompiledRule, detail: str, recipients: Meant = None, **effects: object) -> Finding:
    return Finding(
        rule.code,
        detail,
        recipients=recipients,
        filter=RULE,
        kind=rule.kind,
        shadow=rule.is_shadow,
        **effects,  # type: ignore[arg-type]
    )


def _failed(rule: CompiledRule, error: Exception) -> str:
    place = extract_tb(error.__traceback__)[-1]
    return f"{rule.label} failed: {type(error).__name__}: {str(error)[:MAX_DETAIL]} ({place.name}, line {place.lineno})"
