"""Bypass keys as strings: what is recognised as one, what is not, how it is taken out, and when it is good."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.document import KeyClass
from gateway.policy.keys import KeyState, candidates, digest_of, is_among, is_key, state_of, without
from tests import make

KEY = make.KEY
LENGTHS = frozenset({12})


def found_in(text: str) -> list[tuple[int, int]]:
    return [(one.start, one.end) for one in candidates(text, LENGTHS) if one.text == KEY]


@pytest.mark.parametrize(
    "text",
    [
        "Files for the web server FF9A022BC918",
        "FF9A022BC918",
        "ff9a022bc918",
        "Ff9a022bC918 files",
        "files (FF9A022BC918)",
        "[FF9A022BC918] files",
        '"FF9A022BC918"',
        "\u201eFF9A022BC918\u201c",
        "<FF9A022BC918>",
        "files FF9A022BC918.",
        "FF9A022BC918: files",
        "FF9A022BC918, files",
        "files/FF9A022BC918!",
        "key=FF9A022BC918",
        "_FF9A022BC918_",
        "FF9A-022B-C918",
        "ff9a-022b-c918.",
        "FF9A 022B C918",
        "FF9A02-2BC918",
        "FF-9A-02-2B-C9-18",
        "FF9A\u2011022B\u2011C918",
        "FF9A\u00a0022B\u00a0C918",
        "Invoice 2024 FF9A 022B C918 2025",
        "offer-FF9A-022B-C918",
        "Invoice-4711-FF9A022BC918",
        "FF9A02\t2BC918",
    ],
)
def test_a_key_is_recognised(text: str) -> None:
    assert found_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "FF9A022BC91",
        "FF9A022BC9180",
        "0FF9A022BC918",
        "FF9A022BC918FF9A022BC918",
        "xFF9A022BC918",
        "FF9A022BC918x",
        "FF9A022BC918\u00e4",
        "FF9A-022B-C918-00FF",
        "00FF-FF9A-022B-C918",
        "FF9A-022B C918",
        "FF9A--022B--C918",
        "FF9A  022B  C918",
        "FF9A022-BC918",
        "FF9A_022B_C918",
        "FF9A.022B.C918",
        "F-F-9-A-0-2-2-B-C-9-1-8",
        "FF9A022BC91O",
    ],
)
def test_what_is_no_whole_key_is_none(text: str) -> None:
    assert found_in(text) == []


@pytest.mark.parametrize("text", ["202411240012", "deadbeefcafe", "2024 1124 0012", "dead beef cafe", "FF9A022BC918 "])
def test_only_letters_and_digits_together_are_like_a_key(text: str) -> None:
    assert [one.text for one in candidates(text, LENGTHS)] == ([KEY] if KEY in text else [])
    assert is_key(text) is False


def test_keys_of_several_lengths_are_looked_for_at_once() -> None:
    found = candidates("A1B2C3D4 and FF9A022BC918 and A1B2-C3D4", frozenset({8, 12}))
    assert [one.text for one in found] == ["A1B2C3D4", KEY, "A1B2C3D4"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Files for the web server FF9A022BC918", "Files for the web server"),
        ("FF9A022BC918 files", "files"),
        ("files (FF9A022BC918) for you", "files for you"),
        ("files [FF9A022BC918]", "files"),
        ('("FF9A022BC918") files', "files"),
        ("files FF9A022BC918, and more", "files, and more"),
        ("files FF9A022BC918.", "files."),
        ("FF9A022BC918: files", "files"),
        ("files - FF9A022BC918", "files"),
        ("Re: FF9A022BC918", "Re:"),
        ("FF9A022BC918", ""),
        ("a FF9A-022B-C918 b ff9a022bc918 c", "a b c"),
        ("a) FF9A022BC918 (b", "a) (b"),
    ],
)
def test_a_key_is_taken_out_with_what_was_around_it(text: str, left: str) -> None:
    assert without(text, found_in(text)) == left


@given(st.lists(st.sampled_from(["FF9A", "022B", "C918", KEY, " ", "-", "(", ")", "x", ". "]), max_size=40))
def test_what_is_left_has_no_key_that_was_found(parts: list[str]) -> None:
    text = "".join(parts)
    spans = found_in(text)
    left = without(text, spans)
    assert len(left) <= len(text)
    if spans and len(spans) == 1:
        start, end = spans[0]
        assert left.count(text[start:end]) < text.count(text[start:end])


@pytest.mark.parametrize("piece", ["ab ", "a1-", "a1 ", "a1b2c3d4e5f6 ", "a1b2c3d4e5f6", "(", "a1b2-"])
def test_a_long_hostile_text_takes_little_time(piece: str) -> None:
    text = (piece * 4096)[:4096]
    started = time.process_time()
    found = candidates(text, frozenset(range(8, 33)))
    without(text, [(one.start, one.end) for one in found])
    assert time.process_time() - started < 0.2
    assert len(found) <= 64


def test_the_hash_depends_on_the_key_it_is_made_with_and_not_on_the_case() -> None:
    assert digest_of(b"a" * 32, "ff9a022bc918") == digest_of(b"a" * 32, KEY) != digest_of(b"b" * 32, KEY)


BEGIN, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("at", "grace_days", "state"),
    [
        (BEGIN - INSTANT, 5, KeyState.WAITING),
        (BEGIN, 5, KeyState.VALID),
        (END - INSTANT, 5, KeyState.VALID),
        (END, 5, KeyState.GRACE),
        (END + timedelta(days=5) - INSTANT, 5, KeyState.GRACE),
        (END + timedelta(days=5), 5, KeyState.EXPIRED),
        (END, 0, KeyState.EXPIRED),
        (END + timedelta(days=31) - INSTANT, 31, KeyState.GRACE),
    ],
)
def test_a_monthly_key_is_good_in_its_month_and_some_days_after(at: datetime, grace_days: int, state: KeyState) -> None:
    classes = {"files": KeyClass(grace_days=grace_days)}
    assert state_of(make.bypass_key(), classes, at) is state


@pytest.mark.parametrize(
    ("replaced", "state"),
    [
        ({"period": ""}, KeyState.EXPIRED),  # no grace for a personal key
        ({"period": "", "expires_at": None}, KeyState.VALID),
        ({"key_class": "gone"}, KeyState.EXPIRED),
    ],
)
def test_other_keys_after_their_end(replaced: dict[str, Any], state: KeyState) -> None:
    assert state_of(make.bypass_key(**replaced), {"files": KeyClass()}, END) is state


@pytest.mark.parametrize(
    ("parties", "is_named"),
    [
        ((), True),
        (("partner.example",), True),
        (("ann@partner.example",), True),
        (("other@partner.example", "else.example"), False),
        (("example",), False),
        (("mail.partner.example",), False),
    ],
)
def test_addresses_and_domains_name_whom_a_key_is_for(parties: tuple[str, ...], is_named: bool) -> None:
    (author,) = make.addresses("Ann@Partner.Example")
    assert is_among(author, parties) is is_named
