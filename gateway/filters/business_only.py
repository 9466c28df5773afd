"""Admit only known business partners: the whitelist decides, everybody else is refused.

Reads the one author that readers show, the reverse-path, the peer, and for bounces the Message-IDs that they name. An
entry counts only with the proof that it asks for. Bounces come in when they answer mail that we sent; while the
database cannot tell, they are deferred. What the portal hands in has been admitted there.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

from pydantic import Field, field_validator

from gateway.filters import Filter, FilterOptions
from gateway.mail.address import Address, ip_in
from gateway.mail.envelope import Direction, ListenerKind
from gateway.policy.compile import Policy
from gateway.policy.ledger import Proof, WhitelistEntry
from gateway.verdict import Action, Answers, Case, Finding, Kind, Question, SentMessageQuestion, Unknown


class Bounces(StrEnum):
    """What may come with the null reverse-path."""

    ANSWERS = "answers"  # answers to mail that we sent
    PARTNERS = "partners"  # these, and whatever a listed partner's author sends
    ANY = "any"


class Options(FilterOptions):
    action: Literal[Action.REJECT, Action.QUARANTINE] = Field(Action.REJECT, title="Unknown senders")
    bounces: Bounces = Field(
        Bounces.ANSWERS, title="Bounces", description="Which mail with the empty return path is admitted"
    )
    unknown_action: Literal[Action.DEFER, Action.QUARANTINE, Action.REJECT, Action.DELIVER] = Field(
        Action.DEFER, title="When it cannot be told whether a bounce answers our mail"
    )
    exempt: tuple[str, ...] = Field(
        ("postmaster", "abuse"), title="Open mailboxes", description="Local parts of ours that take mail from anybody"
    )

    @field_validator("exempt")
    @classmethod
    def _lower(cls, exempt: tuple[str, ...]) -> tuple[str, ...]:
        return tuple([one.strip().lower() for one in exempt])


def ask(case: Case, options: Options, policy: Policy) -> Iterable[Question]:
    if _needs_answer(case, options) and _concerned(case, options) and (question := _question(case)):
        return (question,)
    return ()


def judge(case: Case, options: Options, policy: Policy, answers: Answers) -> Iterable[Finding]:
    concerned = _concerned(case, options)
    if not concerned:
        return ()
    recipients = case.only(concerned)
    is_bounce = case.envelope.mail_from.is_null
    if is_bounce and options.bounces is Bounces.ANY:
        return (Finding("bounce", "bounces are admitted from anybody", recipients=recipients),)
    if not is_bounce or options.bounces is Bounces.PARTNERS:
        finding = _partner(case, options, policy, recipients)
        if not is_bounce or finding.action is Action.DELIVER:
            return (finding,)
    return (_bounce(case, options, answers, recipients),)


def _concerned(case: Case, options: Options) -> tuple[Address, ...]:
    """Return the recipients that this is about: ours, from outside, but for the open mailboxes."""
    if case.session.listener is ListenerKind.PORTAL:
        return ()
    inbound, exempt = case.towards(Direction.INBOUND), options.exempt
    return tuple([one for one in inbound if one.local.lower() not in exempt])


def _partner(case: Case, options: Options, policy: Policy, recipients: tuple[Address, ...] | None) -> Finding:
    author = case.facts.author
    if author is None:
        detail = (
            f"{case.facts.from_count} From fields with {len(case.facts.authors)} authors: no single author to look up"
        )
        return Finding("unclear-author", detail, action=options.action, category="business", recipients=recipients)
    entries = policy.ledger.whitelisted(author, case.envelope.mail_from, case.now)
    if not entries and (ours := _ours(case, policy, author)):
        detail = f"{case.session.peer_ip} sends as {author.ascii_domain}"
        return Finding("ours", detail, entry=ours, recipients=recipients)
    if not entries:
        detail = f"{author} is not listed, nor is the return path {case.envelope.mail_from}"
        return Finding("unknown-sender", detail, action=options.action, category="business", recipients=recipients)
    weak: WhitelistEntry | None = None
    for entry in entries:
        if entry.proof is Proof.PINNED_ADDRESS and ip_in(case.session.peer_ip, entry.networks):
            return Finding("listed", f"{entry.value} is listed", entry=entry.id, recipients=recipients)
        if entry.proof is Proof.NONE and weak is None:
            weak = entry
    if weak is not None:
        detail = f"{weak.value} is listed, without any proof that it is the sender"
        return Finding("weak-proof", detail, entry=weak.id, recipients=recipients)
    entry = entries[0]
    return Finding(
        "proof-missing",
        f"{entry.value} is listed, but {case.session.peer_ip} is not an address of theirs",
        action=options.action,
        category="business",
        entry=entry.id,
        recipients=recipients,
    )


def _ours(case: Case, policy: Policy, author: Address) -> str:
    """Return the ledger entry that lets the peer send as the author's domain of ours, "" without one."""
    entries = policy.ledger.sends_as_us(author.ascii_domain, case.now)
    return next((one.id for one in entries if ip_in(case.session.peer_ip, one.networks)), "")


def _needs_answer(case: Case, options: Options) -> bool:
    return case.envelope.mail_from.is_null and options.bounces is not Bounces.ANY


def _question(case: Case) -> SentMessageQuestion | None:
    """Ask for the messages that a bounce says it answers; None when it names none."""
    named = tuple(dict.fromkeys([*case.facts.dsn_message_ids, *case.facts.reply_ids]))
    return SentMessageQuestion(named) if named else None


def _bounce(case: Case, options: Options, answers: Answers, recipients: tuple[Address, ...] | None) -> Finding:
    question = _question(case)
    answer = answers[question] if question else ()
    if isinstance(answer, Unknown):
        detail = f"cannot tell whether it answers our mail: {answer.why}"
        return Finding("cannot-tell", detail, action=options.unknown_action, category="failed", recipients=recipients)
    if answer:
        return Finding("bounce", f"answers {answer[0]}, which we sent", recipients=recipients)
    detail = "names no message that we sent" if question else "names no message at all"
    return Finding("unsolicited-bounce", detail, action=options.action, category="business", recipients=recipients)


FILTER = Filter(
    "business_only",
    Kind.BUSINESS,
    Options(),
    ask,
    judge,
    codes=(
        "listed",
        "weak-proof",
        "ours",
        "bounce",
        "unknown-sender",
        "unclear-author",
        "proof-missing",
        "unsolicited-bounce",
        "cannot-tell",
    ),
)
