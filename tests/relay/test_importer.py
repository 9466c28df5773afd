"""What was accepted, refused and settled reaches the database after the reply: late when it is away, but all of it."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway import metrics
from gateway.accepted import Settled, State
from gateway.relay import importer as importing
from gateway.spool.journal import read_results
from gateway.store import messages, queue, refused
from gateway.store.refused import RefusedSession
from gateway.verdict import Action
from tests.relay.conftest import Logged, Place, until
from tests.store.make import ADA, BOB, NOW, accepted, an_id, settled


@contextlib.asynccontextmanager
async def running(place: Place) -> AsyncIterator[None]:
    """Let the importer work, as a process does."""
    task = asyncio.create_task(place.importer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is asked again soon."""
    monkeypatch.setattr(importing, "RETRY_SECONDS", 0.05)


def session(**changes: object) -> RefusedSession:
    values: dict[str, object] = {
        "id": an_id(),
        "started_at": NOW,
        "last_at": NOW,
        "listener": "inbound",
        "peer_ip": "192.0.2.7",
        "peer_name": "",
        "helo": "mail.sender.example",
        "tls": "",
        "refused_count": 1,
        "stage": "rcpt",
        "reason": "unknown_recipient",
        "reply": "550 5.1.1 No such recipient here",
        "mail_from": "eve@sender.example",
        "rcpt_to": "nobody@corp.example",
    }
    return RefusedSession(**(values | changes))  # type: ignore[arg-type]


async def test_a_message_is_imported_with_what_its_first_attempt_did(place: Place) -> None:
    one, _ = await place.accept(ADA, BOB)
    place.importer.settle([settled(one, State.DELIVERED), settled(one, State.QUEUED, to=BOB, reply="450 4.2.1 Later")])
    async with running(place):
        await until(lambda: place.importer.unimported == 0)
    assert place.states(one) == [State.DELIVERED, State.QUEUED]
    assert messages.find(place.database, one.id)


async def test_a_long_attempt_is_imported_under_our_lease_and_settled_later(place: Place) -> None:
    async with running(place):
        one, _ = await place.accept()
        await until(lambda: messages.find(place.database, one.id))
        assert place.states(one) == [State.ACTIVE]
        # Nobody else may claim it meanwhile.
        claimed = queue.claim(place.database, owner="x", now=NOW, limit=9, lease_seconds=9, is_here=lambda _: True)
        assert claimed == []
        place.importer.settle([settled(one, State.DELIVERED)])
        await until(lambda: place.states(one) == [State.DELIVERED])


async def test_held_mail_waits_for_no_attempt(place: Place) -> None:
    async with running(place):
        one, _ = await place.accept(held="business_only", held_reason="business_only:unknown-sender")
        await until(lambda: messages.find(place.database, one.id))
    assert place.states(one) == [State.HELD]


async def test_refused_mail_and_refused_sessions_are_recorded(place: Place) -> None:
    one = accepted(action=Action.REJECT, reason="business_only:unknown-sender", trace=b"")
    async with running(place):
        place.importer.put_refused(one)
        place.importer.put_session(session())
        await until(lambda: refused.sessions(place.database) and messages.find(place.database, one.id))
    assert place.states(one) == []
    [row] = refused.sessions(place.database)
    assert (row.peer_ip, row.reason) == ("192.0.2.7", "unknown_recipient")


async def test_a_flood_of_refusals_is_counted_and_not_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "MAX_REFUSED", 3)
    metrics.reset()
    for _ in range(5):
        place.importer.put_refused(accepted(action=Action.REJECT))
        place.importer.put_session(session())
    assert metrics.snapshot("test").counters["traces_dropped"] == {"": 4.0}
    await place.importer.finish()
    assert len(refused.sessions(place.database)) == 3


