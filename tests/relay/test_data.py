"""The octets of a message: the end mark, dots, sizes, line ends; in whichever pieces they come."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.data import (
    DROP_BYTES,
    ChunkReader,
    DataReader,
    has_clean_line_ends,
    is_header_within,
    repair_line_ends,
)

LIMIT = 1 << 16
PIECES = st.lists(st.sampled_from([b".", b"..", b"\r\n", b"\r", b"\n", b"\0", b"a", b"\r\n.", b"\n.\n", b"\xff" * 9]))


def unstuffed(wire: bytes) -> bytes:
    """What RFC 5321 section 4.5.2 says, line by line."""
    lines = wire.split(b"\r\n")
    return b"\r\n".join(line.removeprefix(b".") for line in lines)


def read(wire: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """Feed `wire` cut at the given places; return the message and what follows it."""
    reader = DataReader(LIMIT)
    places = sorted({0, *(cut % (len(wire) + 1) for cut in cuts), len(wire)})
    for begin, end in pairwise(places):
        piece = wire[begin:end]
        if (at := reader.feed(b"before" + piece, 6)) >= 0:
            return reader.raw, (b"before" + piece)[at:] + wire[end:]
    raise AssertionError("no end")


@given(PIECES, st.lists(st.integers(0, 1 << 16), max_size=12))
def test_a_message_is_the_same_in_whichever_pieces_it_comes(pieces: list[bytes], cuts: list[int]) -> None:
    text = b"\r\n" + b"".join(pieces) + b"\r\n"
    end = (text + b".\r\n").find(b"\r\n.\r\n")
    message, rest = (text + b".\r\n")[2 : end + 2], (text + b".\r\nNOOP\r\n")[end + 5 :]
    assert read((text + b".\r\nNOOP\r\n")[2:], cuts) == (unstuffed(message), rest)


@pytest.mark.parametrize(
    ("wire", "raw"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),  # a sender that stuffs nothing
        (b"a\r\n..\r\n..b\r\n.\r\n", b"a\r\n.\r\n.b\r\n"),
        (b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n"),  # no end, a bare LF to be refused
    ],
)
def test_dots_are_unstuffed(wire: bytes, raw: bytes) -> None:
    assert read(wire, []) == (raw, b"")
    assert read(wire, list(range(len(wire)))) == (raw, b"")


def test_dots_do_not_make_a_message_too_big() -> None:
    raw = b".\r\n" * (LIMIT // 3)
    reader = DataReader(LIMIT)
    assert reader.feed(raw.replace(b".", b"..") + b".\r\n", 0) > 0
    assert not reader.is_too_big
    assert reader.raw == raw


def test_a_message_of_just_the_limit_fits_in_any_pieces() -> None:
    wire = b"x" * (LIMIT - 2) + b"\r\n.\r\n"
    raw, rest = read(wire, list(range(len(wire) - 8, len(wire))))
    assert (len(raw), rest) == (LIMIT, b"")


def test_without_dots_nothing_beyond_the_limit_is_kept() -> None:
    reader = DataReader(LIMIT)
    assert reader.feed(b"x" * (LIMIT + 6), 0) == -1
    assert reader.is_too_big
    for _ in range(3):
        reader.feed(b"x" * 100, 0)
        assert len(reader._held or b"") < 10


def test_what_is_too_big_is_counted_but_not_kept() -> None:
    reader = DataReader(LIMIT)
    for _ in range(100):
        assert reader.feed(b"x" * LIMIT, 0) == -1
    assert reader.is_too_big
    assert not reader.is_endless
    assert reader.received == 100 * LIMIT
    assert reader.feed(b"\r\n.\r\nNOOP", 0) == 5
    assert reader.raw == b""


def test_what_does_not_end_is_called_endless() -> None:
    reader = DataReader(LIMIT)
    for _ in range(DROP_BYTES // LIMIT + 3):
        assert reader.feed(b"x" * LIMIT, 0) == -1
    assert reader.is_endless


@given(st.binary(max_size=40), st.binary(max_size=9), st.integers(1, 50))
def test_a_chunk_takes_exactly_its_octets(chunk: bytes, rest: bytes, size: int) -> None:
    into = bytearray(b"first")
    reader = ChunkReader(len(chunk), is_last=True, into=into)
    wire, at = chunk + rest, -1
    for begin in range(0, len(wire) + 1, size):
        if (end := reader.feed(wire[begin : begin + size], 0)) >= 0:
            at = begin + end
            break
    assert at == len(chunk)
    assert bytes(into) == b"first" + chunk


def test_a_refused_chunk_is_read_and_dropped() -> None:
    reader = ChunkReader(5, is_last=False, into=None)
    assert reader.feed(b"abc", 0) == -1
    assert reader.feed(b"deNOOP", 0) == 2


@pytest.mark.parametrize("raw", [b"", b"a", b"\r\n", b"a\r\nb\r\n", b"\r\n\r\n", b"a\tb\x01\xff\r\n"])
def test_crlf_alone_is_clean(raw: bytes) -> None:
    assert has_clean_line_ends(raw)


@pytest.mark.parametrize(
    ("raw", "repaired"),
    [
        (b"\n", b"\r\n"),
        (b"\r", b"\r\n"),
        (b"a\0b", b"ab"),
        (b"\r\r\n", b"\r\n\r\n"),
        (b"\n\r", b"\r\n\r\n"),
        (b"a\r\n\nb\r", b"a\r\n\r\nb\r\n"),
        (b"a\n.\nb\r\n", b"a\r\n.\r\nb\r\n"),
        (b"\r\0\n", b"\r\n"),
        (b"\r.\n", b"\r\n.\r\n"),  # as many CR as LF, in turn, and yet none is a pair
        (b"a\r", b"a\r\n"),
    ],
)
def test_all_else_is_seen_and_can_be_repaired(raw: bytes, repaired: bytes) -> None:
    assert not has_clean_line_ends(raw)
    assert repair_line_ends(raw) == repaired


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\0", b"a", b"\r\n"])).map(b"".join))
def test_clean_is_what_splitting_at_crlf_leaves_clean(raw: bytes) -> None:
    is_clean = not any(odd in piece for piece in raw.split(b"\r\n") for odd in (b"\r", b"\n", b"\0"))
    assert has_clean_line_ends(raw) is is_clean


def test_a_pair_may_lie_on_any_border() -> None:
    for length in range((1 << 20) - 3, (1 << 20) + 1):
        assert has_clean_line_ends(b"x" * length + b"\r\n" + b"y")
        assert not has_clean_line_ends(b"x" * length + b"\r" + b"y")
        assert not has_clean_line_ends(b"x" * length + b"\n" + b"y")


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\0", b"a", b"\r\n"])).map(b"".join))
def test_repaired_is_clean(raw: bytes) -> None:
    assert has_clean_line_ends(repair_line_ends(raw))
    if has_clean_line_ends(raw):
        assert repair_line_ends(raw) == raw


@pytest.mark.parametrize(
    ("raw", "limit", "fits"),
    [
        (b"A: b\r\n\r\nbody", 6, True),
        (b"A: b\r\n\r\nbody", 5, False),
        (b"A: b\r\n", 6, True),
        (b"A: bc\r\n", 6, False),
        (b"\r\nno header, long body", 2, True),
        (b"", 0, True),
    ],
)
def test_the_header_is_measured_without_its_empty_line(raw: bytes, limit: int, fits: bool) -> None:
    assert is_header_within(raw, limit) is fits
