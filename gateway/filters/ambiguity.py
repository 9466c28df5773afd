"""Object to messages that readers could read differently: who looks would see one thing, and the recipient another.

Reads the defects of the structure and the oddities of files. All readings have been looked into already; this is about
the ambiguity itself. Careless software makes some of them every day, others are made on purpose only: each has an
action of its own.
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

# Codes of `structure.DEFECTS` with words, and what is done where the operator says nothing.
STRUCTURE: dict[str, tuple[str, _Action]] = {
    "ambiguous_type": ("a content type has several readings", Action.QUARANTINE),
    "ambiguous_boundary": ("a boundary has several readings", Action.QUARANTINE),
    "ambiguous_name": ("a file has different names", Action.DELIVER),
    "ambiguous_encoding": ("a transfer encoding has several readings", Action.QUARANTINE),
    "odd_encoding": ("a transfer encoding is none as it is written", Action.DELIVER),
    "long_boundary": ("a boundary is longer than allowed", Action.DELIVER),
    "long_name": ("a file's name is very long", Action.DELIVER),
    "no_blank_line": ("a part's header does not end where it should", Action.DELIVER),
    "line_of_blanks": ("a part's header holds a line of blanks", Action.DELIVER),
    "no_boundary": ("a multipart names no boundary", Action.QUARANTINE),
    "no_delimiter": ("a multipart's boundary is nowhere", Action.DELIVER),
    "no_close": ("a multipart is not closed", Action.DELIVER),
    "prefix_boundary": ("a line begins with a boundary and goes on", Action.DELIVER),
    "inline_delimiter": ("a boundary stands within a line", Action.DELIVER),
    "early_close": ("parts follow after a multipart's end", Action.QUARANTINE),
    "unexpected_boundary": ("there are parts where the type has none", Action.QUARANTINE),
    "preamble": ("something stands before the first part", Action.DELIVER),
    "epilogue": ("something stands after the last part", Action.DELIVER),
    "hidden_parts": ("what looks like parts stands in a text", Action.DELIVER),
    "undeclared_base64": ("a text holds a file in base64", Action.DELIVER),
    "uuencode": ("a text holds a file in uuencode", Action.DELIVER),
    "yenc": ("a text holds a file in yEnc", Action.DELIVER),
    "binhex": ("a text holds a file in BinHex", Action.DELIVER),
    "encoded_multipart": ("a multipart is encoded as a whole", Action.QUARANTINE),
    "encoded_message": ("an attached message is encoded as a whole", Action.DELIVER),
    "no_message": ("an attached message is none", Action.DELIVER),
}
# Codes of `look.PROBLEMS` that files have.
FILES: dict[str, tuple[str, _Action]] = {
    "conflicting_directory": ("shows different files to different programs", Action.QUARANTINE),
    "prepended_data": ("has something before its beginning", Action.DELIVER),
    "appended_data": ("has something after its end", Action.DELIVER),
    "odd_name": ("has a name that leads elsewhere or cannot be read", Action.QUARANTINE),
    "mismatched_name": ("has different names", Action.DELIVER),
}
DEFAULTS: dict[str, _Action] = {code: action for code, (_, action) in {**STRUCTURE, **FILES}.items()}
Code = Literal[
    "ambiguous_type", "ambiguous_boundary", "ambiguous_name", "ambiguous_encoding", "odd_encoding", "long_boundary",
    "long_name", "no_blank_line", "line_of_blanks", "no_boundary", "no_delimiter", "no_close", "prefix_boundary",
    "inline_delimiter", "early_close", "unexpected_boundary", "preamble", "epilogue", "hidden_parts",
    "undeclared_base64", "uuencode", "yenc", "binhex", "encoded_multipart", "encoded_message", "no_message",
    "conflicting_directory", "prepended_data", "appended_data", "odd_name", "mismatched_name",
]  # fmt: skip


class Options(FilterOptions):
    directions: tuple[Direction, ...] = Field((Direction.INBOUND,), title="Mail")
    actions: dict[Code, _Action] = Field(
        {}, title="What is done", description="By what is ambiguous; what is not named here is done as shipped"
    )

    def action(self, code: str) -> Action:
        return self.actions.get(code, DEFAULTS[code])  # type: ignore[call-overload,no-any-return]


def judge(case: Case, options: Options, policy: Policy, answers: Answers) -> Iterable[Finding]:
    facts = case.facts
    if not (facts.defects or facts.parts) or not (concerned := case.among(options.directions)):
        return ()
    return _found(case, options, case.only(concerned))


def _found(case: Case, options: Options, recipients: tuple[Address, ...] | None) -> Iterator[Finding]:
    seen = [("", STRUCTURE[code][0], code) for code in dict.fromkeys(case.facts.defects) if code in STRUCTURE]
    seen += [
        (part.path, f"{part.shown} {FILES[code][0]}", code)
        for part in case.facts.parts
        for code in part.problems
        if code in FILES
    ]
    for path, detail, code in seen:
        yield Finding(
            code.replace("_", "-"),
            detail,
            action=options.action(code),
            part=path,
            category="protocol",
            recipients=recipients,
        )


FILTER = Filter(
    "ambiguity",
    Kind.CONTENT,
    Options(),
    asks_nothing,
    judge,
    codes=tuple(code.replace("_", "-") for code in DEFAULTS),
    inspects=True,
)
