"""Domain names as people type them and as they are compared."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail.domain import ascii_domain, domain_of_text, parent_domains
from gateway.mail.errors import Malformed


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("corp.example", "corp.example"),
        (" Corp.EXAMPLE. ", "corp.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),  # IDNA 2008, not "strasse"
        ("\uff43\uff4f\uff52\uff50\uff0e\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45", "corp.example"),
        ("例え。テスト.example", "xn--r8jz45g.xn--zckzah.example"),
        ("test", "test"),
    ],
)
def test_a_typed_domain_is_normalised(text: str, domain: str) -> None:
    assert domain_of_text(text) == domain


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..example",
        ".example",
        "user@corp.example",
        "*.example",
        "a b.example",
        "a_b.example",
        "-a.example",
        "a-.example",
        "192.0.2.1",
        "a" * 64 + ".example",
        "a." * 130 + "example",
        "ü" * 60 + ".example",
        "☃.example",
        "a\u202eb.example",
        "\u0300a.example",
        "a\u200db.example",  # a joiner without a virama before it
        "http://corp.example/",
        "ü" * 5000,
    ],
)
def test_what_is_no_domain_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic needs a ValueError; the words are for people
        domain_of_text(text)


def test_parents_come_nearest_first() -> None:
    assert list(parent_domains("a.b.corp.example")) == ["b.corp.example", "corp.example", "example"]
    assert list(parent_domains("example")) == []


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing(text: str) -> None:
    try:
        domain = domain_of_text(text)
    except Malformed:
        return
    assert domain.isascii()
    assert domain_of_text(domain) == domain


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("abcdefxyzäöüßéèñçåøβδжш例え漢字"), min_size=1, max_size=12))
def test_an_a_label_stands_for_its_u_label(label: str) -> None:
    encoded = ascii_domain(label)
    assert encoded == label or encoded.removeprefix("xn--").encode().decode("punycode") == label
