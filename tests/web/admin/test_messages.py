"""The list of messages: what is in a row, what a search finds, and the way to older ones."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient

from gateway.accepted import State
from gateway.mail.envelope import Direction
from gateway.mail.reference import reference
from gateway.policy.document import Document
from gateway.store import days, policies
from gateway.store.database import Database
from gateway.verdict import Case
from tests import make
from tests.judged import keep
from tests.store.make import accepted, item, settled, store
from tests.web.markup import Markup, read
from webui.pages.admin import messages

NOW = datetime.now(UTC)
STRICT = make.policy(filters=make.ALL_FILTERS)
OBSERVING = make.policy(filters=make.ALL_FILTERS, observe=True)
PATH = "/admin/messages"


def case(subject: str = "Hello", **changes: Any) -> Case:
    return make.case(make.message(subject=subject), now=NOW, **changes)


def show(client: TestClient, query: str = "") -> Markup:
    answer = client.get(PATH + query)
    assert answer.status_code == 200
    return read(answer.text)


def subjects(page: Markup) -> list[str]:
    """Return what the rows' links lead to."""
    return [link.rpartition("/")[2] for link in page.links if link.startswith(f"{PATH}/0")]


def test_without_mail_it_says_where_it_listens(client: TestClient) -> None:
    page = show(client)
    assert "No mail yet." in page.text
    assert "127.0.0.1:2525 (inbound)" in page.text


def test_a_row_has_outcome_and_reason_in_words(client: TestClient, database: Database) -> None:
    keep(database, case("Offer"), STRICT)
    page = show(client)
    for words in ("Offer", "ann@partner.example", "bob@corp.example", "Refused", "Not on the whitelist", "in clear"):
        assert words in page.text
    assert "business_only:unknown-sender" in page.text


def test_the_envelope_sender_shows_where_it_differs_from_the_author(client: TestClient, database: Database) -> None:
    keep(database, case(envelope=make.envelope("bounces@lists.example")))
    assert "envelope bounces@lists.example" in show(client).text
    keep(database, case(envelope=make.envelope("")))
    assert "envelope <>" in show(client).text


def test_every_outcome_of_a_message_shows(client: TestClient, database: Database) -> None:
    two = make.envelope("ann@partner.example", make.recipient(), make.recipient("eve@corp.example"))
    keep(database, case(envelope=two), results={"eve@corp.example": {"state": State.FAILED, "reply": "550 No"}})
    assert "Failed Waiting" in show(client).text


def test_observe_mode_says_what_enforcing_would_do(client: TestClient, database: Database) -> None:
    policies.publish(database, Document(observe=True), by="ann", comment="", now=NOW)
    keep(database, case(), OBSERVING, results={"bob@corp.example": {}})
    page = show(client)
    assert "Observe mode: nothing is blocked" in page.text
    assert "Delivered Would be refused" in page.text
    assert "Not on the whitelist" in page.text


def test_newest_come_first_and_older_ones_by_page(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "PAGE_ROWS", 2)
    ids = [keep(database, make.case(now=NOW + timedelta(seconds=at))) for at in range(5)][::-1]
    page = show(client, "?direction=inbound")
    assert subjects(page) == ids[:2]
    seen = ids[:2]
    while older := next((link for link in page.links if "before=" in link), None):
        assert parse_qs(urlsplit(older).query)["direction"] == ["inbound"]
        page = show(client, f"?{urlsplit(older).query}")
        seen += subjects(page)
        assert f"{PATH}?direction=inbound" in page.links
    assert seen == ids


def test_past_the_oldest_there_is_nothing(client: TestClient, database: Database) -> None:
    keep(database, case())
    assert "Nothing is older." in show(client, "?before=0").text


