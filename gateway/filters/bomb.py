"""Refuse what unpacks to more than anybody can look through: archive bombs, files in files without end.

Reads the limits that the look into the message's files met. They are of the safety floor: nothing opens them.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from gateway.filters import Filter, FilterOptions, asks_nothing
from gateway.policy.compile import Policy
from gateway.verdict import Action, Answers, Case, Finding, Kind

LIMITS = {
    "ratio": "unpacks to far more than it is",
    "too_deep": "lies within too many files",
    "too_many_files": "holds too many files",
    "too_many_links": "has too many links",
    "too_big": "is too large when unpacked",
    "too_much": "is too large when unpacked with all the others",
}


class Options(FilterOptions):
    action: Literal[Action.REJECT, Action.QUARANTINE] = Field(Action.REJECT, title="Bombs")


def judge(case: Case, options: Options, policy: Policy, answers: Answers) -> Iterable[Finding]:
    facts = case.facts
    if not facts.parts and not facts.problems:
        return ()
    return _found(case, options)


def _found(case: Case, options: Options) -> Iterator[Finding]:
    for code in case.facts.problems:
        if code in LIMITS:
            yield _finding(code, f"the message {LIMITS[code]}", options)
    for part in case.facts.parts:
        for code in part.problems:
            if code in LIMITS:
                yield _finding(code, f"{part.shown} {LIMITS[code]}", options, part=part.path)


def _finding(code: str, detail: str, options: Options, part: str = "") -> Finding:
    return Finding(code.replace("_", "-"), detail, action=options.action, part=part, category="bomb")


CODES = tuple(code.replace("_", "-") for code in LIMITS)
FILTER = Filter("bomb", Kind.ATTACHMENT, Options(), asks_nothing, judge, codes=CODES, floor=CODES, inspects=True)
