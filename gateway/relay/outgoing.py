"""From a judged message to its records: mixed outcomes, transforms, our own fields, the head of each group."""

from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256

import msgspec

from gateway.accepted import Accepted, Kept, Objection
from gateway.inspection.facts import Facts
from gateway.judge import Judgement
from gateway.mail.envelope import Direction, Recipient, Session
from gateway.mail.received import received_field, with_protocol
from gateway.mail.reference import reference
from gateway.policy.compile import Policy
from gateway.relay.proxy import upstream_peer
from gateway.spool import Pieces
from gateway.transforms.apply import Applied, apply
from gateway.verdict import Action, Answers, Case, Change, Finding, Trace, Verdict, counts

HELD_ACTIONS = frozenset({Action.QUARANTINE, Action.HOLD_FOR_SENDER})
OUR_SIDE = frozenset({Direction.OUTBOUND, Direction.INTERNAL})  # mail of our own people and machines
COUNTED = frozenset({"bypass_key:wrong_key", "bypass_key:expired_key", "bypass_key:early_key"})
MAX_LISTED = 998  # characters of a Subject or author kept in lists
MAX_OBJECTIONS = 50  # kept of one group
ENCODE = msgspec.msgpack.Encoder().encode


class Outgoing(msgspec.Struct, frozen=True):
    """One group of recipients, ready for the spool."""

    accepted: Accepted
    pieces: Pieces


class Judged(msgspec.Struct, frozen=True):
    """Everything that is known of one message once it has been judged."""

    id: str
    raw: bytes
    case: Case
    answers: Answers
    judgement: Judgement
    verdicts: tuple[Verdict, ...]
    policy: Policy
    timings_ms: dict[str, float]
    has_dots: bool = True
    claimed: tuple[str, ...] = ()
    sha256: str = ""

    @property
    def ref(self) -> str:
        return reference(self.id)


def behind_upstream(session: Session, facts: Facts, policy: Policy) -> Session:
    """Return the session with the peer that a trusted upstream hop took the message from, where there are such."""
    if not policy.document.trust.upstream:
        return session
    peer = upstream_peer(facts.values("received"), session.peer_ip, policy)
    return session if peer is None else msgspec.structs.replace(session, peer_ip=peer, peer_name="")


