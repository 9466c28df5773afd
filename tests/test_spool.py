"""The spool of a living process: what is written, when it counts, and when a segment may go."""

import asyncio
import os
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.accepted import Location
from gateway.mail.errors import Conflict, Malformed, NotAllowed, NotFound
from gateway.spool import Spool, SpoolFailed, adopt, gathering, is_here, new_owner, read, read_range
from gateway.spool.gathering import MAX_BATCH_RECORDS
from tests.spool_records import accepted, append, flip, ids, is_alive, message

MakeSpool = Callable[..., Spool]


@pytest.fixture
async def make_spool(tmp_path: Path) -> AsyncIterator[MakeSpool]:
    made: list[Spool] = []

    def make(**options: Any) -> Spool:
        made.append(Spool(tmp_path / "spool", new_owner("test"), **options))
        return made[-1]

    yield make
    for spool in made:
        spool.close()


async def test_what_was_appended_is_read_again_by_its_location(make_spool: MakeSpool) -> None:
    spool = make_spool()
    head = accepted(7, subject="Grüße", trace=b"\x00trace")
    [location] = await spool.append([(head, (b"Received: us\r\n", memoryview(b"Subject: 7\r\n\r\nbody")[0:]))])
    assert spool.read(location) == (head, b"Received: us\r\nSubject: 7\r\n\r\nbody")


async def test_records_of_one_call_lie_behind_each_other_in_one_segment(make_spool: MakeSpool) -> None:
    spool = make_spool()
    first, second = await append(spool, 1, 2)
    assert (first.segment, first.offset) == (f"{spool.owner}/00000001.seg", 0)
    assert (second.segment, second.offset) == (first.segment, first.length)


