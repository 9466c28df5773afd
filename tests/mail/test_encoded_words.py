import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspection.words import decode_words
from gateway.mail.encoded_words import encoded


@pytest.mark.parametrize(("text", "written"), [("Hello", "Hello"), ("", ""), ("bär", "=?utf-8?B?YsOkcg==?=")])
def test_ascii_stays_and_the_rest_is_encoded(text: str, written: str) -> None:
    assert encoded(text) == written


@given(st.text(st.characters(min_codepoint=0xA0, exclude_categories=["Cs", "Cc"]), min_size=1, max_size=300))
def test_what_is_written_is_read_again_in_words_that_are_short_enough(text: str) -> None:
    written = encoded(text)
    assert decode_words(written) == text
    assert all(len(word) <= 75 for word in written.split(" "))  # RFC 2047 section 2
