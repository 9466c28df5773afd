"""The box: whatever a file does to its parser, the worker goes on, and no file goes unseen without a word."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.inspection.box import sandbox, wire, zygote
from gateway.inspection.box.channel import Channel
from gateway.inspection.box.client import Box, BoxAway
from gateway.inspection.box.crashes import CrashTable
from gateway.inspection.task import Bounds, Errand
from tests import boxed
from tests.boxed import BREAKS, ESCAPES, errand

ROOT, ORDINARY = 0, sandbox.NOBODY
AS_ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="changes its user")


@pytest.fixture(scope="module", params=[ROOT, pytest.param(ORDINARY, marks=AS_ROOT_ONLY)], ids=["as is", "ordinary"])
def channel(request: pytest.FixtureRequest) -> Iterator[Channel]:
    channel = Channel()
    with boxed.running(channel, uid=request.param):
        yield channel
    channel.close()


@pytest.fixture
async def box(channel: Channel) -> AsyncIterator[Box]:
    box = Box(channel, CrashTable())
    yield box
    box.close()


async def opened_text(box: Box, raw: bytes = b"other") -> str:
    return (await box.open(raw, errand("good"))).text


async def test_what_an_opener_sees_comes_back(box: Box) -> None:
    opened = await box.open(b"hello", errand("good"))
    (part,) = opened.parts
    assert (part.path, part.size, part.active, part.names) == ("1", 5, ("script",), ("a.bin",))
    assert (opened.text, [link.target for link in opened.links]) == ("opened 1", ["http://a.example/"])


async def test_a_message_without_tasks_needs_no_child(box: Box) -> None:
    assert (await box.open(b"hello", Errand(()))).parts == ()


@pytest.mark.parametrize("act", ESCAPES)
async def test_a_parser_that_is_taken_over_gets_nowhere(box: Box, act: str) -> None:
    with socket.socket(socket.AF_UNIX) as host:
        host.bind(boxed.HOST_SOCKET)
        host.listen()
        opened = await box.open(b"hello", errand(act))
    (part,) = opened.parts
    assert (part.active, part.problems) == ((), ())
    assert opened.text, "it was refused, not left out"
    assert await opened_text(box) == "opened 1"


@pytest.fixture(scope="module", params=["seccomp", "landlock"])
def lacking(request: pytest.FixtureRequest) -> Iterator[Channel]:
    channel = Channel()
    with boxed.running(channel, without=request.param):
        yield channel
    channel.close()


@AS_ROOT_ONLY
@pytest.mark.parametrize("act", [act for act in ESCAPES if act not in boxed.ONLY_BY_SECCOMP])
async def test_limits_and_user_hold_alone(lacking: Channel, act: str) -> None:
    box = Box(lacking, CrashTable())
    opened = await box.open(b"hello", errand(act))
    assert opened.parts[0].active == ()
    box.close()


@pytest.mark.parametrize("act", BREAKS)
async def test_a_parser_that_breaks_is_a_problem_of_its_part(box: Box, act: str) -> None:
    _, problem = BREAKS[act]
    opened = await box.open(b"hello", errand(act, seconds=0.3))
    assert [(part.path, part.problems) for part in opened.parts] == [("1", (problem,))]
    assert opened.parts[0].names == ("a.bin",)
    assert await opened_text(box) == "opened 1"


async def test_one_bad_part_does_not_hide_the_others(box: Box) -> None:
    opened = await box.open(b"aaaaabbbbbccccc", errand("good", "aborts", "good"))
    assert [(part.path, part.active, part.problems) for part in opened.parts] == [
        ("1", ("script",), ()),
        ("2", (), ("crashed",)),
        ("3", ("script",), ()),
    ]
    assert opened.text == "opened 1\nopened 3"
    assert [link.part for link in opened.links] == ["1", "3"]


async def test_a_second_crash_on_the_same_message_is_said_so(channel: Channel, box: Box) -> None:
    first = await box.open(b"crash", errand("aborts"))
    other = await box.open(b"smash", errand("aborts"))
    second = await box.open(b"crash", errand("aborts"))
    assert [one.problems for one in (first, other, second)] == [(), (), ("crashed_again",)]


async def test_after_a_day_a_crash_is_forgotten() -> None:
    crashes = CrashTable()
    assert [crashes.note(b"a", at) for at in (1e6, 2e6, 2e6 + 60)] == [False, False, True]


async def test_names_that_are_no_text_come_as_text(box: Box) -> None:
    parts = (await box.open(b"hello", errand("surrogates"))).parts
    assert [part.names for part in parts] == [("a.bin",), ("a?.exe",)]


async def test_too_large_an_answer_loses_its_links_and_says_so(box: Box) -> None:
    opened = await box.open(b"hello", errand("texts"))
    assert (len(opened.parts), opened.links, opened.problems) == (1, (), ("too_much",))


async def test_tasks_that_a_limit_left_out_have_parts(box: Box) -> None:
    asked = Errand(errand("good", "good").tasks, bounds=Bounds(files=1))
    with_limit = (await box.open(b"aaaaabbbbb", asked)).parts
    assert [(part.path, part.problems) for part in with_limit] == [("1", ()), ("2", ("too_many_files",))]


async def test_slow_files_do_not_hold_up_everybody(box: Box) -> None:
    slow = [asyncio.create_task(box.open(b"spin!", errand("slow", seconds=0.5))) for _ in range(3)]
    others = await asyncio.gather(*(opened_text(box) for _ in range(100)))
    assert others == ["opened 1"] * 100
    assert not any(one.done() for one in slow)
    assert [(await one).parts[0].problems for one in slow] == [("too_long",)] * 3


async def test_more_callers_than_children_are_served_in_turn(box: Box) -> None:
    raws = [b"%05d" % number for number in range(200)]
    opened = await asyncio.gather(*(box.open(raw, errand("good")) for raw in raws))
    assert [len(one.parts) for one in opened] == [1] * 200


async def test_a_caller_that_gives_up_takes_no_child_along(box: Box) -> None:
    slow = [asyncio.create_task(box.open(b"spin!", errand("slow"))) for _ in range(8)]
    await asyncio.sleep(0)
    for one in slow:
        one.cancel()
    assert all(isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*slow, return_exceptions=True))
    assert await opened_text(box) == "opened 1"


async def test_large_messages_arrive_whole_and_their_memory_comes_back(channel: Channel, box: Box) -> None:
    raw = bytes(range(256)) * (40 << 12)  # 40 MiB
    (part,) = (await box.open(raw, boxed.whole(raw))).parts
    assert part.size == len(raw)
    assert await opened_text(box) == "opened 1"


async def test_a_closed_box_is_away(channel: Channel) -> None:
    box = Box(channel, CrashTable())
    waiting = asyncio.create_task(box.open(b"spin!", errand("slow")))
    await asyncio.sleep(0)
    box.close()
    with pytest.raises(BoxAway):
        await waiting


async def test_a_box_without_a_zygote_is_away() -> None:
    channel = Channel()
    box = Box(channel, CrashTable())
    with pytest.raises(BoxAway, match="starts no child"):
        await box.open(b"hello", errand("good", seconds=0.0))
    box.close()
    channel.close()


def test_the_zygote_of_the_product_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEPOST_DATABASE_URL", "postgresql://gatepost:hush@db.example/")
    channel = Channel()
    pid = os.fork()
    if pid == 0:
        zygote.become(channel)

    async def opened() -> tuple[str, ...]:
        box = Box(channel, CrashTable())
        try:
            return tuple(part.path for part in (await box.open(b"hello", errand("good"))).parts)
        finally:
            box.close()

    try:
        assert asyncio.run(opened()) == ("1",)
        assert b"hush" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert b"inspection.box.zygote" in Path(f"/proc/{pid}/cmdline").read_bytes()
    finally:
        boxed.end(pid)
        channel.close()


def test_the_layers_can_be_told() -> None:
    found = sandbox.layers()
    assert {"limits", "no new privileges"} <= set(found) <= set(sandbox.LAYERS)


@pytest.mark.parametrize("octets", [b"", b"\xc0", b"\x95" * 100_000, b"\x95\x90\x90\xa0\x90\x90\x00"])
def test_an_answer_that_is_none_is_refused(octets: bytes) -> None:
    with pytest.raises(wire.BadAnswer):
        wire.read_answer(octets, errand("good"))
