"""Re-encoding to 7 bits keeps what the message says; what must not be changed is refused."""

import email
import email.message
import email.policy
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transforms.seven_bit import CannotConvert, seven_bit

TEXT = "Grüße aus Köln\r\n"


def part(*fields: str, body: bytes) -> bytes:
    return "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n" + body


def multipart(kind: str, *parts: bytes, boundary: str = "edge") -> bytes:
    opening = f"MIME-Version: 1.0\r\nContent-Type: multipart/{kind}; boundary={boundary}\r\n".encode()
    mark = b"--" + boundary.strip('"').encode()
    return opening + b"\r\n" + b"".join(mark + b"\r\n" + one + b"\r\n" for one in parts) + mark + b"--\r\n"


def leaves(raw: bytes) -> list[bytes]:
    """Each leaf's decoded octets, by the standard library."""
    message = email.message_from_bytes(raw)
    return [leaf.get_payload(decode=True) for leaf in message.walk() if not leaf.is_multipart()]


def test_text_becomes_quoted_printable() -> None:
    raw = part("Subject: x", "Content-Type: text/plain; charset=utf-8", "MIME-Version: 1.0", body=TEXT.encode())
    assert seven_bit(raw) == part(
        "Subject: x",
        "Content-Type: text/plain; charset=utf-8",
        "MIME-Version: 1.0",
        "Content-Transfer-Encoding: quoted-printable",
        body=b"Gr=C3=BC=C3=9Fe aus K=C3=B6ln\r\n",
    )


@pytest.mark.parametrize("encoding", ["8bit", "8BIT", "binary", "7bit"])
def test_the_encoding_field_is_replaced(encoding: str) -> None:
    raw = part(
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        f"content-transfer-encoding: {encoding}",
        "Subject: x",
        body=TEXT.encode(),
    )
    converted = seven_bit(raw)
    assert email.message_from_bytes(converted).get_all("content-transfer-encoding") == ["quoted-printable"]
    assert leaves(converted) == [TEXT.encode()]


def test_a_message_without_mime_says_that_its_characters_are_unknown() -> None:
    converted = email.message_from_bytes(seven_bit(part("Subject: x", body=b"caf\xe9\r\n")))
    assert (converted["mime-version"], converted["content-type"]) == ("1.0", "text/plain; charset=unknown-8bit")


def test_other_types_become_base64() -> None:
    octets = bytes(range(256)).replace(b"\r", b"").replace(b"\n", b"") * 3
    raw = part(
        "MIME-Version: 1.0", "Content-Type: application/x-thing", "Content-Transfer-Encoding: binary", body=octets
    )
    converted = seven_bit(raw)
    assert leaves(converted) == [octets]
    assert max(map(len, converted.split(b"\r\n"))) <= 78


def test_seven_bit_parts_stay_octet_for_octet() -> None:
    plain = part("Content-Type: text/plain", body=b"plain   \r\n=41\r\n")
    attached = part("Content-Type: image/png", "Content-Transfer-Encoding: base64", body=b"aGVsbG8=\r\n")
    eight = part("Content-Type: text/html; charset=utf-8", body=TEXT.encode())
    converted = seven_bit(multipart("mixed", plain, eight, attached))
    assert plain in converted
    assert attached in converted
    assert converted.isascii()
    assert leaves(converted)[1] == TEXT.encode().removesuffix(b"\r\n") + b"\r\n"


def test_a_message_of_seven_bits_is_not_touched() -> None:
    raw = multipart("signed", part("Content-Type: text/plain", body=b"x\r\n"))
    assert seven_bit(raw) == raw


def test_nested_parts_and_attached_messages_are_converted() -> None:
    inner = part("Subject: inner", "Content-Type: text/plain; charset=utf-8", body=TEXT.encode())
    attached = part("Content-Type: message/rfc822", "Content-Transfer-Encoding: 8bit", body=inner)
    digest = multipart("digest", part("X-Nothing: 1", body=inner), boundary="inside")
    converted = seven_bit(multipart("mixed", attached, digest))
    assert converted.isascii()
    assert [leaf.strip() for leaf in leaves(converted)] == [TEXT.strip().encode()] * 2
    assert converted.count(b"Content-Transfer-Encoding: 7bit\r\n") == 4


