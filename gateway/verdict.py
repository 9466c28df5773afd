"""The words of a judgement: questions and answers, findings, actions, verdicts, and `decide`.

Values only. Filters make findings of facts and answers; `decide` makes verdicts of the findings, whatever their order.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from math import fsum

from msgspec import Struct
from msgspec.structs import replace

from gateway.inspection.facts import Facts, Secret
from gateway.mail.address import Address
from gateway.mail.envelope import Direction, Envelope, Session
from gateway.mail.reply import Reply


class Kind(StrEnum):
    """What sort of objection a filter raises; what a key class or a pass opens is a list of these."""

    PROTOCOL = "protocol"
    MALWARE = "malware"
    AUTHENTICITY = "authenticity"
    REPUTATION = "reputation"
    BUSINESS = "business"
    ATTACHMENT = "attachment"
    CONTENT = "content"
    CONDUCT = "conduct"
    LEAK = "leak"


class Action(StrEnum):
    """What is done with a message, from mild to severe; the worst wins."""

    DELIVER = "deliver"
    QUARANTINE = "quarantine"
    HOLD_FOR_SENDER = "hold_for_sender"
    RETURN = "return"
    REDIRECT = "redirect"
    DISCARD = "discard"
    DEFER = "defer"
    REJECT = "reject"

    @property
    def severity(self) -> int:
        return SEVERITY[self]


SEVERITY = {action: rank for rank, action in enumerate(Action)}


class Mode(StrEnum):
    """How far one filter or rule is switched on."""

    OFF = "off"
    SHADOW = "shadow"
    ENFORCE = "enforce"


class Unknown(Struct, frozen=True, tag="unknown"):
    """No answer, and why. Never the same as an empty answer."""

    why: str


class DnsQuestion(Struct, frozen=True, tag_field="question", tag="dns"):
    name: str
    type: str


class SentMessageQuestion(Struct, frozen=True, tag_field="question", tag="sent_message"):
    """Did we send a message with one of these Message-IDs? Answered by the store with the ids that we did send."""

    message_ids: tuple[str, ...]


class KeyUseQuestion(Struct, frozen=True, tag_field="question", tag="key_use"):
    """For which of these recipients does a key with so many uses open this message? Answered with their addresses.

    The use is claimed when the message is about to be accepted; an answer that was never needed grants it to all.
    """

    entry: str
    uses: int
    recipients: tuple[str, ...]  # address keys


Question = DnsQuestion | SentMessageQuestion | KeyUseQuestion
Answer = tuple[str, ...] | Unknown
Answers = dict[Question, Answer]


class Case(Struct, frozen=True):
    """What one judgement sees."""

    session: Session
    envelope: Envelope
    facts: Facts
    now: datetime

    def towards(self, direction: Direction) -> tuple[Address, ...]:
        """Return the recipients of one direction, in the envelope's order."""
        recipients = self.envelope.recipients
        if len(recipients) == 1:  # nearly always
            return (recipients[0].address,) if recipients[0].direction is direction else ()
        return tuple([one.address for one in recipients if one.direction is direction])

    def among(self, directions: Collection[Direction]) -> tuple[Address, ...]:
        """Return the recipients of several directions, in the envelope's order."""
        return tuple([one.address for one in self.envelope.recipients if one.direction in directions])

    def only(self, addresses: tuple[Address, ...]) -> tuple[Address, ...] | None:
        """Return `addresses` as a finding's `recipients`: None when they are all recipients of the message."""
        return None if len(addresses) == len(self.envelope.recipients) else addresses


class RemoveFields(Struct, frozen=True, tag="remove_fields"):
    """Take fields out of the header by their position in `Facts.fields`."""

    indexes: tuple[int, ...]


class ReplaceField(Struct, frozen=True, tag="replace_field"):
    """Put another value in place of one field, by its position in `Facts.fields`. `value` is unfolded text."""

    index: int
    value: str