def test_a_reference_leads_to_its_message(client: TestClient, database: Database) -> None:
    id = keep(database, case())
    for typed in (reference(id), reference(id).lower(), f" {id[-8:]} ", id):
        answer = client.get(PATH, params={"q": typed}, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{PATH}/{id}")


@pytest.mark.parametrize(
    "q",
    [
        "Quarterly",
        "quarterly FIGURES",
        "ann@partner.example",
        "partner.example",
        "bob@",
        "<m1@partner.example>",
        "192.0.2.10",
    ],
)
def test_a_search_finds_by_subject_address_domain_message_id_and_peer(
    client: TestClient, database: Database, q: str
) -> None:
    id = keep(database, case("Quarterly figures"))
    other = make.message(from_="eve@other.example", message_id="<x@other.example>")
    keep(
        database,
        make.case(
            other,
            envelope=make.envelope("eve@other.example", make.recipient("carl@corp.example")),
            session=make.session(peer_ip="192.0.2.99"),
            now=NOW,
        ),
    )
    answer = client.get(PATH, params={"q": q})
    assert subjects(read(answer.text)) == [id]


@pytest.mark.parametrize("q", ["%", "_", "'", '"; DROP TABLE messages', "\\", "\x00", "<script>", "‮", "a" * 5000])
def test_odd_searches_find_nothing_and_break_nothing(client: TestClient, database: Database, q: str) -> None:
    keep(database, case())
    answer = client.get(PATH, params={"q": q})
    assert answer.status_code == 200
    assert subjects(read(answer.text)) == []


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("outcome=refused", 1),
        ("outcome=waiting", 1),
        ("outcome=delivered", 1),
        ("outcome=held", 0),
        ("direction=outbound", 1),
        ("direction=inbound&outcome=refused", 1),
        ("hours=1", 2),
        ("outcome=nonsense&direction=up&hours=9999999", 3),
    ],
)
def test_filters_leave_what_was_asked_for(client: TestClient, database: Database, query: str, count: int) -> None:
    keep(database, case(), STRICT)
    keep(database, case(), results={"bob@corp.example": {}})
    keep(
        database,
        make.case(
            envelope=make.envelope("bob@corp.example", make.recipient("ann@partner.example", Direction.OUTBOUND)),
            now=NOW - timedelta(days=3),
        ),
    )
    assert len(subjects(show(client, f"?{query}"))) == count


def test_each_filter_can_be_taken_away(client: TestClient, database: Database) -> None:
    page = show(client, "?q=offer&outcome=refused&hours=24")
    assert "contains offer outcome Refused in the last 24 hours" in page.text
    assert {f"{PATH}?outcome=refused&hours=24", f"{PATH}?q=offer&hours=24", f"{PATH}?q=offer&outcome=refused"} <= set(
        page.links
    )


def test_when_nothing_matches_it_names_the_filter_to_drop(client: TestClient, database: Database) -> None:
    keep(database, case("Offer"), STRICT)
    page = show(client, "?q=offer&outcome=held")
    assert "Nothing matches. Without outcome Held there is 1: show it" in page.text
    assert f"{PATH}?q=offer" in page.links
    assert "Nothing matches. Show all messages" in show(client, "?q=nowhere").text


@pytest.mark.parametrize(
    "subject",
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}", "</title><h1>x", "&lt;b&gt;"],
)
def test_hostile_subjects_are_text(client: TestClient, database: Database, subject: str) -> None:
    id = keep(database, case(subject))
    for path in (PATH, f"{PATH}?q=x", f"{PATH}/{id}"):
        page = read(client.get(path).text)
        assert subject in page.text or path.endswith("?q=x")


def test_a_trace_of_another_release_breaks_no_list(client: TestClient, database: Database) -> None:
    one = accepted()
    days.put(database, days.TRACES, [(one.id, b"\xc1")])
    store(database, item(one, settled(one, State.DELIVERED)))
    assert subjects(show(client)) == [one.id]


def test_many_recipients_are_a_number(client: TestClient, database: Database) -> None:
    many = [make.recipient(f"user{number}@corp.example") for number in range(40)]
    keep(database, case(envelope=make.envelope("ann@partner.example", *many)))
    page = show(client)
    assert "and 37 more" in page.text
    assert "user9@" not in page.text
