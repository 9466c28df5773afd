"""From the end of DATA to the reply: inspect, judge, transform, commit to the spool, hand over for delivery.

`take` is the whole path of a message in one place (docs/flow.md). Before the spool has said that the record is
durable nothing has been promised to the peer; after it the mail is ours, whatever happens to the database, the peer
or this process.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from msgspec.structs import replace

from gateway import log, metrics
from gateway.accepted import Accepted, Location
from gateway.inspection.inspect import Opens, inspect
from gateway.inspection.scan import scan
from gateway.judge import judge, questions, redact
from gateway.mail import reply as replies
from gateway.mail.envelope import Envelope, Session
from gateway.mail.reference import new_id, reference
from gateway.mail.reply import Reply
from gateway.policy.compile import Policy
from gateway.relay import key_uses
from gateway.relay.importer import Importer
from gateway.relay.outgoing import ENCODE, Judged, Outgoing, behind_upstream, head, make_trace, prepare, share_out
from gateway.relay.services import CountsData
from gateway.spool import Pieces, SpoolFailed, SpoolFull
from gateway.verdict import Action, Answer, Answers, Case, KeyUseQuestion, Question, Unknown, Verdict

ANSWER_SECONDS = 5.0  # One deadline for all questions of a message.
REFUSING = frozenset({Action.REJECT, Action.DEFER})
REFUSAL_EVENTS = {
    Action.REJECT: "message.refused",
    Action.DEFER: "message.deferred",
    Action.DISCARD: "message.discarded",
}


class Appends(Protocol):
    """The spool, as far as intake needs it."""

    def has_room(self, size: int = 0) -> bool: ...

    async def append(self, records: Sequence[tuple[Accepted, Pieces]], *, linger: bool = False) -> list[Location]: ...


class Delivers(Protocol):
    """Delivery, as far as intake needs it."""

    def first_attempt(self, accepted: Accepted, pieces: Pieces, policy: Policy) -> None: ...


class AnswersQuestions(Protocol):
    async def answer(self, asked: Sequence[Question]) -> Answers: ...

    async def claim(self, question: KeyUseQuestion, sha256: str, recipients: Sequence[str]) -> Answer: ...


class Intake:
    """One for each SMTP worker."""

    def __init__(
        self,
        spool: Appends,
        importer: Importer,
        delivery: Delivers,
        answers: AnswersQuestions,
        *,
        in_data: CountsData,
        box: Opens,
    ) -> None:
        self._spool = spool
        self._importer = importer
        self._delivery = delivery
        self._answers = answers
        self._in_data = in_data
        self._box = box
        self._had_room = True

    def has_room(self, size: int = 0) -> Reply | None:
        """Return the reply that turns a transaction away at MAIL, or None."""
        has_room = self._spool.has_room(size)
        if has_room is not self._had_room:
            self._note_room(has_room)
        if not has_room:
            return replies.STORAGE_FULL
        if self._importer.is_full:
            return replies.BACKLOG_FULL
        return None

    def _note_room(self, has_room: bool) -> None:
        """Say once that mail is turned away, and once that it is taken again."""
        self._had_room = has_room
        if has_room:
            log.info("spool.room")
        else:
            log.warning("spool.full")

    async def take(
        self, session: Session, envelope: Envelope, raw: bytes, policy: Policy, *, has_dots: bool = True
    ) -> Reply:
        """Carry one message to its outcome; return what the peer is told."""
        started = time.perf_counter()
        now = datetime.now(UTC)
        facts = scan(raw, envelope=envelope)
        if policy.inspects:
            facts = (await inspect(raw, facts, self._box, passwords=policy.passwords)).facts
        case = Case(behind_upstream(session, facts, policy), envelope, facts, now)
        asked = questions(case, policy)
        answers = await self._ask(asked) if asked else {}
        judgement = judge(case, policy, answers)
        settled = key_uses.Settled(answers, judgement)
        if answers:
            settled = await key_uses.settle(case, policy, answers, judgement, raw, self._answers)
        # From here on nothing knows the secrets that were in the message.
        judgement, known = redact(settled.judgement, facts)
        if known is not facts:
            case = replace(case, facts=known)
        took = time.perf_counter() - started
        metrics.observe("judge_seconds", took)
        judged = Judged(
            id=new_id(int(now.timestamp() * 1000)),
            raw=raw,
            case=case,
            answers=settled.answers,
            judgement=judgement,
            verdicts=share_out(judgement.verdicts),
            policy=policy,
            timings_ms={"judge": round(took * 1000, 3)},
            has_dots=has_dots,
            claimed=settled.entries,
            sha256=settled.sha256,
        )
        for verdict in judged.verdicts:
            metrics.count("messages", verdict.action)
        for finding in judgement.findings:
            metrics.count("findings", finding.reason)
        reply = await self._carry_out(judged)
        metrics.observe("transaction_seconds", time.perf_counter() - started)
        return reply

    async def _ask(self, asked: Sequence[Question]) -> Answers:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._answers.answer(asked)
        except TimeoutError:
            return {question: Unknown("no answer in time") for question in asked}

    async def _carry_out(self, judged: Judged) -> Reply:
        worst = judged.verdicts[0]
        if worst.action in REFUSING:
            self._note_refusal(judged)
            return refusal_of(judged, worst)
        outgoing = prepare(judged)
        if not outgoing:  # discarded for every recipient
            self._note_refusal(judged)
            return replies.queued(judged.ref)
        try:
            locations = await self._spool.append(
                [(one.accepted, one.pieces) for one in outgoing], linger=self._in_data.count > 0
            )
        except SpoolFull:
            log.warning("spool.full", ref=judged.ref)
            return replies.STORAGE_FULL
        except SpoolFailed as error:
            log.error("spool.failed", ref=judged.ref, error=str(error))
            return replies.STORAGE_FAILED
        # The records are durable: from here on the message is ours, whatever happens to the peer or the database.
        for one, location in zip(outgoing, locations, strict=True):
            self._hand_over(one, location, judged.policy)
        metrics.count("messages_bytes", amount=len(judged.raw))
        return replies.queued(judged.ref)

    def _hand_over(self, one: Outgoing, location: Location, policy: Policy) -> None:
        accepted = one.accepted
        # Known to the importer before delivery starts, so that no result comes before its message.
        self._importer.put(accepted, location)
        log.info(
            "message.held" if accepted.held else "message.accepted",
            ref=reference(accepted.id),
            mail_from=str(accepted.mail_from),
            recipients=[str(recipient.address) for recipient in accepted.recipients],
            size=accepted.size,
            reason=accepted.reason,
            peer=accepted.peer_ip,
        )
        if not accepted.held:
            self._delivery.first_attempt(accepted, one.pieces, policy)

    def _note_refusal(self, judged: Judged) -> None:
        worst = judged.verdicts[0]
        recipients = judged.case.envelope.recipients
        trace = ENCODE(make_trace(judged))
        self._importer.put_refused(head(judged, 0, worst, recipients, size=judged.case.facts.size, trace=trace))
        log.info(
            REFUSAL_EVENTS[worst.action],
            ref=judged.ref,
            mail_from=str(judged.case.envelope.mail_from),
            recipients=[str(recipient.address) for recipient in recipients],
            reason=worst.reason,
            peer=judged.case.session.peer_ip,
        )


def refusal_of(judged: Judged, verdict: Verdict) -> Reply:
    """The public words of a refusal or a deferral: a category and a reference, never a rule or a cause."""
    portal_url, is_temporary = judged.policy.document.portal_url, verdict.action is Action.DEFER
    return replies.refusal(verdict.category, judged.ref, portal_url, is_temporary=is_temporary)
