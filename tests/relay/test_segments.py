"""The spool stays small and complete: what is settled goes, what waits stays, what the dead left is taken over."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.accepted import Accepted, Location, State
from gateway.relay import segments
from gateway.relay.segments import SegmentKeeper
from gateway.spool import Spool, new_owner, read
from gateway.spool.journal import Journal, read_results
from gateway.store import held, messages, queue
from tests.relay.conftest import Logged, Place, until
from tests.spool_records import flip
from tests.store.make import ADA, BOB, NOW, accepted, item, settled, store

PROJECT = Path(__file__).resolve().parents[2]


def keeper(place: Place, **options: Any) -> SegmentKeeper:
    return SegmentKeeper(place.spool, place.database, place.importer, root=place.root, **options)


async def imported(place: Place, *to: Any, state: State | None = State.DELIVERED, **changes: Any) -> Location:
    """Accept and import a message, close its segment, and return where it lies."""
    one, location = await place.accept(*to, **changes)
    if state is not None:
        place.importer.settle([settled(one, state)])
    await place.importer._import_once()
    await place.spool.roll()
    return location


async def leave(place: Place, *mail: Accepted, delivered: Sequence[Accepted] = (), **import_as: Any) -> str:
    """Let a process accept mail and end without having told the database; return its owner's name."""
    owner = new_owner("dead")
    spool, journal = Spool(place.root, owner), Journal(place.root / owner)
    locations = await spool.append([(one, (b"Subject: x\r\n\r\n",)) for one in mail])
    if import_as:
        items = [item(one, owner=owner, place=at, **import_as) for one, at in zip(mail, locations, strict=True)]
        store(place.database, *items)
    journal.note([settled(one, State.DELIVERED) for one in delivered])
    journal.flush()
    spool.close()  # to others, no different from being killed: the lock is free, and the folder is not empty
    return owner


def states(place: Place, ids: list[str]) -> list[State]:
    return [row.state for id in ids for row in messages.outcomes(place.database, id)]


async def test_a_segment_goes_when_all_of_it_is_delivered(place: Place) -> None:
    location = await imported(place)
    await keeper(place).tidy()
    assert place.spool.rolled_segments() == []
    assert not (place.root / location.segment).exists()


@pytest.mark.parametrize("state", [State.QUEUED, State.HELD])
async def test_a_segment_stays_while_somebody_needs_it(place: Place, state: State) -> None:
    location = await imported(place, state=state)
    await keeper(place).tidy()
    assert place.spool.rolled_segments() == [location.segment]


async def test_a_failure_keeps_its_segment_until_the_sender_was_told(place: Place) -> None:
    one, location = await place.accept()
    place.importer.settle([settled(one, State.FAILED, notice_due="failed")])
    await place.importer._import_once()
    await place.spool.roll()
    await keeper(place).tidy()
    assert place.spool.rolled_segments() == [location.segment]
    [due] = queue.notices_due(place.database, 9)
    queue.notice_sent(place.database, [due.key], now=NOW)
    await keeper(place).tidy()
    assert place.spool.rolled_segments() == []


async def test_a_segment_stays_while_the_database_does_not_know_its_mail(place: Place) -> None:
    one, location = await place.accept()
    await place.spool.roll()
    await keeper(place).tidy()
    assert place.spool.rolled_segments() == [location.segment]
    place.importer.settle([settled(one, State.DELIVERED)])
    await place.importer._import_once()
    await keeper(place).tidy()
    assert place.spool.rolled_segments() == []


async def test_nothing_goes_while_the_database_is_away(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "ADOPT_SECONDS", 0.02)
    monkeypatch.setattr(segments, "TIDY_SECONDS", 0.0)
    location = await imported(place)
    place.lose_database()
    work = asyncio.create_task(keeper(place).run())
    await asyncio.sleep(0.1)
    assert place.spool.rolled_segments() == [location.segment]
    place.bring_database_back()
    await until(lambda: place.spool.rolled_segments() == [])
    work.cancel()


