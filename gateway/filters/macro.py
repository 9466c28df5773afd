"""Keep out files with macros, judged by what the file holds and not by its name, at any depth.

Reads the macro grade that the box found, and what documents do besides macros to run something: DDE, templates from
elsewhere, ActiveX, embedded programs' packages.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from gateway.filters import Filter, FilterOptions, asks_nothing
from gateway.inspection.facts import Macro, Part
from gateway.mail.address import Address
from gateway.mail.envelope import Direction
from gateway.policy.compile import Policy
from gateway.verdict import Action, Answers, Case, Finding, Kind

_Action = Literal[Action.REJECT, Action.QUARANTINE, Action.DELIVER]


class Options(FilterOptions):
    directions: tuple[Direction, ...] = Field((Direction.INBOUND,), title="Mail")
    present: _Action = Field(Action.REJECT, title="Macros", description="That run when somebody asks for them")
    auto_run: _Action = Field(Action.REJECT, title="Macros that run by themselves", description="At opening, closing")
    suspicious: _Action = Field(
        Action.REJECT, title="Suspicious macros", description="That start programs, fetch, or hide what they do"
    )
    active: _Action = Field(
        Action.REJECT, title="The like of macros", description="Commands by DDE, templates from elsewhere, ActiveX"
    )


_CODES = {Macro.PRESENT: "present", Macro.AUTO_RUN: "auto-run", Macro.SUSPICIOUS: "suspicious"}
_WORDS = {
    Macro.PRESENT: "has macros",
    Macro.AUTO_RUN: "has macros that run by themselves",
    Macro.SUSPICIOUS: "has macros that start programs, fetch or hide something",
}
LIKE_MACROS = {
    "dde": "runs a command by DDE",
    "external_template": "loads its template from elsewhere",
    "activex": "holds ActiveX controls",
}


def judge(case: Case, options: Options, policy: Policy, answers: Answers) -> Iterable[Finding]:
    if not case.facts.parts or not (concerned := case.among(options.directions)):
        return ()
    return _found(case, options, policy.document.about_attachments("macro"), case.only(concerned))


def _found(case: Case, options: Options, category: str, recipients: tuple[Address, ...] | None) -> Iterator[Finding]:
    actions = {
        Macro.PRESENT: options.present,
        Macro.AUTO_RUN: options.auto_run,
        Macro.SUSPICIOUS: options.suspicious,
    }
    for part in case.facts.parts:
        if part.macro:
            detail = f"{part.shown} {_WORDS[part.macro]}"
            action = actions[part.macro]
            yield Finding(
                _CODES[part.macro], detail, action=action, part=part.path, category=category, recipients=recipients
            )
        for words in _like_macros(part):
            yield Finding(
                "active",
                f"{part.shown} {words}",
                action=options.active,
                part=part.path,
                category=category,
                recipients=recipients,
            )


def _like_macros(part: Part) -> list[str]:
    return [LIKE_MACROS[code] for code in part.active if code in LIKE_MACROS]


FILTER = Filter(
    "macro",
    Kind.ATTACHMENT,
    Options(),
    asks_nothing,
    judge,
    codes=("present", "auto-run", "suspicious", "active"),
    inspects=True,
)
