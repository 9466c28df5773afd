"""Releases: judged again with the policy in force, without the named reasons of this one message, once."""

import asyncio
import errno
import hashlib
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.accepted import Location, Objection, State
from gateway.judge import judge, questions
from gateway.mail.errors import Conflict, Malformed, NotAllowed, NotFound
from gateway.mail.reference import new_id
from gateway.masterkey import create_master_key, load_master_key
from gateway.policy.document import Document
from gateway.relay import release_jobs
from gateway.relay.held_mail import clear_vault, move_to_vault
from gateway.relay.outgoing import Judged, prepare, share_out
from gateway.relay.release import Outcome, Releases
from gateway.relay.release_jobs import JUDGE, Wanted
from gateway.relay.segments import SegmentKeeper
from gateway.settings import Settings
from gateway.spool import SpoolFailed, read
from gateway.store import audit, held, jobs, messages, policies, queue, waivers, whitelist
from gateway.store.database import DatabaseAway
from gateway.store.held import HeldItem
from gateway.store.messages import ImportItem
from gateway.vault import Vault
from gateway.verdict import Action, Answers, Question
from tests import make
from tests.relay.conftest import Place
from tests.store.make import states

NOW = datetime.now(UTC)
BOB, CID = make.addresses("bob@corp.example", "cid@corp.example")
UNKNOWN, UNPROVEN = "business_only:unknown-sender", "business_only:proof-missing"
HOLDS = {"business_only": {"action": "quarantine"}}
RAW = make.message(("Authentication-Results", "mx.corp.example; spf=pass"), from_="eve@sender.example")


