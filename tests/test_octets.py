"""The fast searches and sums are those of the standard library."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import octets

# Few values, so that what is looked for is there; long enough to leave the short paths of the libraries.
HAYSTACKS = st.binary(max_size=40) | st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\0"]), max_size=400).map(
    b"".join
)
NEEDLES = st.sampled_from([b"\r\n", b"\r\n.", b"\r\n.\r\n", b"\r", b"\n", b"\0"])


@given(HAYSTACKS, NEEDLES, st.integers(0, 400))
def test_find_is_that_of_bytes(haystack: bytes, needle: bytes, start: int) -> None:
    start = min(start, len(haystack))
    assert octets.find(haystack, needle) == haystack.find(needle)
    assert octets.find(haystack, needle, start) == haystack.find(needle, start)
    assert octets.find(bytearray(haystack), needle, start) == haystack.find(needle, start)


@given(HAYSTACKS, NEEDLES, st.sampled_from([b"", b"\r\n", b"\r\n.."]))
def test_replace_is_that_of_bytes(haystack: bytes, old: bytes, new: bytes) -> None:
    assert octets.replace(haystack, old, new) == haystack.replace(old, new)


@pytest.mark.parametrize("places", [0, 1, octets.RARE - 1, octets.RARE, octets.RARE + 1, 5 * octets.RARE])
def test_replace_does_all_places_however_many(places: int) -> None:
    haystack = b"begin" + b"\r\n.line" * places
    assert octets.replace(haystack, b"\r\n.", b"\r\n..") == b"begin" + b"\r\n..line" * places


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_crc32_is_that_of_zlib(data: bytes, begin: int) -> None:
    assert octets.crc32(data, begin) == zlib.crc32(data, begin)
    assert octets.crc32(memoryview(data)) == zlib.crc32(data)
