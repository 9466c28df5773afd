"""The whole judgement of one message, without I/O: which questions to ask, and what facts and answers amount to.

A filter that raises is a finding that defers the message, never a pass. Findings are stamped here with filter and kind;
`verdict.decide` makes verdicts of them. Asking and answering is done in between, by engines and the store. Whose name a
relay source may use is judged whatever filters are on: it is a right, and no option of the policy.
"""

from traceback import extract_tb

from msgspec import Struct
from msgspec.structs import replace

from gateway.filters import FAILED, asks_nothing
from gateway.mail.address import Address
from gateway.policy import relaying
from gateway.policy.compile import ActiveFilter, Policy
from gateway.verdict import Action, Answers, Case, Finding, Question, Unknown, Verdict, decide

NOT_KEPT = Unknown("not kept")
MAX_DETAIL = 300  # characters of an exception's text


class Judgement(Struct, frozen=True):
    """What was found and decided; `findings` by filter, those in shadow as well; relay rights come first."""

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
    return tuple(dict.fromkeys(asked)) if asked else ()


def judge(case: Case, policy: Policy, answers: Answers, *, sha256: str = "") -> Judgement:
    """Judge facts and answers. A question without an answer is unknown, as in a replay of what was not asked then.

    `sha256` of the received bytes (hexadecimal) finds waivers of this very message; without it there are none.
    """
    findings: list[Finding] = []
    if case.session.source:  # mail from outside has none
        findings += relaying.judge_author(case, policy)
    for active in policy.filters:
        try:
            known = answers if active.ask is asks_nothing else _with_unknown(active, case, policy, answers)
            found = tuple(active.judge(case, active.options, policy, known))
        except Exception as error:
            # The border of one filter: whatever it did not see, the message is not let pass for it.
            found = (Finding(FAILED, _told(error), action=Action.DEFER, category="failed"),)
        for one in found:
            findings.append(_stamped(one, active))
    verdicts = decide(
        findings,
        case,
        observe=policy.document.observe,
        waived=_waived(sha256, case, policy) if sha256 else None,
        policy_version=policy.version,
        ledger_revision=policy.ledger.revision,
    )
    return Judgement(tuple(findings), verdicts)


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
