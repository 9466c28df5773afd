"""Whose names a relay source may use: in MAIL FROM, which the gate asks about, and as author, which is judged here.

A right of the ledger's entry and no filter: it has no mode, nothing opens it, and observe mode blocks here as the gate
does before DATA. The author is who `From` names, since that is who people believe wrote it. `Sender` names the machine
that handed mail in, as often as not by its host name, and is looked at only where there is no From to show.
"""

from typing import Final

from gateway.inspection.facts import HIDING, Facts
from gateway.mail.envelope import ListenerKind
from gateway.policy.compile import Policy
from gateway.policy.ledger import RelaySource
from gateway.verdict import Action, Case, Finding, Kind

NAME: Final = "relay"  # stands in findings where others have their filter
CODES: Final = ("author-not-allowed", "unclear-author")
# What some readers show as author where there is no From.
STAND_INS: Final = frozenset({"sender", "resent-from", "resent-sender"})
# On the others a source hands in mail of others: back from the second scanner, or from the portal.
LIMITED: Final = frozenset({ListenerKind.OUTBOUND, ListenerKind.ANY})


def may_use(source: RelaySource, domain: str, policy: Policy) -> bool:
    """Tell whether a source may write under a domain (lower case, A-labels)."""
    return source.any_sender or domain in (source.allowed_domains or policy.own_domains)


def judge_author(case: Case, policy: Policy) -> tuple[Finding, ...]:
    """Return what is against the authors of a message from a relay source; nothing for all other mail.

    The null reverse-path is no exception: who writes a notification is still an author.
    """
    session, facts = case.session, case.facts
    source = policy.ledger.source(session.source)
    if source is None or source.any_sender or session.listener not in LIMITED:
        return ()
    for author in facts.authors:
        domain = author.ascii_domain
        if not may_use(source, domain, policy):
            detail = f"the author is in {domain}, which the relay source {source.network} may not use"
            return (_refused("author-not-allowed", detail, f"author:{domain}", source),)
    if is_unclear(facts):
        detail = f"it is not clear who the author is, and the relay source {source.network} may not write as anybody"
        return (_refused("unclear-author", detail, "unclear_author", source),)
    return ()


def is_unclear(facts: Facts) -> bool:
    """Tell whether readers may show another author than those that were found.

    No From at all is clear, if nothing stands in for it: nobody is named, and printers and scripts send such mail. A
    line that is no field may be one to a lenient reader.
    """
    if not HIDING.isdisjoint(facts.defects):
        return True
    if facts.from_count:
        return not facts.authors  # a bare word, which the next host may complete with a domain of its own
    return any(not field.name or field.key in STAND_INS for field in facts.fields)


def _refused(code: str, detail: str, category: str, source: RelaySource) -> Finding:
    # Of the kind that observe mode blocks as well.
    return Finding(
        code,
        detail,
        action=Action.REJECT,
        category=category,
        entry=source.id,
        filter=NAME,
        kind=Kind.PROTOCOL,
        floor=True,
    )
