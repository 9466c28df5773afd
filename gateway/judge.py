"""The whole judgement of one message, without I/O: which questions to ask, and what facts and answers amount to.

A filter that raises is a finding that defers the message, never a pass. Findings are stamped here with filter and kind;
`verdict.decide` makes verdicts of them. Asking and answering is done in between, by engines and the store. Whose name a
relay source may use is judged whatever filters are on: it is a right, and no option of the policy. `redact` makes of
the facts what may be stored.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from traceback import extract_tb

from msgspec import Struct
from msgspec.structs import replace

from gateway.filters import FAILED, asks_nothing
from gateway.inspection.facts import NOT_INSPECTED, Facts, FieldFact, Secret
from gateway.inspection.words import decode_words
from gateway.mail.address import Address
from gateway.policy import relaying
from gateway.policy.compile import ActiveFilter, Policy
from gateway.policy.rules import evaluate
from gateway.verdict import Action, Answers, Case, Finding, Kind, Question, Transform, Unknown, Verdict, decide

NOT_KEPT = Unknown("not kept")
HIDDEN = "[hidden]"  # where a secret stands that was marked elsewhere
MAX_MARKER = 20  # characters by which a marker is longer than what it stands for, at most
MAX_DETAIL = 300  # characters of an exception's text


Hide = Callable[[str], str]


class Judgement(Struct, frozen=True):
    """What was found and decided; `findings` by filter, those in shadow as well; relay rights first, rules last."""

    findings: tuple[Finding, ...]
    verdicts: tuple[Verdict, ...]


def questions(case: Case, policy: Policy) -> tuple[Question, ...]:
    """Return what must be answered before `judge`, each question once."""
    asked: list[Question] = []
    for active in policy.filters:
        if active.ask is not asks_nothing:
            try:
                asked += active.ask(case, active.options, policy)
            except Exception:
                continue  # `judge` asks again and makes a finding of it
    if policy.rules.asking:
        asked += evaluate.questions(case, policy, policy.rules)
    return tuple(dict.fromkeys(asked)) if asked else ()


def judge(case: Case, policy: Policy, answers: Answers, *, sha256: str = "") -> Judgement:
    """Judge facts and answers. A question without an answer is unknown, as in a replay of what was not asked then.

    `sha256` of the received bytes (hexadecimal) finds waivers of this very message; without it there are none.
    """
    findings: list[Finding] = []
    if case.session.source:  # mail from outside has none
        findings += relaying.judge_author(case, policy)
    if NOT_INSPECTED in case.facts.problems:
        findings.append(_not_inspected(policy))
    for active in policy.filters:
        try:
            known = answers if active.ask is asks_nothing else _with_unknown(active, case, policy, answers)
            found = tuple(active.judge(case, active.options, policy, known))
        except Exception as error:
            # The border of one filter: whatever it did not see, the message is not let pass for it.
            found = (Finding(FAILED, _told(error), action=Action.DEFER, category="failed"),)
        for one in found:
            findings.append(_stamped(one, active))
    if policy.rules.rules:
        findings += evaluate.judge(case, policy, policy.rules, answers, findings)
    verdicts = decide(
        findings,
        case,
        observe=policy.document.observe,
        waived=_waived(sha256, case, policy) if sha256 else None,
        policy_version=policy.version,
        ledger_revision=policy.ledger.revision,
        thresholds=policy.thresholds,
    )
    return Judgement(tuple(findings), verdicts)


def _not_inspected(policy: Policy) -> Finding:
    """What is not known of a message's files is no finding of any filter's: the message waits until it is."""
    return Finding(
        "not-inspected",
        "the message could not be looked into",
        action=Action.DEFER,
        category="failed",
        filter="inspection",
        kind=Kind.CONTENT,
        floor=True,
        shadow=not policy.must_inspect,
    )


def _with_unknown(active: ActiveFilter, case: Case, policy: Policy, answers: Answers) -> Answers:
    """Return the answers with one for each of the filter's questions."""
    missing = [one for one in active.ask(case, active.options, policy) if one not in answers]
    return {**answers, **dict.fromkeys(missing, NOT_KEPT)} if missing else answers


def _waived(sha256: str, case: Case, policy: Policy) -> dict[Address, frozenset[str]]:
    recipients = [recipient.address for recipient in case.envelope.recipients]
    return policy.ledger.waived(sha256, recipients, case.now)


