"""Hold back what could not be looked into: "could not be opened" is never "clean".

Reads why the look into a file ended early: damage, a method that is not understood, a parser that failed or had no time
left. Encrypted files and bombs are other filters' affair.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from gateway.filters import Filter, FilterOptions, asks_nothing
from gateway.mail.address import Address
from gateway.mail.envelope import Direction
from gateway.policy.compile import Policy
from gateway.verdict import Action, Answers, Case, Finding, Kind

_Action = Literal[Action.REJECT, Action.QUARANTINE, Action.DELIVER]
DAMAGE = {"damaged": "is damaged", "truncated": "is cut short", "bad_encoding": "is encoded in a way that is not clear"}
FAILURES = {
    "opener_failed": "could not be looked into",
    "crashed": "ended the program that looked into it",
    "crashed_again": "ended the program that looked into it, again",
    "too_long": "takes too long to look into",
    "unsupported": "is packed in a way that cannot be looked into",
}


class Options(FilterOptions):
    directions: tuple[Direction, ...] = Field((Direction.INBOUND,), title="Mail")
    damaged: _Action = Field(Action.QUARANTINE, title="Damaged attachments")
    failed: _Action = Field(Action.QUARANTINE, title="Attachments that cannot be looked into")


def judge(case: Case, options: Options, policy: Policy, answers: Answers) -> Iterable[Finding]:
    facts = case.facts
    if not (facts.parts or facts.problems) or not (concerned := case.among(options.directions)):
        return ()
    return _found(case, options, case.only(concerned))


def _found(case: Case, options: Options, recipients: tuple[Address, ...] | None) -> Iterator[Finding]:
    seen = [("", "the message", case.facts.problems)]
    seen += [(part.path, part.shown, part.problems) for part in case.facts.parts if part.problems]
    for path, shown, problems in seen:
        for code in problems:
            words, action = DAMAGE.get(code), options.damaged
            if words is None:
                words, action = FAILURES.get(code), options.failed
            if words is not None:
                yield Finding(
                    code.replace("_", "-"),
                    f"{shown} {words}",
                    action=action,
                    part=path,
                    category="unopened",
                    recipients=recipients,
                )


FILTER = Filter(
    "unopened",
    Kind.ATTACHMENT,
    Options(),
    asks_nothing,
    judge,
    codes=tuple(code.replace("_", "-") for code in (*DAMAGE, *FAILURES)),
    inspects=True,
)