class Office:
    """A process's place with a policy in force, in which mail is judged, held and released."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.database = place.database
        self.settings = Settings(data_dir=place.data_dir, hostname="mx.corp.example")
        create_master_key(self.settings.master_key)
        self.publish(HOLDS)

    def publish(self, filters: dict[str, Any], **changes: Any) -> int:
        settings = {name: {"mode": "enforce", "options": options} for name, options in filters.items()}
        document = Document.model_validate({**make.DOCUMENT, "filters": settings, **changes})
        return policies.publish(self.database, document, by="ann", comment="", now=NOW)

    async def take(
        self, raw: bytes = RAW, *to: str, mail_from: str = "eve@sender.example", filters: dict[str, Any] | None = None
    ) -> list[HeldItem]:
        """Take a message as intake does, where nothing that is asked was ever sent; return what is held of it."""
        recipients = [make.recipient(one) for one in to or ("bob@corp.example",)]
        case = make.case(raw, envelope=make.envelope(mail_from, *recipients), now=NOW)
        policy = make.policy(filters=HOLDS if filters is None else filters)
        answers: Answers = dict.fromkeys(questions(case, policy), ())
        judgement = judge(case, policy, answers)
        judged = Judged(
            id=new_id(int(NOW.timestamp() * 1000)),
            raw=raw,
            case=case,
            answers=answers,
            judgement=judgement,
            verdicts=share_out(judgement.verdicts),
            policy=policy,
            timings_ms={},
        )
        outgoing = prepare(judged)
        places = await self.place.spool.append([(one.accepted, one.pieces) for one in outgoing])
        taken = zip(outgoing, places, strict=True)
        messages.import_batch(self.database, [ImportItem(one.accepted, place, (), "", NOW) for one, place in taken])
        return held.of_message(self.database, judged.id)

    def to_vault(self) -> None:
        vault = Vault(self.settings.vault, load_master_key(self.settings.master_key))
        move_to_vault(self.settings, self.database, vault)

    def release_now(self, item: HeldItem, *, by: str = "ann", **options: Any) -> Outcome:
        with Releases(self.settings, self.database) as releases:
            return releases.release(item, by=by, reason="expected", **options)

    async def release(self, item: HeldItem, **options: Any) -> Outcome:
        return await asyncio.to_thread(self.release_now, item, **options)

    def sent_from(self) -> dict[str, bytes]:
        """Claim what is due; return by recipient the octets that would be sent."""
        claims = queue.claim(
            self.database, owner="x", now=datetime.now(UTC), limit=9, lease_seconds=9, is_here=lambda _: True
        )
        return {
            str(to.address): read(self.settings.spool, claim.location)[1] for claim in claims for to in claim.recipients
        }


@pytest.fixture
def office(place: Place) -> Office:
    return Office(place)


# -- what is kept


async def test_what_is_held_is_kept_as_received_with_all_that_objected(office: Office) -> None:
    [item] = await office.take()
    assert [(one.reason, one.is_floor) for one in item.objections] == [(UNKNOWN, False)]
    assert isinstance(item.location, Location)
    accepted, body = read(office.settings.spool, item.location)
    assert body == RAW
    assert accepted.sha256 == hashlib.sha256(RAW).hexdigest()
    assert accepted.kept is not None
    assert [str(one.address) for one in accepted.kept.envelope.recipients] == ["bob@corp.example"]


async def test_all_reasons_are_kept_and_not_only_the_decisive_one(office: Office) -> None:
    raw = make.message(from_="ann@corp.example")
    [item] = await office.take(raw, filters={**HOLDS, "own_domain": {"action": "quarantine"}})
    assert {(one.reason, one.is_floor) for one in item.objections} == {(UNKNOWN, False), ("own_domain:forged", True)}


async def test_the_refused_share_is_held_when_others_are_delivered(office: Office) -> None:
    [item] = await office.take(RAW, "bob@corp.example", "postmaster@corp.example", filters={"business_only": {}})
    assert (item.recipients, item.kind) == ((BOB,), "business_only")
    assert states(office.database, item.message_id) == {
        "bob@corp.example": State.HELD,
        "postmaster@corp.example": State.QUEUED,
    }


# -- released


@pytest.mark.parametrize("is_in_vault", [False, True])
async def test_a_release_lets_go_in_the_form_of_todays_verdict(office: Office, is_in_vault: bool) -> None:
    [item] = await office.take()
    if is_in_vault:
        office.to_vault()
    outcome = await office.release(item)
    assert (outcome.released, outcome.kept, outcome.waived) == ((BOB,), (), (UNKNOWN,))
    sent = office.sent_from()["bob@corp.example"]
    assert sent.startswith(b"Received: from mail.partner.example")
    assert b"Authentication-Results: mx.corp.example; spf=pass" not in sent  # it claimed our trust
    assert sent.endswith(RAW.partition(b"\r\n\r\n")[2])
    assert held.of_message(office.database, item.message_id) == []


async def test_our_trace_field_says_when_it_was_received(office: Office) -> None:
    [item] = await office.take()
    await office.release(item)
    header = office.sent_from()["bob@corp.example"].partition(b"\r\nX-Gatepost")[0]
    assert f"{NOW:%d %b %Y %H:%M:%S}".lstrip("0").encode() in header


async def test_the_waiver_is_of_this_message_and_used_up(office: Office) -> None:
    [item] = await office.take()
    await office.release(item)
    [listed] = waivers.list_entries(office.database, with_ended=True)
    assert listed.entry.sha256 == hashlib.sha256(RAW).hexdigest()
    assert (listed.entry.reasons, listed.entry.recipients) == ((UNKNOWN,), ("bob@corp.example",))
    assert (listed.created_by, listed.reason) == ("ann", "expected")
    assert listed.ended_at is not None
    [order] = audit.entries(office.database, subject="held item")
    assert (order.action, order.by, order.comment) == ("release", "ann", "expected")
    assert order.after == {"waiver": listed.entry.id, "waived": [UNKNOWN], "policy_version": 1}


async def test_a_second_message_with_other_bytes_is_held_again(office: Office) -> None:
    [first] = await office.take()
    [second] = await office.take(RAW + b"One line more.\r\n")
    await office.release(first)
    outcome = await office.release(second, waived=())
    assert (outcome.released, [one.reason for one in outcome.kept]) == ((), [UNKNOWN])


async def test_a_second_release_is_a_conflict(office: Office) -> None:
    [item] = await office.take()
    await office.release(item)
    with pytest.raises(Conflict, match="released by ann"):
        await office.release(item, by="ben")
    assert len(waivers.list_entries(office.database, with_ended=True)) == 1


async def test_one_recipient_gets_it_and_the_other_waits(office: Office) -> None:
    [item] = await office.take(RAW, "bob@corp.example", "cid@corp.example")
    outcome = await office.release(item, recipients=[CID])
    assert outcome.released == (CID,)
    assert list(office.sent_from()) == ["cid@corp.example"]
    [left] = held.of_message(office.database, item.message_id)
    assert left.recipients == (BOB,)
    office.to_vault()
    await office.release(left)
    assert list(office.sent_from()) == ["bob@corp.example"]


async def test_for_nobody_whom_it_is_held_for_nothing_is_released(office: Office) -> None:
    [item] = await office.take()
    with pytest.raises(NotFound, match="not held for any of these"):
        await office.release(item, recipients=[CID])


# -- judged again before it leaves


async def test_a_new_reason_keeps_it_held_and_says_why(office: Office) -> None:
    [item] = await office.take()
    entry = make.partner("sender.example", networks=("203.0.113.0/24",), id="")
    whitelist.add(office.database, entry, by="ann", now=NOW)
    outcome = await office.release(item)
    assert outcome.released == ()
    assert [(one.recipients, one.reason, one.is_floor) for one in outcome.kept] == [((BOB,), UNPROVEN, False)]
    assert f"still held for bob@corp.example: {UNPROVEN}" in outcome.words
    [still] = held.of_message(office.database, item.message_id)
    assert [one.reason for one in still.objections] == [UNPROVEN]
    assert waivers.list_entries(office.database) == []  # the waiver was not used and is over
    [order] = audit.entries(office.database, subject="held item")
    assert (order.action, order.after["waived"]) == ("judge again", [UNKNOWN])
    # Whoever releases it now names the new reason.
    with pytest.raises(Malformed, match=f"{UNKNOWN} is not among what holds it: {UNPROVEN}"):
        await office.release(still, waived=[UNKNOWN])
    assert (await office.release(still, waived=[UNPROVEN])).released == (BOB,)


async def test_nothing_needs_to_be_waived_when_the_policy_has_changed_for_it(office: Office) -> None:
    [item] = await office.take()
    office.publish({})
    assert (await office.release(item, waived=())).released == (BOB,)
    assert waivers.list_entries(office.database, with_ended=True) == []


async def test_the_safety_floor_is_not_released_when_asked(office: Office) -> None:
    filters = {**HOLDS, "own_domain": {"action": "quarantine"}}
    office.publish(filters)
    [item] = await office.take(make.message(from_="ann@corp.example"), filters=filters)
    for waived in (None, (), (UNKNOWN,), ("own_domain:forged",)):
        with pytest.raises(NotAllowed, match="own_domain:forged belongs to the safety floor"):
            await office.release(item, waived=waived)
    assert held.of_message(office.database, item.message_id) == [item]


async def test_the_safety_floor_of_today_keeps_what_was_held_for_less(office: Office) -> None:
    [item] = await office.take(make.message(from_="ann@corp.example"))
    assert [one.reason for one in item.objections] == [UNKNOWN]
    office.publish({**HOLDS, "own_domain": {"action": "quarantine"}})
    outcome = await office.release(item)
    assert (outcome.released, [(one.reason, one.is_floor) for one in outcome.kept]) == (
        (),
        [("own_domain:forged", True)],
    )
    assert "the safety floor is never waived" in outcome.words
    [still] = held.of_message(office.database, item.message_id)
    with pytest.raises(NotAllowed):
        await office.release(still)


async def test_what_the_floor_held_may_leave_once_it_is_judged_again_and_nothing_of_it_is_left(office: Office) -> None:
    filters = {**HOLDS, "own_domain": {"action": "quarantine"}}
    [item] = await office.take(make.message(from_="ann@corp.example"), filters=filters)
    office.publish({})
    with Releases(office.settings, office.database) as releases:
        outcome = await asyncio.to_thread(releases.judge_again, item, by="ann", reason="proof came")
    assert (outcome.released, outcome.kept) == ((), ())
    [clean] = held.of_message(office.database, item.message_id)
    assert clean.objections == ()
    assert (await office.release(clean)).released == (BOB,)


class Silent:
    """Engines that know nothing."""

    async def answer(self, asked: Sequence[Question]) -> Answers:
        return {}


async def test_what_cannot_be_told_now_keeps_it_held_and_changes_no_reasons(office: Office) -> None:
    raw = make.bounce("<1@corp.example>", host="sender.example")
    [item] = await office.take(raw, mail_from="")
    assert [one.reason for one in item.objections] == ["business_only:unsolicited-bounce"]
    with Releases(office.settings, office.database, Silent()) as releases:
        outcome = await asyncio.to_thread(releases.release, item, by="ann", reason="expected")
    assert [(one.action, one.reason) for one in outcome.kept] == [(Action.DEFER, "business_only:cannot-tell")]
    [still] = held.of_message(office.database, item.message_id)
    assert (still.objections, still.reason) == (item.objections, item.reason)
    assert (await office.release(still)).released == (BOB,)


# -- at once, and cut short


async def test_of_two_who_release_at_once_one_does(office: Office) -> None:
    [item] = await office.take()
    office.to_vault()
    barrier = threading.Barrier(2)
    outcomes: list[object] = []

    def order(by: str) -> None:
        database = office.place.connect()
        try:
            with Releases(office.settings, database) as releases:
                barrier.wait()
                outcomes.append(releases.release(item, by=by, reason="expected").released)
        except Conflict as error:
            outcomes.append(error)
        finally:
            database.close()

    await asyncio.gather(asyncio.to_thread(order, "ann"), asyncio.to_thread(order, "ben"))
    assert sorted(type(one).__name__ for one in outcomes) == ["Conflict", "tuple"]
    assert [order.action for order in audit.entries(office.database, subject="held item")] == ["release"]
    assert waivers.list_entries(office.database) == []
    # What the other one had put into the spool by then is delivered to nobody.
    keeper = SegmentKeeper(office.place.spool, office.database, office.place.importer, root=office.settings.spool)
    keeper.adopt_dead()
    assert list(office.sent_from()) == ["bob@corp.example"]
    assert list(office.sent_from()) == []


async def test_a_release_that_ends_after_its_record_and_before_its_row_has_released_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    [item] = await office.take()

    def away(*_: object, **__: object) -> int:
        raise DatabaseAway("gone")

    with monkeypatch.context() as patch:
        patch.setattr(held, "release", away)
        with pytest.raises(DatabaseAway):
            await office.release(item)
    assert len(list(office.settings.spool.glob("*release*/*.seg"))) == 1
    keeper = SegmentKeeper(office.place.spool, office.database, office.place.importer, root=office.settings.spool)
    keeper.adopt_dead()
    assert office.sent_from() == {}
    assert held.of_message(office.database, item.message_id) == [item]
    assert (await office.release(item)).released == (BOB,)
    assert list(office.sent_from()) == ["bob@corp.example"]


async def test_two_waivers_never_add_up(office: Office) -> None:
    [item] = await office.take()
    entry = make.waiver([UNKNOWN], sha256=hashlib.sha256(RAW).hexdigest(), id="")
    waivers.add(office.database, entry, by="ben", now=NOW)
    outcome = await office.release(item, waived=())
    assert [one.reason for one in outcome.kept] == [UNKNOWN]


async def test_on_a_full_disk_nothing_happens(office: Office) -> None:
    [item] = await office.take()
    office.to_vault()
    office.place.spool.close()
    away = office.settings.spool.rename(office.settings.spool.with_name("away"))
    office.settings.spool.touch()  # where a folder should be
    with pytest.raises(SpoolFailed):
        await office.release(item)
    assert waivers.list_entries(office.database) == []
    [still] = held.of_message(office.database, item.message_id)
    office.settings.spool.unlink()
    away.rename(office.settings.spool)
    assert (await office.release(still)).released == (BOB,)


async def test_when_the_vaults_disk_is_full_it_waits_in_the_spool_and_leaves_from_there(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    [item] = await office.take()

    def put(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Vault, "put", put)
    with pytest.raises(OSError, match="No space"):
        office.to_vault()
    assert held.of_message(office.database, item.message_id) == [item]
    assert (await office.release(item)).released == (BOB,)


async def test_the_object_leaves_the_vault_after_the_release(office: Office) -> None:
    [item] = await office.take()
    office.to_vault()
    await office.release(item)
    vault = Vault(office.settings.vault, load_master_key(office.settings.master_key))
    assert clear_vault(office.database, vault) == 1


# -- as the web asks


async def test_a_job_releases_and_tells_what_happened(office: Office) -> None:
    [item] = await office.take()
    wanted = Wanted(item.message_id, item.group, "expected", recipients=("bob@corp.example",))
    id = release_jobs.ask(office.database, wanted, by="ann@corp.example", now=NOW)
    again = release_jobs.ask(office.database, wanted, by="ben@corp.example", now=NOW + timedelta(milliseconds=5))
    assert await asyncio.to_thread(release_jobs.answer, office.settings, office.database, "me") == 2
    done, failed = jobs.get(office.database, id), jobs.get(office.database, again)
    assert (done.state, done.result["released"], done.result["kept"]) == ("done", ["bob@corp.example"], [])
    assert (failed.state, failed.note) == ("failed", "it is held no more: released by ann@corp.example")
    assert audit.entries(office.database, subject="held item")[0].by == "ann@corp.example"


async def test_a_job_judges_again(office: Office) -> None:
    [item] = await office.take()
    wanted = Wanted(item.message_id, item.group, "look")
    id = release_jobs.ask(office.database, wanted, by="ann", now=NOW, kind=JUDGE)
    await asyncio.to_thread(release_jobs.answer, office.settings, office.database, "me")
    assert jobs.get(office.database, id).result["kept"] == ["bob@corp.example"]
    [still] = held.of_message(office.database, item.message_id)
    assert still.objections == (Objection(UNKNOWN, item.objections[0].detail),)


@pytest.mark.parametrize("arguments", [{}, {"message_id": 7}, {"message_id": "M", "group": 0, "why": ""}])
async def test_a_job_that_makes_no_sense_fails_and_holds_up_no_other(office: Office, arguments: dict[str, Any]) -> None:
    id = jobs.put(office.database, "release", arguments, by="ann", now=NOW)
    assert await asyncio.to_thread(release_jobs.answer, office.settings, office.database, "me") == 1
    assert jobs.get(office.database, id).state == "failed"
