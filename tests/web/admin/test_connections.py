"""Refused connections: who was refused what before a message, in words, by peer, page by page."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient

from gateway.store import refused
from gateway.store.database import Database
from gateway.store.refused import RefusedSession
from tests.store.make import an_id
from tests.web.markup import Markup, read
from webui.pages.admin import connections

NOW = datetime.now(UTC)
PATH = "/admin/messages/connections"


def session(**changes: Any) -> RefusedSession:
    values: dict[str, Any] = {
        "id": an_id(),
        "started_at": NOW,
        "last_at": NOW,
        "listener": "inbound",
        "peer_ip": "192.0.2.7",
        "peer_name": "mail.sender.example",
        "helo": "sender.example",
        "tls": "",
        "refused_count": 1,
        "stage": "rcpt",
        "reason": "unknown_recipient",
        "reply": "550 5.1.1 No such recipient here",
        "mail_from": "eve@sender.example",
        "rcpt_to": "nobody@corp.example",
    }
    return RefusedSession(**(values | changes))


def show(client: TestClient, **query: str) -> Markup:
    answer = client.get(PATH, params=query)
    assert answer.status_code == 200
    return read(answer.text)


def test_without_refusals_it_says_so(client: TestClient) -> None:
    assert "No connection was refused anything." in show(client).text


def test_a_session_shows_peer_reason_and_the_words_it_was_told(client: TestClient, database: Database) -> None:
    refused.record(database, [session(refused_count=12)])
    text = show(client).text
    for words in (
        "192.0.2.7",
        "mail.sender.example, HELO sender.example, in clear",
        "No such recipient here unknown_recipient",
        "550 5.1.1 No such recipient here at RCPT, inbound listener",
        "eve@sender.example to nobody@corp.example 12",
    ):
        assert words in text


def test_the_most_frequent_peers_come_first(client: TestClient, database: Database) -> None:
    refused.record(database, [session(), session(peer_ip="192.0.2.8", refused_count=50, reason="relaying")])
    text = show(client).text
    assert "Most often" in text
    assert "192.0.2.8 Wanted to relay through us 1 50" in text
    assert text.index("192.0.2.8") < text.index("192.0.2.7")


def test_a_peer_has_its_own_list(client: TestClient, database: Database) -> None:
    refused.record(database, [session(), session(peer_ip="2001:db8::1"), session(peer_ip="192.0.2.8")])
    page = show(client, peer=" 2001:DB8:0::1 ")
    assert "2001:db8::1" in page.text
    assert "192.0.2." not in page.text
    assert "Nothing was refused to 192.0.2.99 before a message." in show(client, peer="192.0.2.99").text


@pytest.mark.parametrize("peer", ["sender.example", "192.0.2", "<script>", "‮"])
def test_what_is_no_address_is_told_at_its_field(client: TestClient, database: Database, peer: str) -> None:
    refused.record(database, [session()])
    page = show(client, peer=peer)
    assert "Error: Write an IP address, for example 192.0.2.7." in page.text
    assert page.title.startswith("Error: ")
    assert "HELO" not in page.text


def test_older_ones_come_page_by_page(client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PAGE_ROWS", 2)
    helos = [f"h{number}.example" for number in range(5)]
    refused.record(
        database, [session(helo=helo, started_at=NOW - timedelta(seconds=at)) for at, helo in enumerate(helos)]
    )
    answer = client.get(PATH)
    seen: list[str] = []
    while True:
        page = read(answer.text)
        seen += [helo for helo in helos if f"HELO {helo}" in page.text]
        older = next((link for link in page.links if "before=" in link), None)
        if older is None:
            break
        answer = client.get(f"{PATH}?{urlsplit(older).query}")
    assert seen == helos


def test_what_cannot_be_read_as_a_time_begins_anew(client: TestClient, database: Database) -> None:
    refused.record(database, [session()])
    assert "192.0.2.7" in show(client, before="yesterday").text
    assert "Nothing is older." in show(client, before="2020-01-01").text


def test_hostile_greetings_are_text(client: TestClient, database: Database) -> None:
    refused.record(database, [session(helo="<b>\x1b]0;x\x07", mail_from="<i>@x", rcpt_to="\u202e@y")])
    html = client.get(PATH).text
    assert "HELO <b>␛]0;x␇" in read(html).text
    assert "\u202e" not in html
