"""Reading replies: whatever octets come and however they are cut, they end in replies or in a lost connection."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.reply_stream import HostReply, Lost, ReplyStream, local_reply


class Wire(asyncio.Transport):
    """The edge: a transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.is_aborted = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


def read_all(chunks: list[bytes], expected: int) -> tuple[list[HostReply], str]:
    """Feed a stream; return its replies and why it was lost at the end ("": it is not)."""

    async def go() -> tuple[list[HostReply], str]:
        stream = ReplyStream(asyncio.get_running_loop())
        stream.connection_made(Wire())
        stream.send(b"", expected - 1)
        for chunk in chunks:
            stream.data_received(chunk)
        replies = []
        try:
            for _ in range(expected):
                replies.append(await stream.reply(0.01))
        except Lost as lost:
            return replies, lost.why
        return replies, "" if stream.is_quiet else "not quiet"

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("octets", "code", "enhanced", "text"),
    [
        (b"250 2.1.0 Ok\r\n", 250, "2.1.0", "Ok"),
        (b"250 Ok\n", 250, "", "Ok"),
        (b"250\r\n", 250, "", ""),
        (b"250 \r\n", 250, "", ""),
        (b"250 2.0.0\r\n", 250, "2.0.0", ""),
        (b"550-5.1.1 No such\r\n550 5.1.1 user\r\n", 550, "5.1.1", "No such\nuser"),
        (b"550 4.1.1 Confused\r\n", 550, "", "Confused"),  # RFC 2034 section 4: not the reply's class
        (b"250 2.1 is no code\r\n", 250, "", "2.1 is no code"),
        (b"250-first\r\n250-\r\n250 last\r\n", 250, "", "first\n\nlast"),
    ],
)
def test_replies_by_example(octets: bytes, code: int, enhanced: str, text: str) -> None:
    assert read_all([octets], 1) == ([HostReply(code, enhanced, text)], "")


@given(st.lists(st.sampled_from([b"250 Ok\r\n", b"250-a\r\n", b"550 5.1.1 No\r\n", b"354\r\n"]), max_size=8), st.data())
def test_how_replies_are_cut_makes_no_difference(parts: list[bytes], data: st.DataObject) -> None:
    octets = b"".join(parts)
    places = data.draw(st.lists(st.integers(0, len(octets)), max_size=6))
    edges = sorted({0, len(octets), *places})
    chunks = [octets[start:end] for start, end in pairwise(edges)]
    whole = sum(not part.startswith(b"250-") for part in parts)
    assert read_all(chunks, whole + 1) == read_all([octets], whole + 1)


@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.sampled_from([b"250 ", b"\r\n", b"250-", b"\xff" * 3000])), max_size=20
    )
)
def test_any_octets_end_in_replies_or_a_lost_connection(chunks: list[bytes]) -> None:
    replies, why = read_all(chunks, 3)
    assert len(replies) == 3 or why
    assert all(200 <= reply.code <= 599 for reply in replies)
    assert all(str(reply).isprintable() for reply in replies)


def test_the_reply_before_the_loss_is_still_read() -> None:
    replies, why = read_all([b"250 Ok\r\nrubbish\r\n"], 2)
    assert (replies, why) == ([HostReply(250, "", "Ok")], "not an SMTP reply")


def test_our_own_results_have_no_code() -> None:
    assert str(local_reply("4.4.1", "no answer")) == "4.4.1 no answer"
    assert not local_reply("4.4.1", "no answer").is_permanent
    assert local_reply("5.1.2", "no domain").is_permanent


async def test_waiting_for_room_ends_when_the_transport_has_some() -> None:
    stream = ReplyStream(asyncio.get_running_loop())
    stream.connection_made(Wire())
    stream.pause_writing()
    waiting = asyncio.create_task(stream.room(5))
    await asyncio.sleep(0)
    assert not waiting.done()
    stream.resume_writing()
    await asyncio.wait_for(waiting, 1)


async def test_waiting_for_room_is_bounded() -> None:
    stream = ReplyStream(asyncio.get_running_loop())
    wire = Wire()
    stream.connection_made(wire)
    stream.pause_writing()
    with pytest.raises(Lost, match="timed out"):
        await stream.room(0.01)
    assert wire.is_aborted


async def test_a_short_deadline_after_a_long_one_is_kept() -> None:
    stream = ReplyStream(asyncio.get_running_loop())
    stream.connection_made(Wire())
    waiting = asyncio.create_task(stream.reply(1000))
    await asyncio.sleep(0)
    stream.data_received(b"220 hello\r\n")
    await waiting
    stream.send(b"NOOP\r\n", 1)
    async with asyncio.timeout(5):
        with pytest.raises(Lost, match="timed out"):
            await stream.reply(0.01)
