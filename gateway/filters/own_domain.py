"""Refuse mail from outside whose author is in our own domains and proves nothing.

Reads the authors in every reading that a mail reader may have, so that no odd From field slips by, and the peer. Proof
is a ledger entry "sends as us" with the peer's address. What the portal hands in is our own.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from gateway.filters import Filter, FilterOptions, asks_nothing
from gateway.inspection.facts import HIDING
from gateway.mail.address import Address, ip_in, parent_domains
from gateway.mail.envelope import Direction, ListenerKind
from gateway.policy.compile import Policy
from gateway.verdict import Action, Answers, Case, Finding, Kind

# With these an author may stand where nobody looked.
UNSEEN = HIDING - {"ambiguous_author"}


class Options(FilterOptions):
    action: Literal[Action.REJECT, Action.QUARANTINE] = Field(Action.REJECT, title="When forged")
    subdomains: bool = Field(True, title="Sub-domains", description="Domains below ours are ours as well")


def judge(case: Case, options: Options, policy: Policy, answers: Answers) -> Iterable[Finding]:
    inbound = case.towards(Direction.INBOUND)
    if not inbound or case.session.listener is ListenerKind.PORTAL:
        return ()
    claimed = []
    for author in case.facts.authors:
        if domain := own_domain_of(author.ascii_domain, options, policy):
            claimed.append(domain)
    is_unseen = not UNSEEN.isdisjoint(case.facts.defects)
    if not claimed and not is_unseen:
        return ()
    return _found(set(claimed), is_unseen, case, options, policy, recipients=case.only(inbound))


def _found(
    claimed: set[str],
    is_unseen: bool,
    case: Case,
    options: Options,
    policy: Policy,
    *,
    recipients: tuple[Address, ...] | None,
) -> Iterator[Finding]:
    for domain in sorted(claimed):
        peer = case.session.peer_ip
        entry = next((one for one in policy.ledger.sends_as_us(domain, case.now) if ip_in(peer, one.networks)), None)
        if entry is None:
            detail = f"the author is in {domain}, and nothing proves that {peer} may send for it"
            yield Finding("forged", detail, action=options.action, category="own_domain", recipients=recipients)
        else:
            yield Finding("proven", f"{peer} sends for {domain}", entry=entry.id, recipients=recipients)
    if is_unseen:
        detail = "the header has more fields than are looked at: it may have another author"
        yield Finding("unseen-author", detail, action=options.action, category="protocol", recipients=recipients)


def own_domain_of(domain: str, options: Options, policy: Policy) -> str:
    """Return `domain` if it is ours, or below one of ours where these count; else ""."""
    domain = domain.rstrip(".")
    if domain in policy.own_domains:
        return domain
    if options.subdomains and not policy.own_domains.isdisjoint(parent_domains(domain)):
        return domain
    return ""


FILTER = Filter(
    "own_domain",
    Kind.AUTHENTICITY,
    Options(),
    asks_nothing,
    judge,
    codes=("forged", "proven", "unseen-author"),
    floor=("forged", "unseen-author"),
)
