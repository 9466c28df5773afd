"""S30, going on: what the next hop says counts for each recipient, and nothing is lost whatever it does."""

import ssl
from typing import Any

import pytest

from gateway.accepted import State
from gateway.store import held
from tests import make
from tests.flows.conftest import Start
from tests.flows.edge import Edge, arrival, arrivals
from tests.flows.gateway import Gateway, document, hop_at, server
from tests.flows.peer import BOB, Answer
from tests.nameserver import Nameserver
from tests.nexthop import EXTENSIONS, Does, NextHop
from tests.product import free_port, wait_until
from tests.served import tls_context

DELIVERED, QUEUED, HELD = State.DELIVERED, State.QUEUED, State.HELD
ASCII_BODY = make.message(from_=BOB)


@pytest.fixture(scope="module")
def hops(edge: Edge) -> dict[str, NextHop]:
    """A mail server of the world for each of these domains, by the first label."""
    plain = [one for one in EXTENSIONS if one not in ("8BITMIME", "SMTPUTF8", "DSN")]
    return {
        "second": edge.hop(name="second.example"),
        "busy": edge.hop(name="busy.example"),
        "secure": edge.hop(name="secure.example", tls=tls_context()),
        "broken": edge.hop(name="broken.example", tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), handshakes=False),
        "plain": edge.hop(name="plain.example", extensions=plain),
        "small": edge.hop(name="small.example", extensions=("PIPELINING", "SIZE 2000")),
        "old": edge.hop(name="old.example", extensions=()),
    }


ZONE = {
    # The first host is dead: nobody listens there.
    ("mx.example", "MX"): ["10 dead.example.", "20 alive.example."],
    ("dead.example", "A"): ["127.0.0.2"],
    ("alive.example", "A"): ["127.0.0.1"],
}


@pytest.fixture(scope="module")
def gateway(
    arrange: Start, inside: NextHop, outside: NextHop, hops: dict[str, NextHop], nameserver: Nameserver
) -> Gateway:
    nameserver.zone |= ZONE
    closed = {"host": "127.0.0.1", "port": free_port()}
    hops["busy"].on("CONNECT", "421 4.3.2 Too busy")
    routes: dict[str, Any] = {name: {"hops": [hop_at(hop)]} for name, hop in hops.items()}
    routes |= {
        "failover": {"hops": [closed, hop_at(hops["busy"]), hop_at(hops["second"])]},
        "by-mx": {"hops": [{**hop_at(hops["second"], "mx.example"), "mx": True}]},
        "must-secure": {"hops": [hop_at(hops["secure"])], "tls": "required"},
        "must-plain": {"hops": [hop_at(hops["plain"])], "tls": "required"},
    }
    by_domain = {f"{name}.example": name for name in routes}
    return arrange(document(inside, outside, routes=routes, domain_routes=by_domain), [server()])


def send(gateway: Gateway, *to: str, raw: bytes = ASCII_BODY, parameters: str = "", mail_from: str = BOB) -> Answer:
    """Send one message of ours to the world."""
    with gateway.server() as peer:
        answer = peer.offer(raw, *to, mail_from=mail_from, parameters=parameters)
    assert answer.code == 250, answer
    return answer


# -- results for each recipient


def test_each_recipient_has_the_result_that_the_next_hop_gave_it(gateway: Gateway, inside: NextHop) -> None:
    inside.on("RCPT", "550 5.1.1 Nobody of that name", when="<nobody@")
    inside.on("RCPT", "451 4.2.2 Mailbox is busy", when="<later@", times=1)
    answer = gateway.receive(make.message(), BOB, "nobody@corp.example", "later@corp.example")
    assert answer.code == 250
    rows = gateway.settled(answer.ref, bob=DELIVERED, nobody=HELD, later=QUEUED)
    assert arrival(inside, answer.ref).recipients == [BOB]
    assert "550 5.1.1 Nobody of that name" in rows["nobody"].last_reply
    assert "451 4.2.2 Mailbox is busy" in rows["later"].last_reply
    shown = gateway.command("explain", answer.ref).stdout
    assert "550 5.1.1 Nobody of that name" in shown
    assert "451 4.2.2 Mailbox is busy" in shown
    # Only who was put off is tried again.
    gateway.rows.make_due()
    gateway.settled(answer.ref, bob=DELIVERED, nobody=HELD, later=DELIVERED)
    assert [taken.recipients for taken in arrivals(inside, answer.ref)] == [[BOB], ["later@corp.example"]]