@pytest.mark.parametrize("size", [0, 1, 5000, 32 * 1024 - 400, 300_000, 3_000_000])
async def test_messages_of_all_sizes_come_back_whole(make_spool: MakeSpool, size: int) -> None:
    spool = make_spool()
    body = os.urandom(size)
    [location] = await spool.append([(accepted(), (body[: size // 2], b"", body[size // 2 :]))])
    assert spool.read(location)[1] == body
    assert spool.read_range(location, 3, size - 1) == body[3 : max(3, size - 1)]


async def test_a_large_message_is_not_copied(make_spool: MakeSpool) -> None:
    size = 20_000_000
    spool, body = make_spool(), memoryview(bytes(size))
    await append(spool, 0)
    tracemalloc.start()
    try:
        [location] = await spool.append([(accepted(), (b"Received: us\r\n", body[:1000], body[1000:]))])
        assert tracemalloc.get_traced_memory()[1] < 500_000
        read_back = spool.read(location)[1]
        assert len(read_back) <= tracemalloc.get_traced_memory()[1] < size + 500_000
        del read_back
        tracemalloc.reset_peak()
        assert len(spool.read_range(location, 0, 1000)) == 1000
        assert tracemalloc.get_traced_memory()[1] < size // 4
    finally:
        tracemalloc.stop()


async def test_a_message_in_more_pieces_than_one_system_call_takes_is_written(make_spool: MakeSpool) -> None:
    spool = make_spool()
    pieces = [b"%d\r\n" % number for number in range(3000)]
    [location] = await spool.append([(accepted(), pieces)])
    assert spool.read(location)[1] == b"".join(pieces)


async def test_short_writes_are_continued_where_they_stopped(
    make_spool: MakeSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.pwritev

    def short(fd: int, buffers: list[bytes | memoryview], offset: int) -> int:
        first = memoryview(buffers[0])[:7]
        return whole(fd, [first], offset)

    monkeypatch.setattr(os, "pwritev", short)
    spool = make_spool()
    locations = await append(spool, 1, 2)
    assert [spool.read(location)[1] for location in locations] == [message(1), message(2)]


async def test_any_process_reads_by_root_and_location(make_spool: MakeSpool) -> None:
    spool = make_spool()
    [location] = await append(spool, 3)
    assert read(spool.root, location) == (accepted(3), message(3))
    assert read_range(spool.root, location, 0, 10) == b"Subject: 3"


async def test_a_location_that_no_record_has_is_malformed_or_not_found(make_spool: MakeSpool) -> None:
    spool = make_spool()
    [location] = await append(spool, 3)
    with pytest.raises(NotFound):
        spool.read(Location("nobody/00000001.seg", 0, location.length))
    for wrong in (
        Location(location.segment, 1, location.length),
        Location(location.segment, 0, location.length - 1),
        Location(location.segment, location.length, location.length),
    ):
        with pytest.raises(Malformed):
            spool.read(wrong)


@pytest.mark.parametrize("where", ["header", "head", "body"])
async def test_a_record_that_changed_on_disk_is_never_handed_out(make_spool: MakeSpool, where: str) -> None:
    spool = make_spool()
    [location] = await append(spool, 3, size=200_000)
    at = {"header": 20, "head": 40, "body": location.length - 5}[where]
    flip(spool.root / location.segment, at)
    with pytest.raises(Malformed):
        spool.read(location)
    with pytest.raises(Malformed):
        spool.read_range(location, 0, 10)


async def test_appends_that_wait_together_share_one_flush(make_spool: MakeSpool) -> None:
    flushing, may_go_on = threading.Event(), threading.Event()
    flushes = []

    def slow_sync(fd: int) -> None:
        flushes.append(fd)
        flushing.set()
        assert may_go_on.wait(20)

    spool = make_spool(sync=slow_sync)
    first = asyncio.ensure_future(append(spool, 0))
    assert await asyncio.get_running_loop().run_in_executor(None, flushing.wait, 20)
    others = [asyncio.ensure_future(append(spool, number)) for number in range(1, 30)]
    await asyncio.sleep(0)
    may_go_on.set()
    locations = [await task for task in (first, *others)]
    assert len(flushes) == 2
    assert spool.usage().last_batch == 29
    assert [spool.read(location)[1] for [location] in locations] == [message(number) for number in range(30)]


async def test_nothing_is_told_before_the_flush_has_ended(make_spool: MakeSpool) -> None:
    flushing, may_go_on = threading.Event(), threading.Event()

    def slow_sync(fd: int) -> None:
        flushing.set()
        assert may_go_on.wait(20)

    spool = make_spool(sync=slow_sync)
    task = asyncio.ensure_future(append(spool, 1))
    assert await asyncio.get_running_loop().run_in_executor(None, flushing.wait, 20)
    assert not task.done()
    assert spool.usage().waiting == 1
    may_go_on.set()
    await task
    assert spool.usage().waiting == 0


async def test_a_lingering_append_waits_for_company(make_spool: MakeSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "LINGER_SECONDS", 60.0)
    spool = make_spool()
    lingering = asyncio.ensure_future(spool.append([(accepted(1), (message(1),))], linger=True))
    done, _ = await asyncio.wait({lingering}, timeout=0.1)
    assert not done
    await append(spool, 2)
    await lingering
    assert spool.usage().batches == 1


async def test_a_lingering_append_does_not_wait_for_ever(make_spool: MakeSpool) -> None:
    spool = make_spool()
    [location] = await spool.append([(accepted(3), (message(3),))], linger=True)
    assert spool.read(location)[1] == message(3)


async def test_a_cancelled_append_disturbs_nobody(make_spool: MakeSpool) -> None:
    spool = make_spool()
    cancelled = asyncio.ensure_future(append(spool, 1))
    kept = asyncio.ensure_future(append(spool, 2))
    await asyncio.sleep(0)
    cancelled.cancel()
    [location] = await kept
    assert spool.read(location)[1] == message(2)
    [after] = await append(spool, 3)
    assert spool.read(after)[1] == message(3)


async def test_a_head_that_cannot_be_encoded_fails_its_caller_alone(make_spool: MakeSpool) -> None:
    spool = make_spool()
    good = asyncio.ensure_future(append(spool, 1))
    with pytest.raises(TypeError):
        await spool.append([(accepted(2, trace=object()), (message(2),))])
    assert spool.read((await good)[0])[1] == message(1)


async def test_a_piece_that_is_not_contiguous_fails_its_caller_alone(make_spool: MakeSpool) -> None:
    spool = make_spool()
    with pytest.raises(ValueError, match="contiguous"):
        await spool.append([(accepted(2), (memoryview(b"abcdef")[::2],))])
    assert await append(spool, 1)


async def test_appending_nothing_writes_nothing(make_spool: MakeSpool) -> None:
    spool = make_spool()
    assert await spool.append([]) == []
    assert spool.usage().segments == 0


async def test_a_segment_rolls_when_the_next_batch_would_make_it_too_large(make_spool: MakeSpool) -> None:
    spool = make_spool(segment_bytes=3600)
    locations = [(await append(spool, number, size=1000))[0] for number in range(4)]
    assert [location.segment[-6:-4] for location in locations] == ["01", "01", "02", "02"]
    assert spool.rolled_segments() == [locations[0].segment]
    assert all(spool.read(location)[1] == message(n, 1000) for n, location in enumerate(locations))


async def test_one_message_may_be_larger_than_a_segment(make_spool: MakeSpool) -> None:
    spool = make_spool(segment_bytes=1000)
    [location] = await append(spool, 1, size=5000)
    assert spool.read(location)[1] == message(1, 5000)


async def test_an_old_segment_rolls_without_another_append(make_spool: MakeSpool) -> None:
    spool = make_spool(roll_seconds=0.05)
    [location] = await append(spool, 1)
    async with asyncio.timeout(20):
        while spool.rolled_segments() != [location.segment]:
            await asyncio.sleep(0.005)
    [later] = await append(spool, 2)
    assert later.segment != location.segment


async def test_an_old_segment_rolls_under_load_as_well(make_spool: MakeSpool) -> None:
    flushing, may_go_on = threading.Event(), threading.Event()

    def slow_sync(fd: int) -> None:
        flushing.set()
        assert may_go_on.wait(20)

    spool = make_spool(roll_seconds=0.01, sync=slow_sync)
    tasks = [asyncio.ensure_future(append(spool, 1))]
    assert await asyncio.get_running_loop().run_in_executor(None, flushing.wait, 20)
    old_at = time.monotonic() + 0.01
    tasks.append(asyncio.ensure_future(append(spool, 2)))
    while time.monotonic() < old_at:
        await asyncio.sleep(0)
    may_go_on.set()
    [[first], [second]] = await asyncio.gather(*tasks)
    assert first.segment != second.segment


async def test_a_roll_on_demand_lists_what_was_written_before_it(make_spool: MakeSpool) -> None:
    spool = make_spool()
    [location] = await append(spool, 1)
    assert spool.rolled_segments() == []
    await spool.roll()
    assert spool.rolled_segments() == [location.segment]
    await spool.roll()
    assert len(spool.rolled_segments()) == 1


@pytest.mark.parametrize("wrap", [asyncio.ensure_future, lambda awaitable: asyncio.shield(awaitable)])
async def test_a_segment_is_not_offered_for_removal_before_its_writers_have_gone_on(
    make_spool: MakeSpool, wrap: Callable[..., Awaitable[list[Location]]]
) -> None:
    # Whoever looks for segments that nobody needs must not find one whose record is not noted anywhere yet.
    second_batch = threading.Event()
    flushes = []

    def sync(fd: int) -> None:
        flushes.append(fd)
        if len(flushes) == 2:
            second_batch.set()

    spool = make_spool(segment_bytes=1, sync=sync)
    noted: set[str] = set()

    async def take(*numbers: int) -> None:
        noted.update(location.segment for location in await wrap(append(spool, *numbers)))

    # As many records as fill a batch, so that the other one begins the next batch and by that the next segment.
    tasks = [asyncio.ensure_future(take(*range(MAX_BATCH_RECORDS))), asyncio.ensure_future(take(MAX_BATCH_RECORDS))]
    while spool.usage().waiting < 2:
        await asyncio.sleep(0)
    # The first segment is closed before its writer has had a turn.
    assert second_batch.wait(20)
    for _ in range(20):
        assert set(spool.rolled_segments()) <= noted
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    await spool.roll()
    assert set(spool.rolled_segments()) == noted


async def test_only_closed_segments_of_our_own_are_unlinked(make_spool: MakeSpool) -> None:
    spool, other = make_spool(), make_spool()
    [location] = await append(spool, 1)
    with pytest.raises(NotAllowed):
        spool.unlink(location.segment)
    await spool.roll()
    with pytest.raises(NotFound):
        other.unlink(location.segment)
    spool.unlink(location.segment)
    assert spool.rolled_segments() == []
    with pytest.raises(NotFound):
        spool.read(location)


async def test_copies_are_durable_before_the_old_segment_goes(make_spool: MakeSpool) -> None:
    spool, dead = make_spool(), make_spool()
    olds = await append(dead, 1, 2, 3, size=50_000)
    gone = Location("nobody/00000001.seg", 0, 100)
    pairs = await spool.copy_out([olds[2], gone, olds[0]])
    assert [old for old, _ in pairs] == [olds[2], olds[0]]
    await dead.roll()
    dead.unlink(olds[0].segment)
    assert [spool.read(new) for _, new in pairs] == [
        (accepted(3), message(3, 50_000)),
        (accepted(1), message(1, 50_000)),
    ]


async def test_copies_are_found_by_recovery_under_their_new_owner(make_spool: MakeSpool) -> None:
    spool, other = make_spool(), make_spool()
    await spool.copy_out(await append(other, 1, 2))
    spool.close()
    [adopted] = adopt(spool.root)
    assert ids(adopted) == [1, 2]
    adopted.release()


async def test_usage_counts_octets_segments_and_batches(make_spool: MakeSpool) -> None:
    spool = make_spool(segment_bytes=1000)
    locations = [(await append(spool, number, size=800))[0] for number in range(3)]
    usage = spool.usage()
    assert usage.bytes == sum(location.length for location in locations)
    assert (usage.segments, usage.batches, usage.records, usage.waiting, usage.failures) == (3, 3, 3, 0, 0)
    assert usage.last_flush_ms > 0


async def test_after_close_nothing_is_taken_and_what_waited_is_written(make_spool: MakeSpool) -> None:
    spool = make_spool()
    waiting = asyncio.ensure_future(append(spool, 1))
    await asyncio.sleep(0)
    spool.close()
    [location] = await waiting
    assert read(spool.root, location)[1] == message(1)
    with pytest.raises(SpoolFailed):
        await append(spool, 2)


async def test_an_empty_folder_goes_with_its_owner(make_spool: MakeSpool) -> None:
    spool = make_spool()
    [location] = await append(spool, 1)
    await spool.roll()
    spool.unlink(location.segment)
    assert is_alive(spool.root, spool.owner)
    spool.close()
    assert not is_alive(spool.root, spool.owner)
    assert list(spool.root.iterdir()) == []


async def test_two_spools_cannot_have_one_name(make_spool: MakeSpool) -> None:
    spool = make_spool()
    with pytest.raises(Conflict):
        Spool(spool.root, spool.owner)
    assert [path.name for path in spool.root.iterdir()] == [spool.owner]


async def test_two_owners_write_side_by_side(make_spool: MakeSpool) -> None:
    one, two = make_spool(), make_spool()
    [[first], [second]] = await asyncio.gather(append(one, 1), append(two, 2))
    assert first.segment != second.segment
    assert (two.read(first)[1], one.read(second)[1]) == (message(1), message(2))


def test_an_owner_is_named_for_host_role_boot_and_process() -> None:
    name = new_owner("smtp-1")
    assert name != new_owner("smtp-1")
    host, role, boot, pid, rest = name.rsplit("-", 4)
    assert (role, pid, len(boot), len(rest)) == ("smtp_1", str(os.getpid()), 8, 4)
    assert host == host.lower() != ""


async def test_an_owner_is_here_while_his_folder_can_be_adopted(make_spool: MakeSpool) -> None:
    spool = make_spool()
    root, owner = spool.root, spool.owner
    assert is_here(root, owner)
    await append(spool, 1)
    spool.close()
    assert is_here(root, owner)
    (root / owner / "lock").unlink()  # made again where there is mail
    assert is_here(root, owner)
    for segment in (root / owner).glob("*.seg"):
        segment.unlink()
    assert not is_here(root, owner)  # nobody adopts it, so his leases must end by time
    assert not is_here(root, new_owner("smtp"))