class AddField(Struct, frozen=True, tag="add_field"):
    """Put a field on top of the header. `value` is unfolded text."""

    name: str
    value: str


class SetField(Struct, frozen=True, tag="set_field"):
    """Have one field of this name with this value: the first one takes it and the others go. `value` as `AddField`'s.

    By name, so that it means the same after whatever was done before.
    """

    name: str
    value: str


class PrefixSubject(Struct, frozen=True, tag="prefix_subject"):
    """Put decoded text before the Subject, unless it holds that text already."""

    text: str


Transform = RemoveFields | ReplaceField | AddField | SetField | PrefixSubject


class Finding(Struct, frozen=True):
    """What one filter saw. `recipients` limits it to some recipients (None: all); `exempts` lists kinds that it opens.

    `filter`, `kind` and `shadow` are stamped by `judge.judge`. `entry` names the ledger row that the finding rests on.
    `secrets` are cut out of the facts before these are stored (`judge.redact`).
    """

    code: str
    detail: str
    action: Action = Action.DELIVER
    score: float = 0.0
    exempts: tuple[Kind, ...] = ()
    transforms: tuple[Transform, ...] = ()
    route: str = ""
    part: str = ""
    recipients: tuple[Address, ...] | None = None
    category: str = ""  # the public words of a refusal, as `mail.reply.refusal` takes them
    entry: str = ""
    filter: str = ""
    kind: Kind = Kind.PROTOCOL
    floor: bool = False
    shadow: bool = False
    secrets: tuple[Secret, ...] = ()
    hold: str = ""  # the kind of quarantine; "": the filter's name

    @property
    def reason(self) -> str:
        """The stable name of what was seen: filter and code."""
        return f"{self.filter}:{self.code}"

    @property
    def has_effect(self) -> bool:
        """Whether the message would go another way, or otherwise, without this. A pass alone does nothing."""
        return self.action is not Action.DELIVER or bool(self.transforms or self.score or self.route)


RULE = "rule"  # stands for the filter in findings of the operator's rules; the code is the rule's number
SCORE = "score"  # and where the scores of several have reached a threshold


class Threshold(Struct, frozen=True):
    """What becomes of a message whose scores add up to so much."""

    at: float
    action: Action
    category: str = ""


class Verdict(Struct, frozen=True):
    """What happens to a group of recipients, and the finding that decided (`reason`, "" for a plain delivery).

    `category` names the public words of a refusal. `would` is what would have happened but for observe mode or shadow,
    and `would_reason` the finding that would have decided; equal to `action` and `reason` otherwise. `hold` is the kind
    of quarantine that the finding names.
    """

    recipients: tuple[Address, ...]
    action: Action
    reason: str = ""
    detail: str = ""
    reply: Reply | None = None
    score: float = 0.0
    transforms: tuple[Transform, ...] = ()
    exempted: tuple[str, ...] = ()
    route: str = ""
    would: Action = Action.DELIVER
    policy_version: int = 0
    ledger_revision: int = 0
    category: str = ""
    would_reason: str = ""
    hold: str = ""


class Change(Struct, frozen=True):
    """A header line before and after, for the trace. None: it was not there."""

    recipients: tuple[Address, ...]
    before: str | None
    after: str | None


class Trace(Struct, frozen=True):
    """Everything that was decided about one message, and why. Stored as MessagePack; fields are only added."""

    id: str
    ref: str
    case: Case
    answers: tuple[tuple[Question, Answer], ...]
    findings: tuple[Finding, ...]
    verdicts: tuple[Verdict, ...]
    changes: tuple[Change, ...] = ()
    off: tuple[str, ...] = ()  # filters that did not run, because the policy has them off
    timings_ms: dict[str, float] = {}
    schema: int = 1


NONE_WAIVED: frozenset[str] = frozenset()
# Recipients with the same outcome, whether their mail came back from the second scanner, the reasons that are waived
# for them, and the findings that concern them.
Group = tuple[tuple[Address, ...], bool, frozenset[str], Sequence[Finding]]


