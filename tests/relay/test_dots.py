"""Dot-stuffing by pieces says the same as dot-stuffing of the whole, wherever the message is cut."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.relay import dots
from gateway.relay.dots import slices, stuffed, stuffed_whole


def whole(raw: bytes) -> bytes:
    """Stuff line by line, as RFC 5321 section 4.5.2 tells it."""
    if not raw:
        return b""
    lines = raw.split(b"\r\n")
    text = b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines)
    return text if text.endswith(b"\r\n") else text + b"\r\n"


def cut(raw: bytes, places: list[int]) -> list[bytes | memoryview]:
    edges = sorted({0, len(raw), *(place % (len(raw) + 1) for place in places)})
    pieces = [raw[start:end] for start, end in pairwise(edges)]
    return [piece if number % 2 else memoryview(piece) for number, piece in enumerate(pieces)]


@pytest.mark.parametrize(
    ("pieces", "wire"),
    [
        ([], b""),
        ([b""], b""),
        ([b"."], b"..\r\n"),
        ([b".\r\n"], b"..\r\n"),
        ([b"a\r\n", b".b\r\n"], b"a\r\n..b\r\n"),
        ([b"a\r", b"\n.b\r\n"], b"a\r\n..b\r\n"),
        ([b"a\r", b"\n", b".", b"b\r\n"], b"a\r\n..b\r\n"),
        ([b"a.b\n.c\r.d\r\n"], b"a.b\n.c\r.d\r\n"),  # only CRLF ends a line
        ([b"no end"], b"no end\r\n"),
        ([b"half end\r"], b"half end\r\r\n"),
    ],
)
def test_the_wire_form_by_example(pieces: list[bytes], wire: bytes) -> None:
    assert b"".join(stuffed(pieces)) == wire


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"a"]), max_size=24), st.lists(st.integers(0, 60))
)
@example([b"\r\n", b".", b"\r\n", b"."], [1, 2, 3, 4])
def test_where_it_is_cut_makes_no_difference(parts: list[bytes], places: list[int]) -> None:
    raw = b"".join(parts)
    assert b"".join(stuffed(cut(raw, places))) == whole(raw)


@pytest.mark.parametrize("slice_bytes", [1, 2, 3, 5])
def test_long_pieces_are_cut_without_a_trace(monkeypatch: pytest.MonkeyPatch, slice_bytes: int) -> None:
    monkeypatch.setattr(dots, "SLICE", slice_bytes)
    raw = b".\r\n..\r\nabc\r\n.def\r\n\r\n.\r\n"
    assert b"".join(stuffed([memoryview(raw)])) == whole(raw)


def test_a_big_message_is_never_copied_whole() -> None:
    raw = b"x" * 10_000_000
    assert max(map(len, stuffed([memoryview(raw)]))) <= dots.SLICE + 2


@example(b"x", [])
@example(b"\r\n.\r\n", [])
@given(
    st.lists(st.sampled_from([b"\r\n", b".", b"a", b"\r", b"\n"]), max_size=20).map(b"".join),
    st.lists(st.integers(0, 40)),
)
def test_a_small_message_goes_with_its_final_dot_as_its_pieces_do(raw: bytes, places: list[int]) -> None:
    assert stuffed_whole(cut(raw, places)) == whole(raw) + b".\r\n"


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_what_has_no_dots_is_sent_as_it_is(pieces: list[bytes]) -> None:
    assert b"".join(slices(pieces)) == b"".join(pieces)
