"""Look at who a message says that its author is: several, none, unclear, or a name that shows somebody else's address.

Reads the From fields in every reading. Many readers show the display name only, so an address within it is taken for
the author's. Whether the author is who he says he is, is other filters' affair.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from gateway.filters import Filter, FilterOptions, asks_nothing
from gateway.inspection.words import decode_words
from gateway.mail.address import Address, parent_domains
from gateway.mail.envelope import Direction
from gateway.policy.compile import Policy
from gateway.verdict import Action, Answers, Case, Finding, Kind

_Action = Literal[Action.REJECT, Action.QUARANTINE, Action.DELIVER]
MAX_VALUE = 2000  # characters of one From field that are looked at
# What a person takes for an address; also with the signs that look like an at sign and a dot.
_ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}[@\uff20\ufe6b]((?:[\w-]{1,63}[.\u3002\uff0e]){1,10}[\w-]{2,63})")
_DOTS = str.maketrans("\u3002\uff0e", "..")


class Options(FilterOptions):
    directions: tuple[Direction, ...] = Field((Direction.INBOUND,), title="Mail")
    several_fields: _Action = Field(Action.REJECT, title="Several From fields", description="RFC 5322 allows one")
    several_authors: _Action = Field(Action.DELIVER, title="Several authors in one From field")
    unclear: _Action = Field(Action.QUARANTINE, title="From field that readers read differently")
    no_author: _Action = Field(Action.QUARANTINE, title="No author")
    shows_other: _Action = Field(Action.DELIVER, title="Name that holds another address")
    shows_ours: _Action = Field(Action.QUARANTINE, title="Name that holds an address of ours")


def judge(case: Case, options: Options, policy: Policy, answers: Answers) -> Iterable[Finding]:
    concerned = case.among(options.directions)
    return _found(case, options, policy, case.only(concerned)) if concerned else ()


def _found(case: Case, options: Options, policy: Policy, recipients: tuple[Address, ...] | None) -> Iterator[Finding]:
    facts = case.facts
    seen: list[tuple[str, Action, str]] = []
    if facts.from_count > 1:
        seen.append(("several-fields", options.several_fields, f"{facts.from_count} From fields"))
    elif len(facts.authors) > 1:
        seen.append(("several-authors", options.several_authors, f"{len(facts.authors)} authors"))
    if "ambiguous_author" in facts.defects:
        seen.append(("unclear", options.unclear, "readers see different authors"))
    if not facts.authors:
        seen.append(("no-author", options.no_author, "no From field names a mailbox"))
    for domain, shown in _shown(case).items():
        is_ours = domain in policy.own_domains or not policy.own_domains.isdisjoint(parent_domains(domain))
        detail = f"the author's name holds {shown}, which is not the author's address"
        if is_ours:
            seen.append(("shows-ours", options.shows_ours, detail))
        else:
            seen.append(("shows-other", options.shows_other, detail))
    for code, action, detail in seen:
        yield Finding(code, detail, action=action, category="author_unclear", recipients=recipients)


def _shown(case: Case) -> dict[str, str]:
    """Return the addresses within display names that are no author's, by their domains."""
    authors = {str(author).lower() for author in case.facts.authors}
    domains = {author.ascii_domain for author in case.facts.authors}
    found: dict[str, str] = {}
    for value in case.facts.values("from"):
        if value.count("@") < 2 and "=?" not in value and value.isascii():
            continue  # nearly all: one address, no name that could hold another
        for match in _ADDRESS.finditer(decode_words(value[:MAX_VALUE])):
            domain = match[1].translate(_DOTS).lower()
            if match[0].lower() not in authors and domain not in domains:
                found.setdefault(domain, match[0])
    return found


FILTER = Filter(
    "author",
    Kind.AUTHENTICITY,
    Options(),
    asks_nothing,
    judge,
    codes=("several-fields", "several-authors", "unclear", "no-author", "shows-other", "shows-ours"),
)
