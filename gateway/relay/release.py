"""Release what is held: judged again with the policy in force, without the reasons that the release waives.

What a judgement holds was kept as it was received. A release names reasons; they become a waiver of this message (by
the hash of its bytes) for these recipients, which is used up in the transaction that puts the message into the queue.
Whatever else objects today keeps it held, and the safety floor always does. What was on its way before (undeliverable,
or held by an operator) has no reasons: it goes on as it is.

State first: waiver, then the record in the spool, then one transaction that queues it. A crash before that leaves the
item held, and at most a waiver that ends by itself and a record that nobody needs.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import msgspec
from msgspec import Struct

from gateway import log
from gateway.accepted import Accepted, Location
from gateway.mail.address import Address
from gateway.mail.envelope import Recipient
from gateway.mail.errors import Malformed, NotAllowed, NotFound
from gateway.mail.reference import reference
from gateway.masterkey import load_master_key
from gateway.policy.ledger import Waiver
from gateway.relay.answers import StoreAnswers
from gateway.relay.held_mail import as_released, read_item
from gateway.relay.judging_again import AnswersQuestions, JudgedAgain, JudgingAgain, StillHeld, objecting, still_held
from gateway.relay.outgoing import Judged, apply_to
from gateway.settings import Settings
from gateway.spool import Pieces, Spool, new_owner
from gateway.spool.sent import SentIds
from gateway.store import held, traces, waivers
from gateway.store.database import Database, DatabaseAway
from gateway.store.held import HeldItem, Leaving
from gateway.vault import Vault
from gateway.verdict import Action, Verdict

WAIVER_LASTS = timedelta(hours=1)  # unless its release comes first: a release takes seconds, or died


class Outcome(Struct, frozen=True):
    """What a release did."""

    message_id: str
    group: int
    waived: tuple[str, ...]
    released: tuple[Address, ...]
    kept: tuple[StillHeld, ...] = ()

    @property
    def words(self) -> str:
        """What happened, in words for people."""
        told = [f"released for {', '.join(map(str, self.released))}"] if self.released else []
        for one in self.kept:
            floor = "; the safety floor is never waived" if one.is_floor else ""
            told.append(f"still held for {', '.join(map(str, one.recipients))}: {one.reason}: {one.detail}{floor}")
        return f"{reference(self.message_id)}: {'; '.join(told)}"


class Releases:
    """Carries out releases one after the other, in a thread or a command of its own. `close` it at the end."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        answers: AnswersQuestions | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._database = database
        answers = answers or StoreAnswers(database, SentIds(settings.spool), lambda: False)
        self._clock = clock
        self._master_key = load_master_key(settings.master_key)
        self._vault = Vault(settings.vault, self._master_key)
        self._spool: Spool | None = None
        self._again = JudgingAgain(settings, database, answers, self._master_key)

    def __enter__(self) -> "Releases":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up our folder in the spool: whoever works on the queue adopts it."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def release(
        self,
        item: HeldItem,
        *,
        by: str,
        reason: str,
        waived: Sequence[str] | None = None,
        recipients: Sequence[Address] | None = None,
    ) -> Outcome:
        """Release an item, for all who wait or some of them; `waived` None waives all reasons that it shows.

        Raises NotAllowed for what the safety floor holds, Malformed for a reason that is not among the item's, Conflict
        when it is held no more, NotFound when it never was or its bytes are lost, SpoolFull, SpoolFailed, DatabaseAway.
        """
        item = held.get(self._database, item.message_id, item.group)
        chosen = tuple([one for one in item.recipients if recipients is None or one in recipients])
        if not chosen:
            raise NotFound("it is not held for any of these recipients")
        accepted, body = read_item(self._settings, item, self._vault)
        if accepted.kept is None:
            return self._as_it_stands(item, accepted, body, chosen, by=by, reason=reason)
        named = _named(item, waived)
        now = self._clock()
        with self._waiver(named, chosen, body, by=by, now=now, reason=reason) as waiver:
            again = self._again.judge(item, accepted, accepted.kept, body, waiver, chosen, now)
            return self._carry_out(item, accepted, again, waiver, by=by, reason=reason)

    def judge_again(self, item: HeldItem, *, by: str, reason: str) -> Outcome:
        """Judge an item with today's policy and engines, waiving nothing; note what objects now. Releases nothing."""
        item = held.get(self._database, item.message_id, item.group)
        accepted, body = read_item(self._settings, item, self._vault)
        if accepted.kept is None:
            raise Malformed("no judgement holds it: it was on its way already")
        again = self._again.judge(item, accepted, accepted.kept, body, None, item.recipients, self._clock())
        return self._note_kept(item, again, (), (), by=by, reason=reason)

    # -- steps

    def _as_it_stands(
        self, item: HeldItem, accepted: Accepted, body: bytes, chosen: tuple[Address, ...], *, by: str, reason: str
    ) -> Outcome:
        """Let go on what was on its way before. What an earlier release held is in its last form as well."""
        if item.is_judged:
            self._require_no_floor(item)
        now = self._clock()
        location = item.location
        if location is None:
            (location,) = self._append([(as_released(accepted, now), (body,))])
        leaving = [Leaving(chosen, location)]
        held.release(self._database, item.message_id, item.group, by=by, now=now, reason=reason, leaving=leaving)
        _log_release(item, chosen, by, ())
        return Outcome(item.message_id, item.group, (), chosen)

    def _require_no_floor(self, item: HeldItem) -> None:
        trace = traces.load(self._database, item.message_id)
        objecting = [one for one in trace.findings if one.action is not Action.DELIVER] if trace else []
        for one in objecting:
            if one.floor:
                raise NotAllowed(f"{one.reason} belongs to the safety floor: no release opens it")

    @contextlib.contextmanager
    def _waiver(
        self, reasons: tuple[str, ...], chosen: Sequence[Address], body: bytes, *, by: str, now: datetime, reason: str
    ) -> Iterator[Waiver | None]:
        """Make the waiver, durable before anything follows from it; one that is not used ends with the block."""
        if not reasons:
            yield None
            return
        keys = tuple([one.key for one in chosen])
        entry = Waiver("", sha256(body).hexdigest(), reasons, keys, now + WAIVER_LASTS)
        waiver = waivers.add(self._database, entry, by=by, now=now, owner=by, reason=reason)
        try:
            yield waiver
        finally:
            with contextlib.suppress(DatabaseAway):  # then it ends by its time
                waivers.close(self._database, waiver.id, by=by, now=self._clock())

    def _carry_out(
        self, item: HeldItem, accepted: Accepted, again: JudgedAgain, waiver: Waiver | None, *, by: str, reason: str
    ) -> Outcome:
        waived = waiver.reasons if waiver else ()
        passing = [one for one in again.verdicts if one.action is Action.DELIVER]
        if passing:
            held.release(
                self._database,
                item.message_id,
                item.group,
                by=by,
                now=self._clock(),
                reason=reason,
                leaving=self._bring_out(accepted, again.judged, passing),
                waiver=waiver,
                policy_version=again.judged.policy.version,
            )
            _log_release(item, [to for one in passing for to in one.recipients], by, waived)
        released = tuple([to for one in passing for to in one.recipients])
        return self._note_kept(item, again, waived, released, by=by, reason=reason)

    def _note_kept(
        self,
        item: HeldItem,
        again: JudgedAgain,
        waived: tuple[str, ...],
        released: tuple[Address, ...],
        *,
        by: str,
        reason: str,
    ) -> Outcome:
        """Note what objects today to the share that stays held. What cannot be told now changes no reasons."""
        judged = again.judged
        staying = [one for one in again.verdicts if not set(one.recipients) <= set(released)]
        kept = [still_held(one, judged) for one in staying if one.action is not Action.DELIVER]
        if staying:
            is_told = all(one.action is not Action.DEFER for one in staying)
            held.judged_again(
                self._database,
                item.message_id,
                item.group,
                by=by,
                now=self._clock(),
                reason=reason,
                objections=objecting(item, judged, waived, released) if is_told else item.objections,
                decisive=kept[0].reason if kept and is_told else "",
                after={
                    "policy_version": judged.policy.version,
                    "waived": list(waived),
                    "held_by": [f"{one.reason}: {one.detail}" for one in kept],
                },
            )
        return Outcome(item.message_id, item.group, waived, released, tuple(kept))

    def _bring_out(self, accepted: Accepted, judged: Judged, passing: Sequence[Verdict]) -> list[Leaving]:
        """Append what leaves to the spool, in the form that today's verdicts give it."""
        known = {one.address: one for one in judged.case.envelope.recipients}
        records, shares = [], []
        for verdict in passing:
            recipients: tuple[Recipient, ...] = tuple([known[to] for to in verdict.recipients])
            applied = apply_to(judged, verdict, recipients)
            sent_id = applied.message_id or judged.case.facts.message_id
            head = msgspec.structs.replace(
                as_released(accepted, self._clock()),
                recipients=recipients,
                size=sum(map(len, applied.pieces)),
                route=verdict.route,
                sent_message_id=sent_id,
                action=Action.DELIVER.value,
                reason="",
                policy_version=judged.policy.version,
            )
            records.append((head, applied.pieces))
            shares.append((verdict, sent_id))
        places = self._append(records)
        return [
            Leaving(verdict.recipients, place, verdict.route, sent_id)
            for (verdict, sent_id), place in zip(shares, places, strict=True)
        ]

    def _append(self, records: Sequence[tuple[Accepted, Pieces]]) -> list[Location]:
        if self._spool is None:
            self._spool = Spool(self._settings.spool, new_owner("release"))
        return asyncio.run(self._spool.append(records))


def _log_release(item: HeldItem, recipients: Sequence[Address], by: str, waived: Sequence[str]) -> None:
    log.info(
        "message.released",
        ref=reference(item.message_id),
        recipients=[str(one) for one in recipients],
        by=by,
        waived=list(waived),
    )


def _named(item: HeldItem, waived: Sequence[str] | None) -> tuple[str, ...]:
    """Return the reasons to waive. Raises NotAllowed and Malformed."""
    shown = dict.fromkeys(one.reason for one in item.objections)
    for one in item.objections:
        if one.is_floor:
            raise NotAllowed(f"{one.reason} belongs to the safety floor: no release opens it")
    if waived is None:
        return tuple(shown)
    unknown = [one for one in waived if one not in shown]
    if unknown:
        raise Malformed(f"{', '.join(unknown)} is not among what holds it: {', '.join(shown) or 'nothing is noted'}")
    return tuple(dict.fromkeys(waived))
