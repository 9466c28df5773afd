"""Transfer encodings: the ordinary result first, and every other one that readers get."""

import base64
import binascii
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspection.transfer import decodings

DATA = b"MZ" + bytes(range(256)) + b"."
CODED = base64.encodebytes(DATA).replace(b"\n", b"\r\n")
SHORT = base64.b64encode(b"MZ data, more")  # with padding


def results(encoded: bytes, *encodings: str) -> list[tuple[bytes, bool]]:
    return list(decodings(encoded, encodings))


@given(st.binary(max_size=500))
def test_what_is_encoded_by_the_book_has_one_result(data: bytes) -> None:
    assert results(base64.encodebytes(data).replace(b"\n", b"\r\n"), "base64") == [(data, False)]
    assert results(data, "7bit") == [(data, False)]
    assert results(quopri.encodestring(data, quotetabs=True), "quoted-printable")[0][1] is False


@pytest.mark.parametrize(
    ("encoded", "data"),
    [
        (CODED.rstrip(b"\r\n="), DATA),  # no padding
        (SHORT.rstrip(b"="), b"MZ data, more"),
        (SHORT + b"\r\n" + SHORT, b"MZ data, more"),  # readers that stop at padding
        (SHORT + b"\r\n" + SHORT, b"MZ data, moreMZ data, more"),  # readers that go on
        (b"!".join(CODED[at : at + 7] for at in range(0, len(CODED), 7)), DATA),
        (b"Here it is.\r\n\r\n" + CODED, DATA),
        (b"hello there\r\n\r\n" + CODED + b"\r\nbye for now\r\n", DATA),
        (b"hello\r\n" + CODED.rstrip() + b"\r\n--abcd\r\n", b"\x85\xe9e" + DATA + b"i\xb7\x1d"),  # line by line
        (CODED + b"\r\n\xff\xfe\r\n" + CODED, DATA + DATA),
        (base64.urlsafe_b64encode(b"\xfb\xef\xff" * 20), b"\xfb\xef\xff" * 20),
        (b"MZ\x90 not encoded", b"MZ\x90 not encoded"),
        (b"QUJDR", b"ABC"),  # one letter too many
        (b"QUJDR", b"QUJDR"),
    ],
)
def test_damaged_base64_has_the_results_of_all_readers(encoded: bytes, data: bytes) -> None:
    found = results(encoded, "base64")
    assert data in [result for result, _ in found]
    assert all(is_odd for _, is_odd in found)
    assert len({result for result, _ in found}) == len(found)


@pytest.mark.parametrize(
    ("encoded", "data"),
    [
        (b"a=3D=\r\nb", [(b"a=b", False)]),
        (b"a=3d", [(b"a=", False)]),
        (b"a =\t \r\nb", [(b"a b", True), (b"a =\t \r\nb", True), (b"a \r\nb", True), (b"a =\r\nb", True)]),
        (b"a  \r\nb", [(b"a\r\nb", False), (b"a  \r\nb", False)]),
        (b"a=zz", [(b"a=zz", True), (b"azz", True)]),
    ],
)
def test_quoted_printable(encoded: bytes, data: list[tuple[bytes, bool]]) -> None:
    found = results(encoded, "quoted-printable")
    assert found[0] == data[0]
    assert set(found) <= set(data)


def uuencoded(data: bytes) -> bytes:
    lines = [binascii.b2a_uu(data[at : at + 45]) for at in range(0, len(data), 45)]
    return (b"begin 644 a.exe\n" + b"".join(lines) + b"`\nend\n").replace(b"\n", b"\r\n")


def yencoded(data: bytes) -> bytes:
    """Encode as yEnc 1.3 has it."""
    coded = bytearray()
    for octet in data:
        shifted = (octet + 42) % 256
        coded += b"=%c" % (shifted + 64) if shifted in b"\0\n\r=" else bytes([shifted])
    return b"=ybegin line=128 size=%d name=a.exe\r\n%b\r\n=yend size=%d\r\n" % (len(data), coded, len(data))


BINHEX = b"!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def binhexed(data: bytes, resource: bytes = b"") -> bytes:
    """Encode as RFC 1741 has it, with checksums of zero and no runs but those in `data`."""
    sizes = len(data).to_bytes(4) + len(resource).to_bytes(4)
    plain = b"\x05a.exe\0APPLabcd\0\0" + sizes + b"\0\0" + data + b"\0\0" + resource + b"\0\0"
    packed = plain.replace(b"\x90", b"\x90\0")
    letters = base64.b64encode(packed).rstrip(b"=").translate(bytes.maketrans(BASE64, BINHEX))
    return b"(This file must be converted with BinHex 4.0)\r\n\r\n:" + letters + b":\r\n"


@given(st.binary(min_size=1, max_size=300))
def test_older_encodings_give_their_file(data: bytes) -> None:
    assert results(uuencoded(data), "x-uuencode") == [(data, False)]
    assert results(yencoded(data), "x-yenc") == [(data, False)]
    assert results(binhexed(data), "x-binhex40") == [(data, False)]


def test_both_forks_of_a_binhex_file_are_files() -> None:
    assert [data for data, _ in results(binhexed(b"data", b"resource"), "x-binhex40")] == [b"data", b"resource"]


def test_runs_in_a_binhex_file_are_expanded() -> None:
    coded = binhexed(b"x" * 9).split(b":")
    letters = coded[1].translate(bytes.maketrans(BINHEX, BASE64))
    packed = base64.b64decode(letters + b"=" * (-len(letters) % 4)).replace(b"x" * 9, b"x\x90\x09")
    again = base64.b64encode(packed).rstrip(b"=").translate(bytes.maketrans(BASE64, BINHEX))
    assert results(b":" + again + b":", "x-binhex40") == [(b"x" * 9, False)]


@pytest.mark.parametrize("encoding", ["x-uuencode", "x-yenc", "x-binhex40"])
@given(data=st.binary(max_size=200))
def test_what_is_not_encoded_so_is_kept_or_read_without_failure(encoding: str, data: bytes) -> None:
    assert results(data, encoding)


def test_several_encodings_give_each_their_results_once() -> None:
    assert results(b"QUJD", "base64", "7bit", "8bit") == [(b"ABC", False), (b"QUJD", True)]


@given(st.binary(max_size=300))
def test_nothing_fails_on_any_octets(data: bytes) -> None:
    assert results(data, "base64", "quoted-printable", "other")
