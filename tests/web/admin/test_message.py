"""One message: the decision first, then what each filter saw, what happened, and what was changed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from gateway.accepted import State
from gateway.judge import questions
from gateway.mail.envelope import Direction, ListenerKind, Tls
from gateway.mail.reference import reference
from gateway.policy.document import Document
from gateway.store import days, messages, policies, relay_sources, whitelist
from gateway.store.database import Database
from gateway.verdict import Unknown
from tests import make
from tests.judged import keep
from tests.store.make import accepted, item, settled, store
from tests.web.markup import Markup, read

NOW = datetime(2026, 11, 24, 9, 30, 1, tzinfo=UTC)
STRICT = make.policy(filters=make.ALL_FILTERS)


def case(subject: str = "Hello", **changes: Any) -> Any:
    return make.case(make.message(subject=subject), now=NOW, **changes)


def show(client: TestClient, id: str) -> Markup:
    answer = client.get(f"/admin/messages/{id}")
    assert answer.status_code == 200
    return read(answer.text)


def test_a_refused_message_says_why_and_what_the_sender_was_told(client: TestClient, database: Database) -> None:
    document = Document(portal_url="https://portal.corp.example")
    for _ in range(STRICT.version):  # the page looks up the version that judged
        policies.publish(database, document, by="ann", comment="", now=NOW)
    id = keep(database, case("Offer"), STRICT)
    page = show(client, reference(id))
    assert page.title == f"{reference(id)}: Offer · Gatepost"
    assert page.headings == ["Offer"]
    assert "Refused for bob@corp.example: ann@partner.example is not listed" in page.text
    assert "Business only" in page.text
    assert "Refused decided" in page.text
    told = f"550 5.7.1 Sender is not a known business partner (ref {reference(id)}) https://portal.corp.example"
    assert told in page.text


def test_a_delivered_message_shows_its_way(client: TestClient, database: Database) -> None:
    session = make.session(tls=Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384"))
    id = keep(database, case(session=session), results={"bob@corp.example": {"tls": "TLSv1.3"}})
    page = show(client, id)
    assert "Delivered to bob@corp.example: no filter objected." in page.text
    for words in (
        "09:30:00.000 mail.partner.example connected to the inbound listener",
        "192.0.2.10, HELO mail.partner.example, TLSv1.3, TLS_AES_256_GCM_SHA384",
        "09:30:01.000 Received for 1 recipient",
        "MAIL FROM:<ann@partner.example>",
        "Judged by policy 7: 0 findings 0.4 ms",
        f"Taken: durable on disk, then answered 250 2.0.0 Message accepted, ref {reference(id)}",
        "09:30:02.000 Delivered to bob@corp.example exch1.corp.example [198.51.100.4]:25: 250 2.0.0 Taken (TLSv1.3)",
    ):
        assert words in page.text


def test_a_waiting_message_says_what_it_waits_for_and_until_when(client: TestClient, database: Database) -> None:
    result = {
        "state": State.QUEUED,
        "reply": "450 4.2.0 Greylisted, try again",
        "attempts": 2,
        "due_at": NOW + timedelta(minutes=15),
    }
    id = keep(database, case(), results={"bob@corp.example": result})
    page = show(client, id)
    assert "Waiting for bob@corp.example: 450 4.2.0 Greylisted, try again." in page.text
    assert "Waiting for bob@corp.example, attempt 2" in page.text
    assert "2026-11-24 09:45:01 Attempt 3 is due for bob@corp.example" in page.text
    assert "2026-11-29 09:30:01 Given up if it is not delivered by then" in page.text


def test_a_message_with_two_outcomes_shows_both(client: TestClient, database: Database) -> None:
    envelope = make.envelope("ann@partner.example", make.recipient("postmaster@corp.example"), make.recipient())
    id = keep(database, case(envelope=envelope), STRICT, results={"postmaster@corp.example": {}})
    page = show(client, id)
    assert "Held for bob@corp.example: ann@partner.example is not listed" in page.text
    assert "Delivered to postmaster@corp.example: no filter objected" in page.text
    assert "For bob@corp.example" in page.text
    assert "not for them" in page.text


def test_observe_mode_shows_what_would_have_decided(client: TestClient, database: Database) -> None:
    policy = make.policy(filters=make.ALL_FILTERS, observe=True)
    id = keep(database, case(), policy, results={"bob@corp.example": {}})
    page = show(client, id)
    assert "Delivered to bob@corp.example: what objected is not enforced." in page.text
    assert "If enforced it would have been refused: ann@partner.example is not listed" in page.text
    assert "Would be refused not enforced" in page.text


def test_changed_lines_show_before_and_after(client: TestClient, database: Database) -> None:
    raw = make.message(("X-Mailer", "Corp Mailer 16"), from_="bob@corp.example", message_id="<1@pc7.corp.local>")
    id = keep(database, make.outbound(raw), STRICT, raw=raw)
    page = show(client, id)
    assert "Removed X-Mailer: Corp Mailer 16" in page.text
    assert "Removed Message-ID: <1@pc7.corp.local>" in page.text
    assert "Added Message-ID: <" in page.text
    assert "header changed" in page.text


def test_the_header_is_shown_as_it_came(client: TestClient, database: Database) -> None:
    raw = make.message(("X-Odd", "<b>bold</b>\x1b[31m"))
    page = show(client, keep(database, make.case(raw, now=NOW), raw=raw))
    assert "Header as received: 6 fields, none of them changed" in page.text
    assert "X-Odd <b>bold</b>␛[31m" in page.text


def test_the_relay_source_is_named_with_its_owner(client: TestClient, database: Database) -> None:
    entry = relay_sources.add(database, make.relay_source(id=""), by="ann", now=NOW)
    session = make.session(listener=ListenerKind.OUTBOUND, peer_ip="10.1.2.3", source=entry.id)
    to = make.recipient("ann@partner.example", Direction.OUTBOUND)
    id = keep(database, case(session=session, envelope=make.envelope("bob@corp.example", to)))
    assert "10.1.2.0/24, owned by dave: web shop" in show(client, id).text
    relay_sources.end(database, entry.id, by="ann", now=NOW)
    assert "web shop, ended 2026-11-24" in show(client, id).text


def test_the_entry_that_let_a_message_in_is_named(client: TestClient, database: Database) -> None:
    entry = whitelist.add(database, make.partner(id=""), by="ann", now=NOW)
    policy = make.policy(entry, filters=make.ALL_FILTERS)
    page = show(client, keep(database, case(), policy))
    assert "Entry: partner.example, owned by carol: supplier" in page.text


def test_what_was_not_asked_or_not_answered_is_told(client: TestClient, database: Database) -> None:
    raw = make.message(("In-Reply-To", "<ours@corp.example>"))
    bounce = make.case(raw, envelope=make.envelope(""), now=NOW)
    policy = make.policy(filters={"business_only": {}})
    [asked] = questions(bounce, policy)
    id = keep(database, bounce, policy, answers={asked: Unknown("database away")}, raw=raw)
    page = show(client, id)
    assert "Deferred for bob@corp.example: cannot tell whether it answers our mail: database away" in page.text
    assert "Did we send <ours@corp.example>? Unknown: database away" in page.text
    assert "451 4.3.0 Message could not be checked, try again later" in page.text


def test_a_message_past_its_facts_keeps_its_decision(client: TestClient, database: Database) -> None:
    one = accepted(action="reject", reason="business_only:unknown-sender")
    store(database, item(one))
    page = show(client, one.id)
    assert "Refused for ada@corp.example: Not on the whitelist; the facts are past their retention." in page.text
    assert "The facts of this message are past their retention; the decision is kept." in page.text


def test_our_own_notice_is_no_message_without_facts(client: TestClient, database: Database) -> None:
    one = accepted(is_notice=True, reason="notice:failed", subject="Notice (failed): Offer")
    store(database, item(one, settled(one, State.DELIVERED)))
    page = show(client, one.id)
    assert "Delivered to ada@corp.example: Our notice: not delivered." in page.text
    assert "retention" not in page.text


def test_facts_that_another_release_wrote_are_told(client: TestClient, database: Database) -> None:
    one = accepted()
    store(database, item(one))
    days.put(database, days.TRACES, [(one.id, b"\x81\xa1x\x01")])
    assert "written by another release" in show(client, one.id).text


def test_an_undeliverable_message_says_what_the_other_side_said(client: TestClient, database: Database) -> None:
    id = keep(database, case(), results={"bob@corp.example": {"state": State.HELD, "reply": "550 5.1.1 No such user"}})
    page = show(client, id)
    assert "Held for bob@corp.example: 550 5.1.1 No such user." in page.text


def test_a_reference_of_two_messages_shows_the_newest_and_names_the_other(
    client: TestClient, database: Database
) -> None:
    first = keep(database, case("First"), id="01AAAAAAAAAAAAAAAAAAAAAAAA")
    second = keep(database, case("Second"), id="01BAAAAAAAAAAAAAAAAAAAAAAA")
    page = show(client, "aaaa-aaaa")
    assert page.headings == ["Second"]
    assert "belongs to 2 messages" in page.text
    assert f"/admin/messages/{first}" in page.links
    assert f"/admin/messages/{second}" not in page.links


@pytest.mark.parametrize("id", ["7KQ2-M9PX", "nonsense", "01AAAAAAAAAAAAAAAAAAAAAAAA", "%00", "‮", "a" * 300])
def test_an_unknown_message_is_not_there(client: TestClient, id: str) -> None:
    answer = client.get(f"/admin/messages/{id}")
    assert answer.status_code == 404
    assert read(answer.text).headings == ["No such message"]


HOSTILE = "<img src=x onerror=alert(1)>\u202e\x1b[2J"


def test_whatever_came_with_the_mail_is_text(client: TestClient, database: Database) -> None:
    raw = make.message((f"X-{HOSTILE[:4]}", HOSTILE), subject=HOSTILE, from_=f'"{HOSTILE}" <ann@partner.example>')
    session = make.session(helo=HOSTILE, peer_name=HOSTILE)
    result = {"state": State.FAILED, "reply": f"550 {HOSTILE}", "host": HOSTILE}
    id = keep(database, make.case(raw, session=session, now=NOW), results={"bob@corp.example": result}, raw=raw)
    html = client.get(f"/admin/messages/{id}").text
    page = read(html)
    assert "<img" not in html
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "550 <img src=x onerror=alert(1)>[U+202E]␛[2J" in page.text
    assert messages.find(database, id)