def decide(
    findings: Sequence[Finding],
    case: Case,
    *,
    observe: bool = False,
    waived: Mapping[Address, frozenset[str]] | None = None,
    policy_version: int = 0,
    ledger_revision: int = 0,
    thresholds: Sequence[Threshold] = (),
) -> tuple[Verdict, ...]:
    """Return one verdict for each group of recipients with the same outcome, in the envelope's order.

    Passes exempt kinds of findings and `waived` exempts single reasons of a recipient; the safety floor is never
    exempted. Then the worst action wins; the sum of the scores may reach one of the `thresholds`, whose action is among
    them. `observe` is the whole gateway's observe mode. The verdicts' `reply` is left to the caller.
    """
    has_effect = False
    for one in findings:
        if one.has_effect:
            has_effect = True
            break
    verdicts: list[Verdict] = []
    for addresses, is_returned, exempted, concerning in _groups(findings, case, waived):
        if not has_effect:
            # Nearly all mail. Whatever is observed, exempted or in shadow, there is nothing that it could change.
            plain = Verdict(addresses, Action.DELIVER, policy_version=policy_version, ledger_revision=ledger_revision)
            verdicts.append(plain)
            continue
        if is_returned:
            concerning = [one for one in concerning if _still_judges(one)]
        verdicts.append(
            _verdict(
                addresses,
                concerning,
                observe,
                exempted,
                thresholds,
                policy_version=policy_version,
                ledger_revision=ledger_revision,
            )
        )
    return tuple(verdicts) if len(verdicts) < 2 else _merged(verdicts)


def _merged(verdicts: list[Verdict]) -> tuple[Verdict, ...]:
    """Return the verdicts with those of the same outcome made one."""
    groups: dict[Verdict, list[Address]] = {}
    for verdict in verdicts:
        groups.setdefault(replace(verdict, recipients=()), []).extend(verdict.recipients)
    return tuple([replace(outcome, recipients=tuple(addresses)) for outcome, addresses in groups.items()])


def _groups(findings: Sequence[Finding], case: Case, waived: Mapping[Address, frozenset[str]] | None) -> list[Group]:
    """Return the recipients for which the same findings count, in the envelope's order."""
    recipients = case.envelope.recipients
    is_limited = False
    for one in findings:
        if one.recipients is not None:
            is_limited = True
            break
    if len(recipients) == 1 and not is_limited and not waived:
        only = recipients[0]
        return [((only.address,), only.direction is Direction.RETURNED, NONE_WAIVED, findings)]
    meant = _recipients_meant(findings)
    alike: dict[tuple[bool, tuple[int, ...], frozenset[str]], list[Address]] = {}
    for recipient in recipients:
        address = recipient.address
        exempted = waived.get(address, NONE_WAIVED) if waived else NONE_WAIVED
        key = (recipient.direction is Direction.RETURNED, meant.get(address, ()), exempted)
        alike.setdefault(key, []).append(address)
    return [
        (
            tuple(addresses),
            is_returned,
            exempted,
            [one for number, one in enumerate(findings) if one.recipients is None or number in numbers],
        )
        for (is_returned, numbers, exempted), addresses in alike.items()
    ]


def _recipients_meant(findings: Sequence[Finding]) -> dict[Address, tuple[int, ...]]:
    """Return the positions of the findings that are limited to some recipients, by recipient."""
    meant: dict[Address, list[int]] = {}
    for number, finding in enumerate(findings):
        for address in finding.recipients or ():
            meant.setdefault(address, []).append(number)
    return {address: tuple(numbers) for address, numbers in meant.items()}


def _still_judges(finding: Finding) -> bool:
    """Mail back from the second scanner was judged before it went there; only a loop can have begun since."""
    return finding.floor and finding.kind is Kind.PROTOCOL


