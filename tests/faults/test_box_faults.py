"""The box dies, hangs or is attacked a thousand times: no message is lost, no worker ends, nothing is left behind."""

import asyncio
import functools
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.inspection.box.channel import Channel
from gateway.inspection.box.client import Box, BoxAway
from gateway.inspection.box.crashes import CrashTable
from gateway.relay import processes
from tests import boxed
from tests.boxed import errand

HOSTILE = (
    "aborts",
    "exits",
    "prints garbage",
    "answers nonsense",
    "says that a gigabyte follows",
    "answers for another part",
)
DEADLINE_SECONDS = 30.0


@contextmanager
def supervised(channel: Channel) -> Iterator[int]:
    """Run the zygote as `gatepost run` does, which starts it again; yield the parent's process id."""
    pid = os.fork()
    if pid == 0:
        try:
            role = processes.Role("box", functools.partial(boxed.be_zygote, channel))
            processes.supervise([role], log_level="error")
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        zygotes = boxed.children(pid)
        os.kill(pid, signal.SIGTERM)
        for zygote in zygotes:  # it would wait for the worker's end
            os.kill(zygote, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture
def channel() -> Iterator[Channel]:
    channel = Channel()
    yield channel
    channel.close()


@pytest.fixture
async def box(channel: Channel) -> AsyncIterator[Box]:
    box = Box(channel, CrashTable())
    yield box
    box.close()


async def until(is_so: Callable[[], object]) -> None:
    ends_at = time.monotonic() + DEADLINE_SECONDS
    while not is_so():
        assert time.monotonic() < ends_at, "it did not become so"
        await asyncio.sleep(0.01)


def resident_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4


def cpu_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


async def test_a_message_outlives_the_zygote(channel: Channel, box: Box) -> None:
    with supervised(channel) as parent:
        await box.open(b"hello", errand("good"))
        (zygote,) = boxed.children(parent)
        children = boxed.children(zygote)
        under_way = asyncio.create_task(box.open(b"spin!good!", errand("slow", "good", seconds=2.0)))
        await until(lambda: any(cpu_ticks(child) > 2 for child in children))
        os.kill(zygote, signal.SIGKILL)
        opened = await under_way
        assert [(part.path, part.problems) for part in opened.parts] == [("1", ("too_long",)), ("2", ())]
        assert boxed.children(parent) != [zygote]


async def test_while_the_zygote_is_away_messages_wait_and_then_the_box_is_away(channel: Channel, box: Box) -> None:
    with boxed.running(channel) as zygote:
        await box.open(b"hello", errand("good"))
        boxed.end(zygote)
        with pytest.raises(BoxAway):
            await box.open(b"hello", errand("good", seconds=0.1))
    waiting = asyncio.create_task(box.open(b"hello", errand("good")))
    await asyncio.sleep(0)
    with boxed.running(channel):
        assert (await waiting).text == "opened 1"


async def test_a_child_that_is_killed_in_mid_message_is_replaced(channel: Channel, box: Box) -> None:
    with boxed.running(channel) as zygote:
        await box.open(b"hello", errand("good"))
        before = boxed.children(zygote)
        under_way = asyncio.create_task(box.open(b"spin!", errand("slow", seconds=0.4)))
        await until(lambda: any(cpu_ticks(child) > 2 for child in before))
        for child in before:
            os.kill(child, signal.SIGKILL)
        assert (await under_way).parts[0].problems == ("too_long",)
        assert (await box.open(b"hello", errand("good"))).text == "opened 1"


async def test_a_stopped_child_is_killed_at_the_deadline(channel: Channel, box: Box) -> None:
    with boxed.running(channel) as zygote:
        await box.open(b"hello", errand("good"))
        stopped = boxed.children(zygote)
        for child in stopped:
            os.kill(child, signal.SIGSTOP)
        large = bytes(4 << 20)  # more than the socket takes: it hangs while it sends
        assert (await box.open(large, errand("good", seconds=0.1))).parts[0].problems == ("too_long",)
        await until(lambda: len(set(stopped) & set(boxed.children(zygote))) < len(stopped))


async def test_told_to_end_the_zygote_serves_on_until_its_workers_have_ended(channel: Channel, box: Box) -> None:
    with boxed.running(channel) as zygote:
        await box.open(b"hello", errand("good"))
        os.kill(zygote, signal.SIGTERM)
        os.kill(zygote, signal.SIGINT)
        for number in range(100):
            assert (await box.open(b"%05d" % number, errand("good"))).text == "opened 1"
        assert (await box.open(b"hello", errand("aborts"))).parts[0].problems == ("crashed",)
        assert (await box.open(b"hello", errand("good"))).text == "opened 1"
        box.close()
        await until(lambda: os.waitpid(zygote, os.WNOHANG)[0] == zygote)


async def test_after_a_thousand_messages_a_fresh_child_takes_over(channel: Channel, box: Box) -> None:
    with boxed.running(channel) as zygote:
        await box.open(b"hello", errand("good"))
        before = set(boxed.children(zygote))
        for number in range(2100):
            await box.open(b"%05d" % number, errand("good"))
        await until(lambda: not before & set(boxed.children(zygote)))


async def test_a_thousand_hostile_messages_leave_nothing_behind(channel: Channel, box: Box) -> None:
    with boxed.running(channel) as zygote:
        await box.open(b"hello", errand("good"))
        pids = (os.getpid(), zygote)
        descriptors = [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]
        memory = [resident_kib(pid) for pid in pids]
        for first in range(0, 1000, 10):
            acts = [HOSTILE[number % len(HOSTILE)] for number in range(first, first + 10)]
            opened = await asyncio.gather(*(box.open(b"hello", errand(act)) for act in acts))
            assert [one.parts[0].problems for one in opened] == [("crashed",)] * 10
        assert (await box.open(b"hello", errand("good"))).text == "opened 1"
        gc.collect()
        await until(
            lambda: all(
                len(os.listdir(f"/proc/{pid}/fd")) <= have + 4 for pid, have in zip(pids, descriptors, strict=True)
            )
        )
        assert [resident_kib(pid) - have < 8 << 10 for pid, have in zip(pids, memory, strict=True)] == [True, True]
        assert len(boxed.children(zygote)) <= 4
        box.close()
        await until(lambda: not boxed.children(zygote))


async def test_memory_comes_back_after_large_messages(channel: Channel, box: Box) -> None:
    with boxed.running(channel) as zygote:
        await box.open(b"hello", errand("good"))
        small = max(resident_kib(child) for child in boxed.children(zygote))
        ours = resident_kib(os.getpid())
        raw = bytes(50 << 20)
        await box.open(raw, boxed.whole(raw))
        await until(lambda: all(resident_kib(child) < small + (4 << 10) for child in boxed.children(zygote)))
        del raw
        assert resident_kib(os.getpid()) < ours + (16 << 10)
        box.close()
