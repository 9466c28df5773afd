"""How values are shown: sizes, times, outcomes, and text that came with mail."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from gateway.accepted import State
from gateway.verdict import Action
from webui import render
from webui.page import GROUPS, Page
from webui.render import ENVIRONMENT, OUTCOMES, ago, ascii_form, clock, sidebar, size, took, visible, worst

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)  # a Tuesday


@pytest.mark.parametrize(
    ("octets", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (4400, "4.4 kB"), (186_204, "186.2 kB"), (52_428_800, "52.4 MB")],
)
def test_size(octets: int, shown: str) -> None:
    assert size(octets) == shown


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (NOW - timedelta(seconds=20), "just now"),
        (NOW - timedelta(minutes=36), "36 min ago"),
        (NOW - timedelta(hours=2), "today 07:30"),
        (NOW - timedelta(hours=20), "yesterday 13:30"),
        (NOW - timedelta(days=3), "Sat 09:30"),
        (NOW - timedelta(days=7), "17 Nov"),
        (datetime(2025, 11, 19, tzinfo=UTC), "19 Nov 2025"),
        (NOW + timedelta(minutes=5), "today 09:35"),  # a clock that went back
        (NOW + timedelta(days=40), "3 Jan 2027"),
        ((NOW - timedelta(hours=2)).astimezone(timezone(timedelta(hours=5))), "today 07:30"),
    ],
)
def test_ago(moment: datetime, shown: str) -> None:
    assert ago(moment, NOW) == shown


def test_times_of_a_trace_have_milliseconds() -> None:
    assert clock(NOW + timedelta(microseconds=912_345)) == "09:30:00.912"
    assert [took(0.44), took(78.2), took(3100)] == ["0.4 ms", "78 ms", "3.1 s"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe, 価格 🙂", "Größe, 価格 🙂"),
        ("two\r\nlines", "two␍␊lines"),
        ("\x00\x1b[31mred\x7f", "␀␛[31mred␡"),
        ("\x9b31m", "[U+009B]31m"),
        ("invoice\u202egnp.exe", "invoice[U+202E]gnp.exe"),
        ("pay\u200bpal", "pay[U+200B]pal"),
        ("no\u00a0break", "no break"),
        ("\ud800", "[U+D800]"),
    ],
)
def test_nothing_hides_in_foreign_text(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("address", "other"),
    [
        ("a@corp.example", ""),
        ("a@bücher.example", "xn--bcher-kva.example"),
        ("a@xn--bcher-kva.example", "bücher.example"),
        ("a@xn--zzzzzz99999.example", ""),
        ("a@" + "ü" * 80 + ".example", ""),
        ("", ""),
    ],
)
def test_an_international_domain_has_its_other_form_beside_it(address: str, other: str) -> None:
    assert ascii_form(address) == other


def test_every_state_and_action_has_colour_word_and_icon() -> None:
    assert {str(one) for one in (*State, *Action)} <= set(OUTCOMES)
    icons = (render.TEMPLATES.parent / "static/icons.svg").read_text()
    assert all(f'id="{icon}"' in icons for _, _, icon in OUTCOMES.values())


def test_the_worst_of_some_outcomes_gives_the_colour() -> None:
    assert worst(["delivered", "queued", "held", "reject"]) == "refused"
    assert worst(["delivered", "queued"]) == "off"
    assert worst(["delivered"]) == "delivered"
    assert worst([]) == "off"


def test_what_is_put_into_a_template_is_escaped() -> None:
    template = ENVIRONMENT.from_string("<p title='{{ text }}'>{{ text|visible }}</p>")
    assert template.render(text="<script>'\"&") == (
        "<p title='&lt;script&gt;&#39;&#34;&amp;'>&lt;script&gt;&#39;&#34;&amp;</p>"
    )


def test_the_sidebar_has_no_empty_heading() -> None:
    one, two = Page("/admin/a", "A", GROUPS[0], "mail"), Page("/admin/b", "B", GROUPS[3], "mail")
    assert sidebar([two, one]) == [(GROUPS[0], [one]), (GROUPS[3], [two])]


def test_a_page_holds_those_below_it() -> None:
    one = Page("/admin/messages", "Messages", GROUPS[0], "mail")
    assert [one.holds(path) for path in ("/admin/messages", "/admin/messages/X", "/admin/messages2", "/")] == [
        True,
        True,
        False,
        False,
    ]