def test_what_nobody_reads_between_parts_is_made_ascii() -> None:
    raw = part(
        "MIME-Version: 1.0",
        "Content-Type: multipart/mixed; boundary=edge",
        body=b"pr\xe9amble\r\n--edge \t\r\n\r\nplain\r\n--edge--\r\n\xe9pilogue\r\n",
    )
    converted = seven_bit(raw)
    assert converted.endswith(b"pr?amble\r\n--edge \t\r\n\r\nplain\r\n--edge--\r\n?pilogue\r\n")


@pytest.mark.parametrize("kind", ["signed", "encrypted"])
def test_what_is_sealed_is_refused(kind: str) -> None:
    with pytest.raises(CannotConvert, match="must not be changed"):
        seven_bit(multipart("mixed", multipart(kind, part(body=TEXT.encode()), boundary="inside")))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (part("Content-Transfer-Encoding: base64", body=b"\xff\xff"), "under the encoding 'base64'"),
        (part("Content-Transfer-Encoding: x-uue", body=b"\xff\xff"), "under the encoding 'x-uue'"),
        (part("Content-Type: multipart/mixed", body=b"\xff"), "boundary"),
        (part("Content-Type: multipart/mixed; boundary=ü", body=b"\xff"), "boundary"),
        (part("Content-Type: message/delivery-status", body=b"\xff"), "must not be encoded"),
        (part("Content-Type: message/partial", body=b"\xff"), "must not be encoded"),
    ],
)
def test_what_cannot_be_said_in_seven_bits_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(CannotConvert, match=why):
        seven_bit(raw)


def test_depth_is_bounded() -> None:
    raw = part(body=TEXT.encode())
    for level in range(40):
        raw = multipart("mixed", raw, boundary=f"edge{level}x")
    with pytest.raises(CannotConvert, match="too many"):
        seven_bit(raw)


def test_the_number_of_parts_is_bounded() -> None:
    with pytest.raises(CannotConvert, match="too many"):
        seven_bit(multipart("mixed", *[part(body=b"\xff\r\n")] * 6000))


@pytest.mark.parametrize(
    "raw",
    [
        part("Content-Type: multipart/mixed; boundary=x", body=b"--x" * 700_000 + b"\xff"),
        part("Content-Type: multipart/mixed; boundary=x", body=b"\r\n--xy" * 400_000 + b"\xff"),
        part("Content-Type: text/plain", body=b"\xff" * 2_000_000),
        part("Content-Type: text/plain", body=b"\xff\r\n" * 700_000),
    ],
)
def test_hostile_bodies_take_linear_time(raw: bytes) -> None:
    started = time.process_time()
    assert seven_bit(raw)
    assert time.process_time() - started < 5


SAFE = st.text(st.characters(blacklist_characters="\r\n\0", blacklist_categories=("Cs",)), max_size=120)


@given(st.lists(SAFE, max_size=12))
def test_lines_of_any_text_come_back(lines: list[str]) -> None:
    body = "".join(line + "\r\n" for line in lines).encode()
    converted = seven_bit(part("MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", body=body))
    assert converted.isascii()
    assert leaves(converted) == [body]


@given(
    st.lists(st.sampled_from([b"--e", b"--e--", b"\r\n", b"--", b"\xff", b"a: b", b" ", b"Content-Type: multipart/x"]))
)
def test_what_is_converted_needs_no_converting(parts: list[bytes]) -> None:
    raw = part("Content-Type: multipart/mixed; boundary=e", body=b"".join(parts))
    try:
        converted = seven_bit(raw)
    except CannotConvert:
        return
    assert seven_bit(converted) == converted
