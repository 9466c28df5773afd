"""S10: only approved sources relay, by longest prefix, until their approval ends, and for their own domains."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from gateway.store import messages, relay_sources
from tests import make
from tests.flows.conftest import Start
from tests.flows.edge import arrival
from tests.flows.gateway import PORTAL, SERVER_IP, Gateway, document, server
from tests.flows.peer import Answer, Peer
from tests.nexthop import NextHop
from tests.product import wait_until

BOB = "bob@corp.example"
ANN = "ann@partner.example"
DAEMON = "MAILER-DAEMON@host.example"
STRANGER = "ceo@bank.example"
FORWARDER_IP = "10.20.0.25"
EFFECT_SECONDS = 2.0
RAW = make.message(from_=BOB, to=ANN)
REFUSED = f"5.7.1 Relaying denied {PORTAL}"
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture(scope="module")
def gateway(arrange: Start, inside: NextHop, outside: NextHop) -> Gateway:
    entries = [
        server(),
        # Overlapping: the longest prefix decides, and with it whose name may be used.
        make.relay_source("10.1.0.0/16", allowed_domains=("wide.example",)),
        make.relay_source("10.1.2.0/24", allowed_domains=("narrow.example",)),
        make.relay_source("10.1.2.3/32", allowed_domains=("host.example", "other.example")),
        # Ended: as if they were not there.
        make.relay_source("10.9.9.9/32", expires_at=YESTERDAY),
        make.relay_source("10.1.2.77/32", allowed_domains=("ended.example",), expires_at=YESTERDAY),
        make.relay_source("2001:db8:1::/48", allowed_domains=("six.example",)),
        make.relay_source("2001:db8:1:7::/64", allowed_domains=("seven.example",)),
        make.relay_source("2001:db8:1:7::25/128", any_sender=True),
        make.relay_source(f"{FORWARDER_IP}/32", any_sender=True),
    ]
    return arrange(document(inside, outside), entries)


def attempt(gateway: Gateway, ip: str, mail_from: str = BOB, to: str = ANN, *, raw: bytes = b"") -> Answer:
    """Send one message from a machine inside; its author is the sender unless `raw` has another."""
    with gateway.server(ip, name="host.corp.internal") as peer:
        return peer.offer(raw or make.message(from_=mail_from or DAEMON, to=to), to, mail_from=mail_from)


# -- who is not listed


def test_an_unlisted_internal_address_is_told_550_and_where_the_portal_is(gateway: Gateway) -> None:
    answer = attempt(gateway, "10.66.0.1")
    assert (answer.code, answer.text) == (550, REFUSED)


def test_on_a_listener_for_everybody_it_is_told_the_same(gateway: Gateway) -> None:
    with Peer(gateway.any_port, "10.66.0.1") as peer:
        answer = peer.offer(RAW, ANN, mail_from=BOB)
    assert (answer.code, answer.text) == (550, REFUSED)


def test_on_the_inbound_listener_even_an_approved_source_does_not_relay(gateway: Gateway) -> None:
    with Peer(gateway.port, SERVER_IP) as peer:
        answer = peer.offer(RAW, ANN, mail_from=BOB)
    assert (answer.code, answer.text[:5]) == (550, "5.7.1")


def test_of_what_was_refused_nothing_is_queued(gateway: Gateway, outside: NextHop) -> None:
    with gateway.server("10.66.0.2") as peer:
        # All at once, as a client that pipelines says it: each is refused, and what it sends then is no message.
        peer.send(f"MAIL FROM:<{BOB}>\r\nRCPT TO:<{ANN}>\r\nDATA\r\n".encode())
        assert peer.codes(3) == [550, 503, 503]
        assert peer.ask("NOOP").startswith("250 ")
    # The next message comes out and is in the database, so the one before would have been.
    answer = attempt(gateway, SERVER_IP)
    assert arrival(outside, answer.ref)
    assert gateway.message(answer.ref)
    with gateway.database() as database:
        assert messages.recent(database, peer_ip="10.66.0.2") == []


def test_the_refusal_shows_in_the_log(gateway: Gateway) -> None:
    attempt(gateway, "10.66.0.3")
    wait_until(lambda: events_of(gateway, "10.66.0.3"), 10, "session.refused")
    (event,) = events_of(gateway, "10.66.0.3")
    assert (event["reason"], event["stage"]) == ("not_a_source", "mail")
    assert event["reply"] == f"550 Relaying denied {PORTAL}"


def events_of(gateway: Gateway, ip: str) -> list[dict[str, object]]:
    return [event for event in gateway.events("session.refused") if event["peer"] == ip]


def test_the_refused_session_shows_to_the_operator(gateway: Gateway) -> None:
    attempt(gateway, "10.66.0.4")
    assert gateway.refused_session("10.66.0.4")
    (shown,) = gateway.ask("messages", "--refused-sessions", "--peer", "10.66.0.4")
    assert shown["peer_ip"] == "10.66.0.4"
    assert shown["helo"] == "host.corp.internal"
    assert shown["listener"] == "outbound"
    assert shown["reason"] == "not_a_source"
    assert shown["reply"] == f"550 {REFUSED}"
    assert shown["mail_from"] == BOB


# -- approval


def test_after_approval_the_next_attempt_works_within_two_seconds(gateway: Gateway, outside: NextHop) -> None:
    ip = "10.66.0.5"
    assert attempt(gateway, ip).code == 550
    gateway.command("relay", "add", ip, "--owner", "dora", "--purpose", "order confirmations")
    approved = time.monotonic()
    answer = wait_until(lambda: accepted(attempt(gateway, ip)), EFFECT_SECONDS, "the approval's effect")
    assert time.monotonic() - approved < EFFECT_SECONDS
    assert arrival(outside, answer.ref).recipients == [ANN]
    assert gateway.message(answer.ref).source  # which approval it was


def accepted(answer: Answer) -> Answer | None:
    return answer if answer.code == 250 else None


def refusal(answer: Answer) -> Answer | None:
    return answer if answer.code == 550 else None


def relays_everywhere(gateway: Gateway, ip: str) -> bool:
    """Tell whether all of some attempts work: connections are spread over the workers."""
    return all(attempt(gateway, ip).code == 250 for _ in range(8))


def test_an_approval_taken_back_ends_within_two_seconds(gateway: Gateway) -> None:
    ip = "10.66.0.6"
    added = gateway.add(make.relay_source(f"{ip}/32"))
    wait_until(lambda: relays_everywhere(gateway, ip), 10, "the approval's effect")
    with gateway.database() as database:
        relay_sources.end(database, added.id, by="tests", now=datetime.now(UTC))
    answer = wait_until(lambda: refusal(attempt(gateway, ip)), EFFECT_SECONDS, "the end")
    assert answer.text == REFUSED


def test_an_expired_approval_counts_as_unlisted(gateway: Gateway) -> None:
    answer = attempt(gateway, "10.9.9.9")
    assert (answer.code, answer.text) == (550, REFUSED)


def test_an_approval_expires_while_mail_flows(gateway: Gateway) -> None:
    ip = "10.66.0.7"
    until = datetime.now(UTC) + timedelta(seconds=5)
    gateway.add(make.relay_source(f"{ip}/32", expires_at=until))
    wait_until(lambda: relays_everywhere(gateway, ip), 5, "the approval's effect")
    wait_until(lambda: attempt(gateway, ip).code == 550, 10, "the approval's end")
    assert datetime.now(UTC) >= until


def test_an_expired_entry_leaves_the_wider_one_in_force(gateway: Gateway) -> None:
    assert attempt(gateway, "10.1.2.77", "app@ended.example").code == 550
    assert attempt(gateway, "10.1.2.77", "app@narrow.example").code == 250


# -- networks


@pytest.mark.parametrize(
    ("ip", "domain"),
    [
        ("10.1.200.1", "wide.example"),
        ("10.1.2.4", "narrow.example"),
        ("10.1.2.3", "host.example"),
        ("2001:db8:1:8::1", "six.example"),
        ("2001:db8:1:7::1", "seven.example"),
        ("2001:db8:1:7::25", "any.example"),
        ("2001:0DB8:0001:0007:0:0:0:0025", "any.example"),
        ("::ffff:10.1.2.3", "host.example"),
    ],
)
def test_the_longest_prefix_decides(gateway: Gateway, outside: NextHop, ip: str, domain: str) -> None:
    answer = attempt(gateway, ip, f"app@{domain}")
    assert answer.code == 250, answer
    assert arrival(outside, answer.ref).mail.startswith(f"FROM:<app@{domain}>")


@pytest.mark.parametrize(
    ("ip", "domain"),
    [
        ("10.1.2.3", "wide.example"),  # the wider network's, not its own
        ("10.1.2.3", "narrow.example"),
        ("10.1.2.4", "host.example"),
        ("10.1.200.1", "narrow.example"),
        ("2001:db8:1:7::1", "six.example"),
        ("2001:db8:1:8::1", "seven.example"),
    ],
)
def test_what_the_longest_prefix_does_not_allow_no_other_does(gateway: Gateway, ip: str, domain: str) -> None:
    answer = attempt(gateway, ip, f"app@{domain}")
    assert (answer.code, answer.text) == (550, f"5.7.1 This host may not send under that domain {PORTAL}")


@pytest.mark.parametrize("ip", ["10.2.0.1", "10.10.1.2", "2001:db8:2::1", "2001:db8::25", "::ffff:10.2.0.1"])
def test_an_address_in_no_network_is_unlisted(gateway: Gateway, ip: str) -> None:
    assert attempt(gateway, ip, "app@wide.example").code == 550


# -- sender domains


@pytest.mark.parametrize(
    ("mail_from", "code"),
    [
        ("app@host.example", 250),
        ("app@OTHER.Example", 250),
        ("", 250),  # notifications
        ("bob@corp.example", 550),  # the entry names its domains, and ours is not among them
        ("app@sub.host.example", 550),
        ("app@host.example.evil.example", 550),
        ("app@evilhost.example", 550),
    ],
)
def test_a_source_sends_under_its_allowed_domains_only(gateway: Gateway, mail_from: str, code: int) -> None:
    assert attempt(gateway, "10.1.2.3", mail_from).code == code


def test_a_source_without_allowed_domains_sends_under_ours(gateway: Gateway) -> None:
    assert attempt(gateway, SERVER_IP, BOB).code == 250
    assert attempt(gateway, SERVER_IP, "app@host.example").code == 550


# -- authors


def written(*authors: str, to: str = ANN) -> bytes:
    """A message with these From fields."""
    return make.message(*[("From", one) for one in authors], to=to, without=["From"])


def not_allowed(domain: str, ref: str) -> str:
    return f"5.7.1 This host may not send under the author's domain {domain} (ref {ref}) {PORTAL}"


def test_an_author_of_strangers_is_refused_with_the_domain_and_where_the_portal_is(gateway: Gateway) -> None:
    answer = attempt(gateway, SERVER_IP, BOB, raw=written(f"The Boss <{STRANGER}>"))
    assert (answer.code, answer.text) == (550, not_allowed("bank.example", answer.ref))
    trace = gateway.trace(answer.ref)
    (found,) = [one for one in trace.findings if one.filter == "relay"]
    assert (found.reason, found.floor, found.entry) == ("relay:author-not-allowed", True, trace.case.session.source)
    assert [(one.action, one.reason) for one in trace.verdicts] == [("reject", "relay:author-not-allowed")]
    assert gateway.message(answer.ref).action == "reject"


@pytest.mark.parametrize(
    ("ip", "mail_from", "authors", "code"),
    [
        (SERVER_IP, BOB, [f"Bob <{BOB}>"], 250),
        (SERVER_IP, BOB, ["Carol <carol@CORP.Example>"], 250),  # the domain counts, not the mailbox
        (SERVER_IP, BOB, [f"{STRANGER} <{BOB}>"], 550),  # some readers show the name as an address
        (SERVER_IP, BOB, [f'"{STRANGER}" <{BOB}>'], 250),  # a name is free
        (SERVER_IP, BOB, ["bob@sub.corp.example"], 550),  # as in MAIL FROM
        (SERVER_IP, BOB, [f"{BOB}, carol@corp.example"], 250),
        (SERVER_IP, BOB, [f"{BOB}, {STRANGER}"], 550),
        (SERVER_IP, BOB, [f"Board: {BOB}, {STRANGER};"], 550),
        (SERVER_IP, BOB, [BOB, STRANGER], 550),
        (SERVER_IP, BOB, [BOB, "carol@corp.example"], 250),
        (SERVER_IP, BOB, [f"Bob <{BOB}"], 550),  # never closed
        (SERVER_IP, BOB, ["root"], 550),
        (SERVER_IP, BOB, [], 250),  # nobody is named
        ("10.1.2.3", "app@host.example", ["Shop <shop@other.example>"], 250),
        ("10.1.2.3", "app@host.example", [BOB], 550),  # the entry names its domains, and ours is not among them
        (FORWARDER_IP, BOB, [STRANGER], 250),
        (FORWARDER_IP, "", [f"{BOB}, {STRANGER}"], 250),
        (SERVER_IP, "", ["MAILER-DAEMON@corp.example"], 250),
        (SERVER_IP, "", [STRANGER], 550),
    ],
)
def test_a_source_writes_as_authors_of_its_domains_only(
    gateway: Gateway, ip: str, mail_from: str, authors: list[str], code: int
) -> None:
    assert attempt(gateway, ip, mail_from, raw=written(*authors)).code == code


def test_who_the_author_is_must_be_clear(gateway: Gateway) -> None:
    answer = attempt(gateway, SERVER_IP, BOB, raw=written("root"))
    words = "This host may not send mail whose author is unclear"
    assert (answer.code, answer.text) == (550, f"5.7.1 {words} (ref {answer.ref}) {PORTAL}")
    assert gateway.message(answer.ref).reason == "relay:unclear-author"


def test_the_author_is_limited_towards_our_own_people_too(gateway: Gateway) -> None:
    assert attempt(gateway, SERVER_IP, BOB, to="carol@corp.example", raw=written(STRANGER)).code == 550


def test_on_a_listener_for_everybody_the_author_of_a_source_is_limited_too(gateway: Gateway) -> None:
    with Peer(gateway.any_port, SERVER_IP) as peer:
        answer = peer.offer(written(STRANGER), ANN, mail_from=BOB)
    assert (answer.code, answer.text) == (550, not_allowed("bank.example", answer.ref))


def test_observe_mode_limits_the_author_as_it_limits_the_sender(
    gateway: Gateway, inside: NextHop, outside: NextHop
) -> None:
    with gateway.under(document(inside, outside, observe=True)):
        assert attempt(gateway, SERVER_IP, STRANGER).code == 550
        assert attempt(gateway, SERVER_IP, BOB, raw=written(STRANGER)).code == 550
        assert attempt(gateway, SERVER_IP, BOB).code == 250
