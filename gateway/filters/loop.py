"""Stop mail that goes round in circles (RFC 5321 section 6.3).

Reads the number of Received fields and our own signed hop marker, which stays when outgoing mail loses its inner trace.
Mail may pass through us more than once in good order: out to a list, in again, through a second scanner.
"""

from collections.abc import Iterable, Iterator

from pydantic import Field

from gateway.filters import Filter, FilterOptions, asks_nothing
from gateway.inspection.facts import Facts
from gateway.inspection.marker import passes
from gateway.policy.compile import Policy
from gateway.verdict import Action, Answers, Case, Finding, Kind


class Options(FilterOptions):
    max_received: int = Field(
        100, ge=100, le=1000, title="Received fields", description="RFC 5321 section 6.3 asks for at least 100"
    )
    max_passes: int = Field(4, ge=3, le=50, title="Passes through us", description="Refused at so many earlier passes")


def judge(case: Case, options: Options, policy: Policy, answers: Answers) -> Iterable[Finding]:
    facts = case.facts
    if facts.hops < options.max_received and not facts.markers:
        return ()
    return _found(facts, options, policy)


def _found(facts: Facts, options: Options, policy: Policy) -> Iterator[Finding]:
    if facts.hops >= options.max_received:
        yield Finding("hops", f"{facts.hops} Received fields", action=Action.REJECT, category="loop")
    if facts.markers:
        passed = passes(facts.markers, policy.hop_key)
        if passed >= options.max_passes:
            yield Finding("passes", f"was here {passed} times before", action=Action.REJECT, category="loop")


FILTER = Filter(
    "loop", Kind.PROTOCOL, Options(), asks_nothing, judge, codes=("hops", "passes"), floor=("hops", "passes")
)