def counts(finding: Finding, *, observe: bool) -> bool:
    """Say whether a finding may block.

    Observe mode blocks nothing but protocol errors. Loops are such, and names that a relay source may not use.
    """
    return not finding.shadow and (not observe or finding.kind is Kind.PROTOCOL)


def _verdict(
    recipients: tuple[Address, ...],
    findings: Sequence[Finding],
    observe: bool,
    waived: frozenset[str],
    thresholds: Sequence[Threshold],
    *,
    policy_version: int,
    ledger_revision: int,
) -> Verdict:
    counting = [one for one in findings if counts(one, observe=observe)]
    kept, exempted = _exempt(counting, waived)
    decisive = _decisive(kept, thresholds)
    would = decisive if len(counting) == len(findings) else _decisive(_exempt(findings, waived)[0], thresholds)
    changing = sorted([one for one in kept if one.transforms or one.route], key=_rules_last)
    return Verdict(
        recipients=recipients,
        action=decisive.action if decisive else Action.DELIVER,
        reason=decisive.reason if decisive else "",
        detail=decisive.detail if decisive else "",
        score=fsum([one.score for one in kept]),
        transforms=tuple([transform for one in changing for transform in one.transforms]),
        exempted=exempted,
        route=next((one.route for one in changing if one.route), ""),
        would=would.action if would else Action.DELIVER,
        policy_version=policy_version,
        ledger_revision=ledger_revision,
        category=decisive.category if decisive else "",
        would_reason=would.reason if would else "",
        hold=decisive.hold if decisive else "",
    )


def _rules_last(finding: Finding) -> tuple[bool, str]:
    """Return where a finding's changes stand: filters by name, then rules, which come in the order of their numbers."""
    return finding.filter == RULE, finding.filter


def _decisive(findings: Sequence[Finding], thresholds: Sequence[Threshold]) -> Finding | None:
    """Return the finding that decides, of which the sum of the scores may be one."""
    worst = _worst(findings)
    if not thresholds:
        return worst
    score = fsum([one.score for one in findings])
    reached = max([one for one in thresholds if score >= one.at], key=_by_severity, default=None)
    if reached is None or (worst is not None and worst.action.severity >= reached.action.severity):
        return worst
    detail = f"the scores add up to {score:g}, and {reached.at:g} is the threshold"
    return Finding(str(reached.action), detail, action=reached.action, category=reached.category, filter=SCORE)


def _by_severity(threshold: Threshold) -> tuple[int, float]:
    return threshold.action.severity, threshold.at


def _exempt(findings: Sequence[Finding], waived: frozenset[str]) -> tuple[Sequence[Finding], tuple[str, ...]]:
    """Return the findings that stand, and the reasons of those that a pass or a waiver opened."""
    opened = [kind for one in findings if one.exempts for kind in one.exempts]
    if not opened and not waived:
        return findings, ()
    kept: list[Finding] = []
    reasons: set[str] = set()
    for one in findings:
        if one.floor or not (one.kind in opened or one.reason in waived) or _only_changes(one):
            kept.append(one)
        elif one.action is not Action.DELIVER or one.transforms or one.score:
            reasons.add(one.reason)
    return kept, tuple(sorted(reasons))


def _only_changes(one: Finding) -> bool:
    """Tell whether a rule changes the message or its way and objects to nothing: there is nothing to let pass."""
    return one.filter == RULE and one.action is Action.DELIVER and not one.score


def _worst(findings: Sequence[Finding]) -> Finding | None:
    """Return the finding that decides, None when none objects. Equally bad ones are told apart without their order."""
    objecting = [one for one in findings if one.action is not Action.DELIVER]
    if len(objecting) < 2:
        return objecting[0] if objecting else None
    return min(objecting, key=_rank)


def _rank(one: Finding) -> tuple[int, bool, str, str, str, str]:
    return -one.action.severity, not one.floor, one.filter, one.code, one.detail, one.category
