"""Changing a message without copying it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail.errors import Malformed
from gateway.mail.splice import splice

RAW = b"A: 1\r\nB: 2\r\nC: 3\r\n\r\nbody\r\n"


def spliced(*, prepend: bytes = b"", remove: list[tuple[int, int]], replace: list[tuple[int, int, bytes]]) -> bytes:
    return b"".join(splice(RAW, prepend=prepend, remove=remove, replace=replace))


def test_a_message_without_changes_is_itself() -> None:
    pieces = splice(RAW)
    assert len(pieces) == 1
    assert pieces[0] is RAW


def test_fields_are_put_in_front() -> None:
    pieces = splice(RAW, prepend=b"X: 0\r\n")
    assert pieces == (b"X: 0\r\n", RAW)
    assert pieces[1] is RAW


def test_ranges_are_removed_and_replaced_in_any_order() -> None:
    assert spliced(remove=[(12, 18), (0, 6)], replace=[]) == b"B: 2\r\n\r\nbody\r\n"
    assert spliced(remove=[(0, 6)], replace=[(12, 18, b"C: 4\r\n")], prepend=b"X: 0\r\n") == (
        b"X: 0\r\nB: 2\r\nC: 4\r\n\r\nbody\r\n"
    )
    assert spliced(remove=[], replace=[(6, 6, b"N: 1\r\n")]) == b"A: 1\r\nN: 1\r\nB: 2\r\nC: 3\r\n\r\nbody\r\n"
    assert spliced(remove=[(0, len(RAW))], replace=[]) == b""


def test_the_body_is_not_copied() -> None:
    pieces = splice(RAW, remove=[(0, 6)])
    assert isinstance(pieces[-1], memoryview)
    assert pieces[-1].obj is RAW


@pytest.mark.parametrize(
    ("remove", "replace"),
    [
        ([(0, 6), (4, 8)], []),
        ([(0, 6)], [(5, 7, b"x")]),
        ([(6, 4)], []),
        ([(-1, 4)], []),
        ([(0, len(RAW) + 1)], []),
        ([(0, 6), (0, 6)], []),
    ],
)
def test_ranges_that_make_no_sense_are_refused(
    remove: list[tuple[int, int]], replace: list[tuple[int, int, bytes]]
) -> None:
    with pytest.raises(Malformed):
        spliced(remove=remove, replace=replace)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=10), st.data())
def test_pieces_make_the_message_that_slicing_makes(raw: bytes, prepend: bytes, data: st.DataObject) -> None:
    edges = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8, unique=True)))
    ranges = list(zip(edges[::2], edges[1::2], strict=False))
    news = [data.draw(st.none() | st.binary(max_size=5)) for _ in ranges]
    expected = raw
    for (start, end), new in reversed(list(zip(ranges, news, strict=True))):
        expected = expected[:start] + (new or b"") + expected[end:]
    remove = [found for found, new in zip(ranges, news, strict=True) if new is None]
    replace = [(*found, new) for found, new in zip(ranges, news, strict=True) if new is not None]
    pieces = splice(raw, prepend=prepend, remove=data.draw(st.permutations(remove)), replace=replace)
    assert b"".join(pieces) == prepend + expected
