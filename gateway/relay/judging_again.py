"""Judge a held message again: the policy in force, today's answers, the bytes as they were received.

Session and envelope are those of its coming; only one waiver counts, that of the release which asks.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec
from msgspec import Struct

from gateway.accepted import Accepted, Kept, Objection
from gateway.filters import registry
from gateway.inspection.box.alone import zygote_alone
from gateway.inspection.box.channel import Channel
from gateway.inspection.box.client import Box
from gateway.inspection.box.crashes import CrashTable
from gateway.inspection.facts import Facts
from gateway.inspection.inspect import inspect
from gateway.inspection.scan import scan
from gateway.judge import judge, questions
from gateway.mail.address import Address
from gateway.mail.errors import Conflict
from gateway.masterkey import purpose_key
from gateway.policy.compile import Policy, PolicyError, compile
from gateway.policy.ledger import LedgerEntry, Waiver
from gateway.relay.outgoing import Judged, objections
from gateway.settings import Settings
from gateway.store import bypass_keys, ledger, policies, revisions
from gateway.store.database import Database
from gateway.store.held import HeldItem
from gateway.verdict import Action, Answers, Case, Question, Unknown, Verdict

ANSWER_SECONDS = 30.0  # nobody waits in SMTP


class StillHeld(Struct, frozen=True):
    """Recipients for whom it stays held, and what would be done with it today, and why."""

    recipients: tuple[Address, ...]
    action: Action
    reason: str
    detail: str
    is_floor: bool


class AnswersQuestions(Protocol):
    async def answer(self, asked: Sequence[Question]) -> Answers: ...


class JudgedAgain(Struct, frozen=True):
    """A judgement for all recipients; `verdicts` are those of the recipients who were asked for, and no others."""

    judged: Judged
    verdicts: tuple[Verdict, ...]


class _OneWaiver(Struct, frozen=True):
    """A change of the ledger after which no waiver is in it but one: two releases at once never add up."""

    revision: int
    added: tuple[LedgerEntry, ...]
    ended: tuple[str, ...]


class JudgingAgain:
    """Holds the policy in force from one message to the next. Blocks: use it from a thread or a command."""

    def __init__(self, settings: Settings, database: Database, answers: AnswersQuestions, master_key: bytes) -> None:
        self._settings = settings
        self._database = database
        self._answers = answers
        self._master_key = master_key
        self._policy: Policy | None = None

    def judge(
        self,
        item: HeldItem,
        accepted: Accepted,
        kept: Kept,
        body: bytes,
        waiver: Waiver | None,
        chosen: tuple[Address, ...],
        now: datetime,
    ) -> JudgedAgain:
        """Judge for all recipients that the message came for, as it was judged first; tell those of `chosen`."""
        policy = self._with_only(waiver)
        facts = scan(body, envelope=kept.envelope)
        if policy.inspects:
            with zygote_alone() as channel:
                facts = asyncio.run(_inspect(body, facts, policy, channel))
        case = Case(kept.session, kept.envelope, facts, now)
        asked = questions(case, policy)
        answers = asyncio.run(self._ask(asked)) if asked else {}
        judgement = judge(case, policy, answers, sha256=waiver.sha256 if waiver else "")
        judged = Judged(
            id=item.message_id,
            raw=body,
            case=msgspec.structs.replace(case, now=accepted.accepted_at),  # our trace field says when we received it
            answers=answers,
            judgement=judgement,
            verdicts=judgement.verdicts,
            policy=policy,
            timings_ms={},
            has_dots=accepted.has_dots,
        )
        shares = [(one, tuple([to for to in one.recipients if to in chosen])) for one in judgement.verdicts]
        return JudgedAgain(
            judged, tuple([msgspec.structs.replace(one, recipients=theirs) for one, theirs in shares if theirs])
        )

    async def _ask(self, asked: Sequence[Question]) -> Answers:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._answers.answer(asked)
        except TimeoutError:
            return {question: Unknown("no answer in time") for question in asked}

    def _with_only(self, waiver: Waiver | None) -> Policy:
        policy = self._in_force()
        others = tuple([one.id for one in policy.ledger.entries() if isinstance(one, Waiver)])
        return policy.with_ledger(_OneWaiver(policy.revision, (waiver,) if waiver else (), others))

    def _in_force(self) -> Policy:
        now = revisions.current(self._database)
        policy = self._policy
        if policy is None or policy.version != now.policy_version:
            version, document = policies.load(self._database, now.policy_version)
            hop_key = purpose_key(self._master_key, "hop")
            hostname = document.hostname or self._settings.own_name
            try:
                compiled = compile(
                    document,
                    registry(),
                    hop_key=hop_key,
                    match_key=bypass_keys.match_key(self._master_key),
                    hostname=hostname,
                )
            except PolicyError as error:
                raise Conflict(f"policy version {version} cannot be used: {error}") from error
            rows = ledger.load(self._database)
            policy = Policy.of(compiled, version, rows.revision, rows.entries)
        elif policy.revision != now.ledger_revision:
            policy = policy.with_ledger(ledger.changes(self._database, policy.revision))
        self._policy = policy
        return policy


async def _inspect(body: bytes, facts: Facts, policy: Policy, channel: Channel) -> Facts:
    """Look into the message in a box of its own: whoever releases is no process that has one."""
    box = Box(channel, CrashTable())
    try:
        return (await inspect(body, facts, box, passwords=policy.passwords)).facts
    finally:
        box.close()


def objecting(
    item: HeldItem, judged: Judged, waived: Sequence[str], released: Sequence[Address]
) -> tuple[Objection, ...]:
    """Return all that objects for those who wait on. What was waived this time is among it: the next time it counts."""
    waiting = set(item.recipients) - set(released)
    found: dict[Objection, None] = {}
    for verdict in judged.verdicts:
        if not waiting.isdisjoint(verdict.recipients):
            exempted = tuple([one for one in verdict.exempted if one not in waived])
            plain = msgspec.structs.replace(verdict, exempted=exempted)
            found |= dict.fromkeys(objections(judged.judgement.findings, plain, judged.policy))
    return tuple(found)


def still_held(verdict: Verdict, judged: Judged) -> StillHeld:
    """Return what is told of a share that a verdict keeps."""
    floor = {one.reason for one in judged.judgement.findings if one.floor}
    return StillHeld(verdict.recipients, verdict.action, verdict.reason, verdict.detail, verdict.reason in floor)
