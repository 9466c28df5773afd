"""Refuse mail that is not well formed: headers that are none, limits that are met, messages in pieces.

Reads the defects of header and structure. What real mail often has is noted and let pass; what hides something from
whoever looks is of the safety floor.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from gateway.filters import Filter, FilterOptions, asks_nothing
from gateway.policy.compile import Policy
from gateway.verdict import Action, Answers, Case, Finding, Kind

_Action = Literal[Action.REJECT, Action.QUARANTINE, Action.DELIVER]

# What cannot be looked through whole.
UNSEEN = {
    "header_too_long": "the header is longer than is looked at",
    "too_many_fields": "the header has more fields than are looked at",
    "header_cut": "a part's header is longer than is looked at",
    "too_deep": "parts lie in parts without end",
    "too_many_parts": "there are more parts than are looked at",
    "too_complex": "the structure takes too long to look through",
}
# What is elsewhere, and so cannot be looked at.
ELSEWHERE = {
    "partial_message": "it is a piece of a message, the rest comes by itself",
    "external_body": "a part is not in the message but elsewhere",
}
CLUMSY = {
    "no_body": "there is no empty line after the header",
    "not_a_field": "a line of the header is no field",
    "mbox_line": "the first line is one of a mailbox file",
    "leading_continuation": "the header begins with a continuation line",
    "space_before_colon": "a field has a blank before its colon",
    "blank_continuation": "a line of the header consists of blanks",
    "repeated_field": "a field stands twice that may stand once",
}


class Options(FilterOptions):
    unseen: Literal[Action.REJECT, Action.QUARANTINE] = Field(
        Action.REJECT, title="More than can be looked at", description="Fields, parts, parts within parts"
    )
    elsewhere: _Action = Field(
        Action.REJECT, title="Content that is elsewhere", description="message/partial, message/external-body"
    )
    clumsy: _Action = Field(Action.DELIVER, title="Headers against the rules", description="Real mail often has such")


def judge(case: Case, options: Options, policy: Policy, answers: Answers) -> Iterable[Finding]:
    return _found(case.facts.defects, options) if case.facts.defects else ()


def _found(defects: tuple[str, ...], options: Options) -> Iterator[Finding]:
    for defect in dict.fromkeys(defects):
        for table, action in ((UNSEEN, options.unseen), (ELSEWHERE, options.elsewhere), (CLUMSY, options.clumsy)):
            if defect in table:
                yield Finding(defect.replace("_", "-"), table[defect], action=action, category="protocol")


def _codes(*tables: dict[str, str]) -> tuple[str, ...]:
    return tuple(code.replace("_", "-") for table in tables for code in table)


FILTER = Filter(
    "protocol",
    Kind.PROTOCOL,
    Options(),
    asks_nothing,
    judge,
    codes=_codes(UNSEEN, ELSEWHERE, CLUMSY),
    floor=_codes(UNSEEN),
    inspects=True,
)