def test_what_the_next_hop_refuses_after_the_dot_concerns_all_of_them(gateway: Gateway, inside: NextHop) -> None:
    inside.on("END", "554 5.7.1 Second scanner says no", when="<scanned@")
    answer = gateway.receive(make.message(), "scanned@corp.example", "beside@corp.example")
    rows = gateway.settled(answer.ref, scanned=HELD, beside=HELD)
    assert "Second scanner says no" in rows["beside"].last_reply


def test_a_next_hop_that_says_nothing_after_the_dot_gets_the_message_again(gateway: Gateway, inside: NextHop) -> None:
    inside.on("END", Does.CLOSE, when="<silent@", times=1)
    answer = gateway.receive(make.message(), "silent@corp.example")
    gateway.settled(answer.ref, silent=QUEUED)
    gateway.rows.make_due()
    gateway.settled(answer.ref, silent=DELIVERED)
    assert [taken.was_acknowledged for taken in arrivals(inside, answer.ref)] == [False, True]


# -- fail-over


def test_the_next_host_of_a_route_takes_what_the_ones_before_cannot(gateway: Gateway, hops: dict[str, NextHop]) -> None:
    answer = send(gateway, "ann@failover.example")
    assert arrival(hops["second"], answer.ref).recipients == ["ann@failover.example"]
    assert hops["busy"].connections, "it was asked before"


def test_the_next_mx_takes_what_the_one_before_cannot(gateway: Gateway, hops: dict[str, NextHop]) -> None:
    answer = send(gateway, "ann@by-mx.example")
    assert arrival(hops["second"], answer.ref).recipients == ["ann@by-mx.example"]
    rows = gateway.settled(answer.ref, ann=DELIVERED)
    assert rows["ann"].last_host.startswith("alive.example [127.0.0.1]")


def test_with_no_host_left_the_message_waits(gateway: Gateway) -> None:
    answer = send(gateway, "ann@busy.example")
    rows = gateway.settled(answer.ref, ann=QUEUED)
    assert "Too busy" in rows["ann"].last_reply


# -- what outside mail cannot be told


def test_undeliverable_outside_mail_is_held_and_nobody_outside_is_told(
    gateway: Gateway, inside: NextHop, outside: NextHop
) -> None:
    inside.on("RCPT", "550 5.1.1 Gone", when="<gone@", times=1)
    before = len(outside.messages)
    answer = gateway.receive(make.message(), "gone@corp.example", ip="203.0.113.80", mail_from="ann@forged.example")
    gateway.settled(answer.ref, gone=HELD)
    shown = gateway.ask("quarantine", "list", "--kind", "undeliverable")
    (item,) = [one for one in shown if one["ref"] == answer.ref.replace("-", "")]
    assert item["reason"].endswith("550 5.1.1 Gone")
    assert arrivals(inside, answer.ref) == []
    # Released, it is delivered as it was accepted, once, and is not held any more.
    gateway.command("quarantine", "release", answer.ref, "--reason", "the mailbox is back")
    taken = arrival(inside, answer.ref)
    assert taken.recipients == ["gone@corp.example"]
    assert taken.raw.endswith(make.message())
    gateway.settled(answer.ref, gone=DELIVERED)
    with gateway.database() as database:
        assert answer.ref.replace("-", "") not in {one.ref for one in held.list_items(database)}
    assert len(outside.messages) == before
    assert not [event for event in gateway.events("notice.queued") if event["about"] == answer.ref]


# -- what the next hop can and cannot


def test_starttls_is_used_where_it_is_offered(gateway: Gateway, hops: dict[str, NextHop]) -> None:
    answer = send(gateway, "ann@secure.example")
    assert arrival(hops["secure"], answer.ref).tls
    assert gateway.settled(answer.ref, ann=DELIVERED)["ann"].tls.startswith("TLSv1.3 ")