async def test_nothing_is_lost_while_the_database_is_away(place: Place, impatient: None, logged: Logged) -> None:
    saved: list[Settled] = []
    place.importer.after_settle(saved.extend)
    async with running(place):
        before, _ = await place.accept()
        await until(lambda: messages.find(place.database, before.id))
        place.lose_database()
        late = [await place.accept(ADA, BOB) for _ in range(5)]
        for one, _ in late:
            place.importer.settle([settled(one, State.DELIVERED)])
        place.importer.settle([settled(before, State.DELIVERED)])
        rejected = accepted(action=Action.REJECT)
        place.importer.put_refused(rejected)
        place.importer.put_session(session())
        await until(lambda: place.importer.is_away)
        # The last results come when the batch has been tried already.
        place.importer.settle([settled(one, State.FAILED, to=BOB, reply="550 5.1.1 No") for one, _ in late])
        assert place.importer.unimported == 5
        assert {location.segment for _, location in late} <= place.importer.unimported_segments()
        assert saved == []
        await until(lambda: len(read_results(place.root / place.spool.owner)) == 11)
        place.bring_database_back()
        await until(lambda: not place.importer.is_away and len(saved) == 11)
    assert [place.states(one) for one, _ in late] == [[State.DELIVERED, State.FAILED]] * 5
    assert place.states(before) == [State.DELIVERED]
    assert messages.find(place.database, rejected.id)
    assert len(refused.sessions(place.database)) == 1
    assert place.importer.unimported_segments() == set()
    assert len(logged("import.failed")) == 1
    assert len(logged("import.resumed")) == 1


async def test_results_that_come_during_an_import_are_saved_after_it(place: Place) -> None:
    holder = sqlite3.connect(place.data_dir / "db/gatepost.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")  # an operator's shell, in the middle of something
    async with running(place):
        one, _ = await place.accept()
        await until(lambda: place.importer.unimported and not place.importer._waiting)
        place.importer.settle([settled(one, State.DELIVERED)])
        holder.execute("ROLLBACK")
        await until(lambda: place.states(one) == [State.DELIVERED])
    holder.close()
    assert not place.importer.is_away


async def test_results_reach_their_listeners_only_when_they_are_saved(place: Place, impatient: None) -> None:
    told: list[list[State]] = []

    def note(results: Sequence[Settled]) -> None:
        told.append(place.states(one))

    place.importer.after_settle(note)
    one, _ = await place.accept()
    place.importer.settle([settled(one, State.FAILED, notice_due="failed")])
    await place.importer.finish()
    assert told == [[State.FAILED]]


async def test_mail_is_refused_when_too_much_waits_for_the_database(place: Place) -> None:
    small = importing.Importer(place.database, place.spool.owner, place.journal, max_unimported=2)
    for expected in (False, True):
        assert small.is_full is False
        one = accepted()
        [location] = await place.spool.append([(one, (b"x",))])
        small.put(one, location)
        assert small.is_full is expected
    await small.finish()
    assert small.is_full is False


async def test_one_record_that_cannot_be_stored_holds_up_no_other(place: Place, logged: Logged) -> None:
    saved: list[Settled] = []
    place.importer.after_settle(saved.extend)
    bad, location = await place.accept(id="!" * 26, trace=b"x")
    good, _ = await place.accept()
    place.importer.settle([settled(bad, State.DELIVERED), settled(good, State.DELIVERED)])
    await place.importer.finish()
    assert place.states(good) == [State.DELIVERED]
    assert [result.message_id for result in saved] == [good.id]
    # The record stays, and that it was delivered: whoever takes it up does not deliver it again.
    assert place.importer.unimported_segments() == {location.segment}
    assert [result.message_id for result in read_results(place.root / place.spool.owner)] == [bad.id, good.id]
    assert len(logged("import.refused")) == 1


async def test_an_orderly_end_imports_what_waits_for_its_first_attempt(place: Place) -> None:
    one, _ = await place.accept()
    await place.importer.finish()
    assert place.states(one) == [State.ACTIVE]
    assert place.results() == []


async def test_an_orderly_end_without_the_database_leaves_everything_to_who_comes_next(
    place: Place, logged: Logged
) -> None:
    place.lose_database()
    one, location = await place.accept()
    place.importer.settle([settled(one, State.DELIVERED)])
    await place.importer.finish(seconds=0.3)
    assert place.importer.unimported_segments() == {location.segment}
    assert [result.message_id for result in read_results(place.root / place.spool.owner)] == [one.id]
    place.bring_database_back()
