"""The leaf parts of a message."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail.parts import content_type, leaf_parts


def leaves(raw: bytes) -> list[tuple[str, bytes]]:
    return [(part.content_type, part.decode(raw, 1 << 20)) for part in leaf_parts(raw)]


def multipart(*parts: bytes, boundary: bytes = b"x", end: bytes = b"--x--\r\n") -> bytes:
    head = b'Content-Type: multipart/mixed; boundary="' + boundary + b'"\r\n\r\npreamble\r\n'
    return head + b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + end


def test_a_plain_message_is_its_own_leaf() -> None:
    assert leaves(b"Subject: x\r\n\r\nbody\r\n") == [("text/plain", b"body\r\n")]


def test_parts_are_found_between_their_boundaries() -> None:
    raw = multipart(b"\r\none", b"Content-Type: TEXT/Html; charset=x\r\n\r\ntwo\r\n") + b"epilogue"
    assert leaves(raw) == [("text/plain", b"one"), ("text/html", b"two\r\n")]


def test_nested_parts_are_found_and_an_attached_message_is_one_leaf() -> None:
    inner = multipart(b"\r\none", b"\r\ntwo", boundary=b"y", end=b"--y--\r\n")
    raw = multipart(inner, b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nbody")
    assert leaves(raw) == [
        ("text/plain", b"one"),
        ("text/plain", b"two"),
        ("message/rfc822", b"Subject: x\r\n\r\nbody"),
    ]


def test_a_last_part_without_an_end_is_found() -> None:
    assert leaves(multipart(b"\r\none", end=b"")) == [("text/plain", b"one\r\n")]


def test_a_boundary_within_a_line_is_none() -> None:
    assert leaves(multipart(b"\r\na --x b")) == [("text/plain", b"a --x b")]


@pytest.mark.parametrize(
    ("encoding", "body", "decoded"),
    [
        (b"base64", b"Ym9k\r\neQ==\r\n", b"body"),
        (b"BASE64", b"Ym9keQ", b"bod"),  # cut off
        (b"base64", b"Ym9!keQ==", b"body"),
        (b"quoted-printable", b"b=6Fd=\r\ny\r\n", b"body\r\n"),
        (b"8bit", b"b\xc3\xb6dy", b"b\xc3\xb6dy"),
        (b"x-unknown", b"body", b"body"),
    ],
)
def test_a_transfer_encoding_is_undone(encoding: bytes, body: bytes, decoded: bytes) -> None:
    assert leaves(b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body) == [("text/plain", decoded)]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("Text/HTML; charset=utf-8", "text/html"),
        ("multipart/report ; report-type=x", "multipart/report"),
        ("text", "text/plain"),
        ("", "text/plain"),
        ("; charset=utf-8", "text/plain"),
    ],
)
def test_a_content_type_is_read(value: str, kind: str) -> None:
    assert content_type(value) == kind


def test_depth_and_number_of_parts_are_bounded() -> None:
    assert len(leaf_parts(multipart(*[b"\r\nx"] * 500))) <= 50
    nested = b"\r\nx"
    for depth in range(50):
        mark = b"b%d" % depth
        nested = multipart(nested, boundary=mark, end=b"--" + mark + b"--\r\n")
    assert len(leaf_parts(nested)) == 1


@pytest.mark.parametrize("piece", [b"--x\r\n", b"--x", b"\r\n--x", b"--x--\r\n", b"a", b"\r\n"])
def test_a_huge_hostile_message_is_read_in_little_time(piece: bytes) -> None:
    raw = multipart(piece * (2_000_000 // len(piece)))
    started = time.perf_counter()
    leaf_parts(raw)
    assert time.perf_counter() - started < 2.0


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"--x", b"--y", b"--", b"\r\n", b"Content-Type: multipart/a; boundary=y\r\n", b"a"]),
        max_size=25,
    )
)
def test_leaves_are_within_the_message_and_in_order(pieces: list[bytes]) -> None:
    raw = multipart(b"".join(pieces))
    at = 0
    for part in leaf_parts(raw):
        assert at <= part.start <= part.body_start <= part.end <= len(raw)
        at = part.end
