"""The classical ways to make a mail server relay for strangers. None works, whatever the sender says."""

from collections.abc import Iterator

import pytest

from gateway.mail.envelope import ListenerKind
from gateway.relay.reasons import Reason
from tests import make, served
from tests.served import Served, serve

SENDERS = [
    "MAIL FROM:<spam@victim.example>",
    "MAIL FROM:<>",
    "MAIL FROM:<bob@corp.example>",
    "MAIL FROM:<bob@localhost>",
    "MAIL FROM:<bob@mx.corp.example>",
    "MAIL FROM:<bob@[127.0.0.1]>",
    "MAIL FROM:<postmaster@corp.example>",
]
# What stands for the company is corp.example, our host is mx.corp.example at 127.0.0.1; victim.example is anybody else.
RECIPIENTS = [
    "<victim@victim.example>",
    "<victim@VICTIM.example>",
    "<victim@sub.corp.example>",
    "<victim@corp.example.victim.example>",
    "<victim@victimcorp.example>",
    "<victim@mx.corp.example>",
    "<victim@localhost>",
    "<victim@localhost.localdomain>",
    "<victim@[127.0.0.1]>",
    "<victim@[192.0.2.77]>",
    "<victim@[IPv6:::1]>",
    "<victim@[IPv6:2001:db8::77]>",
    "<victim%victim.example@corp.example>",
    "<victim%victim.example@[127.0.0.1]>",
    "<victim%victim.example@mx.corp.example>",
    "<victim%victim.example%corp.example@corp.example>",
    '<"victim%victim.example"@corp.example>',
    '<"victim@victim.example"@corp.example>',
    '<"victim@victim.example">',
    '<"victim@victim.example"@[127.0.0.1]>',
    '<"victim\\@victim.example"@corp.example>',
    "<victim@victim.example@corp.example>",
    "<victim@victim.example@[127.0.0.1]>",
    "<victim.example!victim>",
    "<victim.example!victim@corp.example>",
    "<victim.example!victim@[127.0.0.1]>",
    "<@corp.example:victim@victim.example>",
    "<@[127.0.0.1]:victim@victim.example>",
    "<@corp.example,@mx.corp.example:victim@victim.example>",
    "<@mx.corp.example:victim%victim.example@corp.example>",
    "<@corp.example:victim.example!victim@corp.example>",
    "<@corp.example:>",
    "<victim@corp.example:victim@victim.example>",
    "<victim@victim.example.>",
    "<victim@corp.example.>",
    "<victim@corp.example,victim@victim.example>",
    "<victim@victim.example,@corp.example>",
    "<victim@corp.example victim@victim.example>",
    "<victim@corp.example><victim@victim.example>",
    "<victim@victim.example>@corp.example",
    "<<victim@victim.example>@corp.example>",
    "<victim@corp.example\0@victim.example>",
    "<victim(@corp.example)@victim.example>",
    "<victim@victim.example(@corp.example)>",
    "<victim@victim.example#corp.example>",
    "<victim@corp\u3002example>",
    "victim@victim.example",
    "victim@corp.example",
    "<victim>",
    "<@corp.example>",
    "<victim@>",
    "<>",
]


@pytest.fixture(scope="module", params=[ListenerKind.INBOUND, ListenerKind.ANY, ListenerKind.PORTAL], ids=str)
def gate(request: pytest.FixtureRequest) -> Iterator[Served]:
    """Any recipient of our domain is taken; somebody else is an approved source."""
    limits = {"errors": 1000, "commands": 100_000}
    with serve(served.policy(make.relay_source("10.1.2.0/24"), limits=limits), request.param) as running:
        yield running


@pytest.mark.parametrize("sender", SENDERS)
def test_nothing_is_relayed(gate: Served, sender: str) -> None:
    with gate.session() as client:
        assert client.ask(sender).startswith("250 ")
        answers = {to: client.ask(f"RCPT TO:{to}") for to in RECIPIENTS}
        assert client.ask("DATA").startswith(("554 ", "503 "))
    assert {to: answer for to, answer in answers.items() if answer[:1] != "5"} == {}
    assert gate.taken == []


def test_the_plain_form_of_our_own_address_works(gate: Served) -> None:
    """So that the table above does not pass because nothing does."""
    with gate.session() as client:
        assert client.ask("MAIL FROM:<spam@victim.example>").startswith("250 ")
        for to in ("<victim@corp.example>", "<@mx.corp.example:victim@corp.example>", "<postmaster>", "<Postmaster>"):
            assert client.ask(f"RCPT TO:{to}").startswith("250 "), to


def test_an_unlisted_peer_of_an_outbound_listener_gets_nowhere() -> None:
    document = served.policy(make.relay_source("10.1.2.0/24"), portal_url="https://portal.corp.example")
    with serve(document, ListenerKind.OUTBOUND) as gate, gate.session() as client:
        for sender in SENDERS:
            assert client.ask(sender) == "550 5.7.1 Relaying denied https://portal.corp.example"
            assert client.ask("RCPT TO:<victim@victim.example>").startswith("503 5.5.1 ")
            assert client.ask("DATA").startswith("503 5.5.1 ")
        assert gate.events.refusals[0] == ("mail", Reason.NOT_A_SOURCE, "spam@victim.example", "")
    assert gate.taken == []


def test_approval_counts_from_the_next_attempt_on() -> None:
    with serve(served.policy(), ListenerKind.OUTBOUND) as gate, gate.session() as client:
        assert client.ask("MAIL FROM:<bob@corp.example>").startswith("550 5.7.1 ")
        gate.policy = served.policy(make.relay_source("127.0.0.0/8"))
        assert client.deliver(make.message(), "ann@partner.example", mail_from="bob@corp.example").startswith("250 ")
        assert gate.taken[0].session.source == "s1"
        gate.policy = served.policy()
        assert client.ask("MAIL FROM:<bob@corp.example>").startswith("550 5.7.1 ")
