"""Keep out files that nobody can look into: encrypted archives, office files, PDFs.

Reads the locks that the box found. What a password of the operator's list or of the message's own text opened has been
looked into, and is noted only.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from gateway.filters import Filter, FilterOptions, asks_nothing
from gateway.inspection.facts import Lock
from gateway.mail.address import Address
from gateway.mail.envelope import Direction
from gateway.policy.compile import Policy
from gateway.verdict import Action, Answers, Case, Finding, Kind


class Options(FilterOptions):
    directions: tuple[Direction, ...] = Field((Direction.INBOUND,), title="Mail")
    action: Literal[Action.REJECT, Action.QUARANTINE, Action.DELIVER] = Field(
        Action.REJECT, title="Encrypted attachments"
    )
    passwords: tuple[str, ...] = Field(
        ("infected", "password", "VelvetSweatshop"),
        max_length=100,
        title="Passwords to try",
        description="On archives, office files and PDFs, besides the words of the message itself",
    )


def judge(case: Case, options: Options, policy: Policy, answers: Answers) -> Iterable[Finding]:
    if not case.facts.parts or not (concerned := case.among(options.directions)):
        return ()
    return _found(case, options, policy.document.about_attachments("encrypted"), case.only(concerned))


def _found(case: Case, options: Options, category: str, recipients: tuple[Address, ...] | None) -> Iterator[Finding]:
    for part in case.facts.parts:
        if part.lock is Lock.LOCKED:
            detail = f"{part.shown} is encrypted, and no known password opens it"
            yield Finding(
                "locked", detail, action=options.action, part=part.path, category=category, recipients=recipients
            )
        elif part.lock is Lock.OPENED:
            yield Finding("opened", f"{part.shown} was opened by a known password", part=part.path)


FILTER = Filter("encrypted", Kind.ATTACHMENT, Options(), asks_nothing, judge, codes=("locked", "opened"), inspects=True)