def test_where_the_handshake_fails_mail_goes_in_clear_unless_tls_is_required(
    gateway: Gateway, hops: dict[str, NextHop]
) -> None:
    answer = send(gateway, "ann@broken.example")
    assert not arrival(hops["broken"], answer.ref).tls
    assert gateway.settled(answer.ref, ann=DELIVERED)["ann"].tls == ""


def test_where_tls_is_required_mail_waits_for_it(gateway: Gateway, hops: dict[str, NextHop]) -> None:
    answer = send(gateway, "ann@must-secure.example")
    assert arrival(hops["secure"], answer.ref).tls
    waiting = send(gateway, "ann@must-plain.example")
    rows = gateway.settled(waiting.ref, ann=QUEUED)
    assert "TLS is required" in rows["ann"].last_reply
    assert arrivals(hops["plain"], waiting.ref) == []


def test_eight_bits_are_said_in_seven_to_a_host_that_takes_no_more(gateway: Gateway, hops: dict[str, NextHop]) -> None:
    kind = ("Content-Type", "text/plain; charset=utf-8")
    raw = make.message(kind, ("MIME-Version", "1.0"), from_=BOB, body="Grüße, señor €\r\n".encode())
    taken = arrival(hops["plain"], send(gateway, "ann@plain.example", raw=raw, parameters="BODY=8BITMIME").ref)
    assert taken.raw.isascii()
    assert b"Gr=C3=BC=C3=9Fe, se=C3=B1or =E2=82=AC\r\n" in taken.raw
    assert b"\r\nContent-Transfer-Encoding: quoted-printable\r\n" in taken.raw
    assert "BODY" not in taken.mail


def test_ascii_addresses_go_to_a_host_without_smtputf8(gateway: Gateway, hops: dict[str, NextHop]) -> None:
    answer = send(gateway, "ann@plain.example", parameters="SMTPUTF8")
    taken = arrival(hops["plain"], answer.ref)
    assert "SMTPUTF8" not in taken.mail


def test_the_size_is_told_and_what_is_too_big_for_the_next_hop_is_not_sent(
    gateway: Gateway, hops: dict[str, NextHop]
) -> None:
    fits = arrival(hops["small"], send(gateway, "ann@small.example").ref)
    assert f"SIZE={len(fits.raw)}" in fits.mail
    answer = send(gateway, "ann@small.example", raw=make.message(from_=BOB, body=b"20 octets and more\r\n" * 100))
    rows = gateway.settled(answer.ref, ann=State.FAILED)
    assert "5.3.4" in rows["ann"].last_reply
    assert arrivals(hops["small"], answer.ref) == []


def test_a_host_without_any_extension_is_spoken_to_step_by_step(gateway: Gateway, hops: dict[str, NextHop]) -> None:
    hop = hops["old"]
    hop.on("EHLO", "502 5.5.1 What?")
    raw = make.message(from_=BOB, body=b".\r\n..\r\n.a\r\n")
    taken = arrival(hop, send(gateway, "ann@old.example", "carl@old.example", raw=raw).ref)
    assert taken.raw.endswith(raw)
    assert taken.recipients == ["ann@old.example", "carl@old.example"]
    assert any(command.startswith("HELO ") for command in hop.commands)


def test_the_null_sender_goes_out_as_null(gateway: Gateway, outside: NextHop) -> None:
    answer = send(gateway, "ann@world.example", mail_from="")
    assert arrival(outside, answer.ref).mail.startswith("FROM:<>")


def test_a_failure_of_mail_with_the_null_sender_is_told_nobody(gateway: Gateway, outside: NextHop) -> None:
    outside.on("RCPT", "550 5.1.1 Gone", when="<gone@null.example>")
    answer = send(gateway, "gone@null.example", mail_from="")
    wait_until(lambda: gateway.outcomes(answer.ref)[0].state in (State.FAILED, HELD), 20, "the end")
    assert not [event for event in gateway.events("notice.queued") if event["about"] == answer.ref]
