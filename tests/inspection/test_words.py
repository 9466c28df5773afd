import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspection.words import codec_of, decode_words, encode_words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain text", "plain text"),
        ("=?utf-8?q?caf=C3=A9?=", "café"),
        ("=?UTF-8?B?Y2Fmw6k=?=", "café"),
        ("=?iso-8859-1?Q?caf=E9_au_lait?=", "café au lait"),
        ("=?utf-8*en?q?hello?=", "hello"),  # RFC 2231 section 5: language
        ("Re: =?utf-8?q?one?= two", "Re: one two"),
        ("=?utf-8?q?one?= =?utf-8?q?two?=", "onetwo"),  # RFC 2047 section 6.2
        ("=?utf-8?q?one?= =?iso-8859-1?q?two?=", "onetwo"),
        ("=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "é"),  # one character split between two words
        ("=?utf-8?b?RkY5?= =?utf-8?q?A02?=", "FF9A02"),
        ("=?utf-8?b?Y2Fmw6k?=", "café"),  # padding left out
        ("=?utf-8?q?=FF?=", "\ufffd"),
        ("=?utf-8?q?a=00=0D=0Ab?=", "a   b"),  # controls become blanks
        ("=?x-unknown?q?a?= =?utf-8?q?b?=", "=?x-unknown?q?a?= b"),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
        ("=?utf-8?q?a", "=?utf-8?q?a"),
    ],
)
def test_encoded_words_are_decoded(value: str, text: str) -> None:
    assert decode_words(value) == text


@pytest.mark.parametrize("charset", ["zlib", "rot13", "unicode_escape", "punycode", "idna", "undefined", "iso8859-12"])
def test_codecs_that_are_no_charsets_are_not_used(charset: str) -> None:
    assert codec_of(charset) == ""


def test_a_long_subject_of_encoded_words_is_decoded_in_bounds() -> None:
    text = decode_words("=?utf-8?q?a?= " * 50_000)
    assert text.startswith("a" * 500)
    assert text.count("=?utf-8?q?a?=") == 50_000 - 500


@given(st.lists(st.sampled_from(["=?", "?=", "utf-8", "utf-7", "iso-2022-jp", "?q?", "?B?", " ", "=C3", "+2AA-", "é"])))
def test_whatever_stands_there_gives_text_that_can_be_stored(pieces: list[str]) -> None:
    text = decode_words("".join(pieces))
    assert text.encode().decode() == text


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "",
        "gr\u00fcn",
        "\u7f8e" * 200,
        "x" * 200 + "\u00e9",
        "=?utf-8?q?not_decoded?=",
        "\U0001f600" * 30 + " end",
    ],
)
def test_encoded_words_are_short_whole_and_read_back(text: str) -> None:
    written = encode_words(text)
    assert written.isascii()
    assert all(len(word) <= 75 for word in written.split(" ") if "=?" in word)
    assert decode_words(written) == text