async def test_what_waits_long_is_copied_out_of_an_old_segment(
    place: Place, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    monkeypatch.setattr(segments, "COPY_AFTER_SECONDS", 0.0)
    waits, old = await place.accept(ADA)
    place.importer.settle([settled(waits, State.QUEUED)])
    done, _ = await place.accept(BOB)
    place.importer.settle([settled(done, State.DELIVERED, to=BOB)])
    await place.importer._import_once()
    await place.spool.roll()
    one = keeper(place)
    await one.tidy()  # seen closed
    await one.tidy()  # copied
    assert len(logged("spool.copied")) >= 1
    [new] = queue.waiting_locations(place.database, place.spool._writer.current[0])
    assert new.segment != old.segment
    head, body = read(place.root, new)
    assert (head.id, body[:5]) == (waits.id, b"From:")
    monkeypatch.setattr(segments, "COPY_AFTER_SECONDS", 600.0)
    await one.tidy()
    assert not (place.root / old.segment).exists()


async def test_a_disk_that_fails_while_copying_stops_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    monkeypatch.setattr(segments, "COPY_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(segments, "ADOPT_SECONDS", 0.01)
    monkeypatch.setattr(segments, "TIDY_SECONDS", 0.0)
    fails = False

    def sync(fd: int) -> None:
        if fails:
            raise OSError(5, "Input/output error")

    place.spool.close()
    place.spool = Spool(place.root, new_owner("failing"), sync=sync)
    location = await imported(place, state=State.QUEUED)
    fails = True
    work = asyncio.create_task(keeper(place).run())
    await until(lambda: len(logged("spool.failed")) > 2)
    assert not work.done()
    assert place.spool.rolled_segments()[0] == location.segment
    fails = False
    await until(lambda: not (place.root / location.segment).exists())
    work.cancel()


def test_what_a_killed_process_accepted_is_taken_over(place: Place, logged: Logged) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.relay.dying", place.root], cwd=PROJECT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        dead = json.loads(process.stdout.readline())
        one = keeper(place, adopts=True)
        one.adopt_dead()
        assert logged("spool.adopted") == []
        process.kill()
    woken: list[bool] = []
    one.on_adopted = lambda: woken.append(True)
    one.adopt_dead()
    assert states(place, dead["ids"]) == [State.QUEUED, State.DELIVERED, State.QUEUED]
    due = queue.list_waiting(place.database)
    assert {row.key.message_id for row in due} == {dead["ids"][0], dead["ids"][2]}
    assert woken == [True]
    assert [event["owner"] for event in logged("spool.adopted")] == [dead["owner"]]
    assert list((place.root / dead["owner"]).glob("results-*")) == []
    # The others are delivered, and the folder goes.
    for claim in queue.claim(place.database, owner="x", now=NOW, limit=9, lease_seconds=9, is_here=lambda _: True):
        head, _ = read(place.root, claim.location)
        queue.settle(place.database, [settled(head, State.DELIVERED)], owner="x")
    asyncio.run(one.tidy())
    assert not (place.root / dead["owner"]).exists()


async def test_what_the_database_knows_of_the_dead_is_left_as_it_is(place: Place) -> None:
    first, second = accepted(), accepted()
    dead = await leave(place, first, second, delivered=[first], settled=())
    assert [place.states(one) for one in (first, second)] == [[State.ACTIVE], [State.ACTIVE]]
    one = keeper(place, adopts=True)
    one.adopt_dead()
    assert [place.states(one) for one in (first, second)] == [[State.DELIVERED], [State.QUEUED]]
    [waits] = queue.list_waiting(place.database)
    queue.delete(place.database, [waits.key], by="ann", now=NOW, reason="test")
    await one.tidy()
    assert not (place.root / dead).exists()


async def test_held_mail_of_the_dead_is_still_held(place: Place) -> None:
    message = accepted(held="business_only", held_reason="business_only:unknown-sender")
    await leave(place, message)
    keeper(place, adopts=True).adopt_dead()
    [one] = held.list_items(place.database)
    assert (one.message_id, one.kind) == (message.id, "business_only")
    assert place.states(message) == [State.HELD]


async def test_a_dead_process_is_adopted_once(place: Place, logged: Logged) -> None:
    message = accepted()
    owner = await leave(place, message, delivered=[message])
    (place.root / owner / "results-00000009").touch()  # it died between making the file and writing to it
    one = keeper(place, adopts=True)
    for _ in range(3):
        one.adopt_dead()
        await one.tidy()
    assert len(logged("spool.adopted")) == 1
    assert [path.name for path in place.root.iterdir()] == [place.spool.owner]


async def test_adoption_waits_for_the_database(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "ADOPT_SECONDS", 0.02)
    first, second = accepted(), accepted()
    owner = await leave(place, first, second, delivered=[first])
    place.lose_database()
    work = asyncio.create_task(keeper(place, adopts=True).run())
    await asyncio.sleep(0.1)
    assert len(list((place.root / owner).glob("results-*"))) == 1
    place.bring_database_back()
    await until(lambda: place.states(second) == [State.QUEUED])
    assert place.states(first) == [State.DELIVERED]
    work.cancel()


async def test_the_living_are_left_alone(place: Place, logged: Logged) -> None:
    await place.accept()
    keeper(place, adopts=True).adopt_dead()
    assert logged("spool.adopted") == []


async def test_a_record_that_cannot_be_imported_is_kept_and_holds_up_no_other(place: Place, logged: Logged) -> None:
    bad, good = accepted(id="!" * 26, trace=b"x"), accepted()
    owner = await leave(place, bad, good, delivered=[bad, good])
    one = keeper(place, adopts=True)
    for _ in range(2):
        one.adopt_dead()
        await one.tidy()
    assert place.states(good) == [State.DELIVERED]
    assert len(list((place.root / owner).glob("*.seg"))) == 1
    assert [result.message_id for result in read_results(place.root / owner)] == [bad.id, good.id]
    assert len(logged("spool.adopted")) == 1
    assert len(logged("import.refused")) == 1


async def test_a_folder_that_cannot_be_read_is_tried_again_and_holds_up_no_other(place: Place, logged: Logged) -> None:
    mail = {await leave(place, one := accepted()): one for _ in range(2)}
    bad, good = sorted(mail)  # the order in which they are adopted
    unreadable = place.root / bad / "00000009.seg"
    unreadable.mkdir()
    one = keeper(place, adopts=True)
    for _ in range(2):
        one.adopt_dead()
    assert place.states(mail[good]) == [State.QUEUED]
    assert [event["owner"] for event in logged("spool.failed")] == [bad, bad]
    unreadable.rmdir()
    one.adopt_dead()
    assert place.states(mail[bad]) == [State.QUEUED]


async def test_damage_in_a_dead_segment_is_told_and_the_rest_taken_over(place: Place, logged: Logged) -> None:
    mail = [accepted() for _ in range(3)]
    owner = await leave(place, *mail)
    segment = place.root / owner / "00000001.seg"
    flip(segment, segment.stat().st_size // 2)
    keeper(place, adopts=True).adopt_dead()
    assert [place.states(one) for one in mail] == [[State.QUEUED], [], [State.QUEUED]]
    assert len(logged("spool.damaged")) == 1


async def test_a_message_of_several_groups_is_taken_over_whole(place: Place) -> None:
    first = accepted(ADA)
    await leave(place, first, accepted(BOB, id=first.id, group=1, held="loop"))
    keeper(place, adopts=True).adopt_dead()
    assert place.states(first) == [State.QUEUED, State.HELD]