def share_out(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Settle mixed outcomes for one SMTP reply, worst first.

    Any defer defers the whole message, since no share of it can be kept. All refused: refused. Mixed: the refused
    share is quarantined, so that nobody is told that a message was refused which others received.
    """
    if len(verdicts) == 1:
        return tuple(verdicts)
    ordered = sorted(verdicts, key=lambda verdict: -verdict.action.severity)
    if all(verdict.action is Action.REJECT for verdict in ordered):
        return tuple(ordered)
    deferred = [verdict for verdict in ordered if verdict.action is Action.DEFER]
    if deferred:
        return (*deferred, *(verdict for verdict in ordered if verdict.action is not Action.DEFER))
    return tuple(
        msgspec.structs.replace(verdict, action=Action.QUARANTINE) if verdict.action is Action.REJECT else verdict
        for verdict in ordered
    )


def prepare(judged: Judged) -> list[Outgoing]:
    """Make the record of each group that is delivered or held: its bytes and its head.

    Group 0 carries the trace of all. What is held stays as it was received: a release judges those bytes again, and
    the transforms of that verdict are the ones that count.
    """
    groups = [(verdict, group) for verdict, group in groups_of(judged) if verdict.action is not Action.DISCARD]
    applied = [
        Applied((judged.raw,), ()) if verdict.action in HELD_ACTIONS else apply_to(judged, verdict, recipients)
        for verdict, recipients in groups
    ]
    changes = tuple(change for one in applied for change in one.changes)
    trace = ENCODE(make_trace(judged, changes))
    return [
        Outgoing(
            head(
                judged,
                number,
                verdict,
                recipients,
                size=_length(one.pieces),
                trace=b"" if number else trace,
                sent_id=one.message_id,
            ),
            one.pieces,
        )
        for number, ((verdict, recipients), one) in enumerate(zip(groups, applied, strict=True))
    ]


def groups_of(judged: Judged) -> list[tuple[Verdict, tuple[Recipient, ...]]]:
    """Split each verdict's recipients by direction: the route and our own fields depend on it."""
    recipients = judged.case.envelope.recipients
    if len(judged.verdicts) == 1 and len({recipient.direction for recipient in recipients}) == 1:
        return [(judged.verdicts[0], recipients)]
    groups = []
    for verdict in judged.verdicts:
        meant = set(verdict.recipients)
        for direction in Direction:
            group = tuple(one for one in recipients if one.direction is direction and one.address in meant)
            if group:
                groups.append((verdict, group))
    return groups


def apply_to(judged: Judged, verdict: Verdict, recipients: tuple[Recipient, ...]) -> Applied:
    """Return the message as it leaves for recipients of one direction. Our trace field has the time of `case.now`."""
    direction = recipients[0].direction
    received = _received(judged, recipients)
    return apply(judged.raw, judged.case, verdict, direction=direction, received=received, policy=judged.policy)


def _received(judged: Judged, recipients: Sequence[Recipient]) -> bytes:
    """Our trace field. Outside nobody needs to know which machine of ours sent the message (S5)."""
    session, envelope = judged.case.session, judged.case.envelope
    leaves = recipients[0].direction is Direction.OUTBOUND
    return received_field(
        helo="" if leaves else session.helo,
        peer_name="" if leaves else session.peer_name,
        peer_ip="" if leaves else session.peer_ip,
        by=judged.policy.public_name if leaves else judged.policy.hostname,
        tls=session.tls,
        protocol=with_protocol(esmtp=session.esmtp, tls=session.tls is not None, smtputf8=envelope.smtputf8),
        id=judged.ref,
        at=judged.case.now,
        recipient=recipients[0].address if len(recipients) == 1 else None,
    )


def make_trace(judged: Judged, changes: tuple[Change, ...] = ()) -> Trace:
    """Everything that was decided about the message, and why."""
    return Trace(
        id=judged.id,
        ref=judged.ref,
        case=judged.case,
        answers=tuple(judged.answers.items()),
        findings=judged.judgement.findings,
        verdicts=judged.verdicts,
        changes=changes,
        off=judged.policy.off,
        timings_ms=judged.timings_ms,
    )


def head(
    judged: Judged,
    number: int,
    verdict: Verdict,
    recipients: tuple[Recipient, ...],
    *,
    size: int,
    trace: bytes,
    sent_id: str = "",
) -> Accepted:
    """Return the head of one group's record."""
    case, policy = judged.case, judged.policy
    facts, envelope, session = case.facts, case.envelope, case.session
    direction = recipients[0].direction
    is_held = verdict.action in HELD_ACTIONS
    return Accepted(
        id=judged.id,
        group=number,
        mail_from=envelope.mail_from,
        recipients=recipients,
        direction=direction,
        accepted_at=case.now,
        expires_at=case.now + timedelta(days=policy.document.limits.retry_days),
        size=size,
        held=hold_kind(verdict),
        held_reason=verdict.reason,
        route=verdict.route,
        body=envelope.body,
        smtputf8=envelope.smtputf8,
        ret=envelope.ret,
        envid=envelope.envid,
        # While neither SPF nor DKIM is checked nobody outside can be told of a failure: the path may be forged.
        may_notify=direction in OUR_SIDE,
        author=str(facts.authors[0])[:MAX_LISTED] if facts.authors else "",
        subject=facts.subject[:MAX_LISTED],
        message_id=facts.message_id,
        sent_message_id=sent_id or facts.message_id,
        action=verdict.action,
        reason=verdict.reason,
        peer_ip=session.peer_ip,
        helo=session.helo,
        source=session.source,
        tls=session.tls.version if session.tls else "",
        policy_version=policy.version,
        # 0.1 ms for a mean message, and only waivers and claims ask for it.
        sha256=judged.sha256 or (sha256(judged.raw).hexdigest() if is_held else ""),
        used_entries=_used_entries(judged),
        claimed=judged.claimed,
        counted=() if number else _counted(judged),
        is_ascii=not (facts.eight_bit_header or facts.eight_bit_body),
        has_dots=judged.has_dots,
        trace=trace,
        kept=Kept(session, envelope, objections(judged.judgement.findings, verdict, policy)) if is_held else None,
    )


def _counted(judged: Judged) -> tuple[str, ...]:
    """Return the findings that have no effect and whose number somebody wants to see: guesses at keys."""
    return tuple([one.reason for one in judged.judgement.findings if one.reason in COUNTED])


def _used_entries(judged: Judged) -> tuple[str, ...]:
    """Return the ledger rows that the message made use of."""
    entries = [finding.entry for finding in judged.judgement.findings if finding.entry]
    if judged.case.session.source:
        entries.append(judged.case.session.source)
    return tuple(dict.fromkeys(entries))


def objections(findings: Sequence[Finding], verdict: Verdict, policy: Policy) -> tuple[Objection, ...]:
    """Return all that stands against delivery to the verdict's recipients, not only what decided, in its order."""
    meant = set(verdict.recipients)
    found = {
        Objection(one.reason, one.detail[:MAX_LISTED], one.floor): None
        for one in findings
        if one.action is not Action.DELIVER
        and counts(one, observe=policy.document.observe)
        and (one.recipients is None or not meant.isdisjoint(one.recipients))
        and (one.floor or one.reason not in verdict.exempted)
    }
    return tuple(found)[:MAX_OBJECTIONS]


def hold_kind(verdict: Verdict) -> str:
    """The kind of quarantine that a held group goes to, "" for one that is delivered."""
    if verdict.action not in HELD_ACTIONS:
        return ""
    return verdict.hold or verdict.reason.partition(":")[0] or verdict.action


def _length(pieces: Pieces) -> int:
    return sum(map(len, pieces))