def _stamped(finding: Finding, active: ActiveFilter) -> Finding:
    # A filter that guards the floor and failed may have missed just that: no pass opens it.
    is_floor = bool(active.floor) and (finding.code in active.floor or finding.code == FAILED)
    return replace(finding, filter=active.name, kind=active.kind, floor=is_floor, shadow=active.is_shadow)


def _told(error: Exception) -> str:
    place = extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:MAX_DETAIL]} ({place.name}, line {place.lineno})"


def redact(judgement: Judgement, facts: Facts) -> tuple[Judgement, Facts]:
    """Return judgement and facts as they may be stored: without the secrets that findings mark.

    The very same when none does. In a marked field its decoded value stands, with markers in it. The same strings are
    hidden wherever else facts, findings and transforms have them. `Facts.secrets` tells where the markers are: judged
    again, they count as what they stand for.
    """
    marked = {secret for finding in judgement.findings if finding.secrets for secret in finding.secrets}
    if not marked:
        return judgement, facts
    places = {
        number: _apart([one for one in marked if one.field == number]) for number in {one.field for one in marked}
    }
    texts = {number: decode_words(facts.fields[number].value) for number in places}
    hide = _hiding({texts[number][one.start : one.end] for number, spans in places.items() for one in spans})
    clean = list(facts.fields)
    secrets: list[Secret] = []
    for number, field in enumerate(clean):
        if number in places:
            value, moved = _with_markers(texts[number], places[number], hide)
            secrets += moved
            clean[number] = replace(field, value=value)
        else:
            clean[number] = _hidden(field, hide)
    subject = next((field.value for field in clean if field.key == "subject"), "")
    return (
        _hidden_judgement(judgement, hide),
        replace(
            facts,
            fields=tuple(clean),
            secrets=tuple(secrets),
            subject=subject[: len(facts.subject) + MAX_MARKER * len(secrets)] if facts.subject else "",
            text=hide(facts.text),
            parts=tuple([replace(part, names=tuple([hide(name) for name in part.names])) for part in facts.parts]),
            links=tuple([replace(link, target=hide(link.target), text=hide(link.text)) for link in facts.links]),
        ),
    )


def _apart(secrets: Sequence[Secret]) -> list[Secret]:
    """Return secrets of one field in their order, without those that overlap one before."""
    kept: list[Secret] = []
    for one in sorted(secrets, key=_place):
        if not kept or kept[-1].end <= one.start:
            kept.append(one)
    return kept


def _place(secret: Secret) -> tuple[int, int]:
    return secret.start, -secret.end


def _with_markers(text: str, secrets: Sequence[Secret], hide: Hide) -> tuple[str, list[Secret]]:
    """Return the text with a marker in the place of each secret, and where the markers stand; between them `hide`."""
    pieces: list[str] = []
    moved: list[Secret] = []
    at = length = 0
    for one in secrets:
        before = hide(text[at : one.start])
        start = length + len(before)
        pieces += [before, one.marker]
        length, at = start + len(one.marker), one.end
        moved.append(replace(one, start=start, end=length))
    return "".join([*pieces, hide(text[at:])]), moved


def _hiding(spellings: Iterable[str]) -> Hide:
    """Return what hides these strings in a text, in upper or lower case."""
    known = sorted(filter(None, spellings), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, known)), re.IGNORECASE)
    return lambda text: pattern.sub(HIDDEN, text) if text and known else text


def _hidden(field: FieldFact, hide: Hide) -> FieldFact:
    decoded = decode_words(field.value)
    value = hide(decoded)
    return field if value == decoded else replace(field, value=value)


def _hidden_judgement(judgement: Judgement, hide: Hide) -> Judgement:
    """Return a judgement of which nothing that filters have quoted holds a secret: not what is done, either."""
    findings = [
        replace(one, detail=hide(one.detail), transforms=_hidden_transforms(one.transforms, hide))
        for one in judgement.findings
    ]
    verdicts = [
        replace(one, detail=hide(one.detail), transforms=_hidden_transforms(one.transforms, hide))
        for one in judgement.verdicts
    ]
    return Judgement(tuple(findings), tuple(verdicts))


def _hidden_transforms(transforms: Iterable[Transform], hide: Hide) -> tuple[Transform, ...]:
    return tuple([replace(one, value=hide(one.value)) if hasattr(one, "value") else one for one in transforms])
