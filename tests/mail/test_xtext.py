"""xtext and the codings of international addresses."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail.errors import Malformed
from gateway.mail.xtext import decode_utf8_address, decode_xtext, encode_utf8_address, encode_xtext


@pytest.mark.parametrize(
    ("text", "coded"),
    [
        ("QQ314159", "QQ314159"),
        ("rfc822;user@corp.example", "rfc822;user@corp.example"),
        ("a+b=c d", "a+2Bb+3Dc+20d"),
        ("", ""),
        ("Größe", "Gr+C3+B6+C3+9Fe"),
    ],
)
def test_xtext_is_written_and_read(text: str, coded: str) -> None:
    assert encode_xtext(text) == coded
    assert decode_xtext(coded) == text


@pytest.mark.parametrize(
    "coded",
    [
        "a b",
        "a=b",
        "a+",
        "a+2",
        "a+2b",  # RFC 3461 section 4: upper-case digits
        "a+GG",
        "Größe",
        "+0D+0ABcc:x",  # would become a header field of ours
        "+00",
        "+7F",
        "+FF",  # not UTF-8
        "a\n",
    ],
)
def test_what_is_no_xtext_of_printable_text_is_refused(coded: str) -> None:
    with pytest.raises(Malformed):
        decode_xtext(coded)


_printable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="".join(map(chr, [*range(32), 127]))))


@settings(max_examples=200, deadline=None)
@given(_printable)
def test_every_printable_text_comes_back(text: str) -> None:
    coded = encode_xtext(text)
    assert re.fullmatch(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*", coded)
    assert decode_xtext(coded) == text


@settings(max_examples=200, deadline=None)
@given(st.text("abAF09+=\\{}x \r\nü", max_size=20))
def test_decoding_gives_printable_text_or_refuses(coded: str) -> None:
    for decode in (decode_xtext, decode_utf8_address):
        try:
            text = decode(coded)
        except Malformed:
            continue
        assert not re.search(r"[\x00-\x1f\x7f]", text)


@pytest.mark.parametrize(
    ("address", "coded"),
    [
        ("user@corp.example", "user@corp.example"),
        ("jörg@bücher.example", "j\\x{F6}rg@b\\x{FC}cher.example"),
        ("a+b=c@corp.example", "a\\x{2B}b\\x{3D}c@corp.example"),
        ("\\@corp.example", "\\x{5C}@corp.example"),
        ("漢😀@corp.example", "\\x{6F22}\\x{1F600}@corp.example"),
    ],
)
def test_an_international_address_is_written_in_ascii(address: str, coded: str) -> None:
    assert encode_utf8_address(address) == coded
    assert decode_utf8_address(coded) == address


def test_an_international_address_may_also_stand_in_clear() -> None:
    assert decode_utf8_address("jörg@bücher.example") == "jörg@bücher.example"


@pytest.mark.parametrize("coded", ["a\\b@c.example", "\\x{D800}", "\\x{110000}", "\\x{0A}", "a b", "a+b", "\\x{f6}"])
def test_what_is_no_coded_address_is_refused(coded: str) -> None:
    with pytest.raises(Malformed):
        decode_utf8_address(coded)


@settings(max_examples=200, deadline=None)
@given(_printable)
def test_every_coded_address_comes_back(address: str) -> None:
    coded = encode_utf8_address(address)
    assert coded.isascii()
    assert decode_utf8_address(coded) == address
