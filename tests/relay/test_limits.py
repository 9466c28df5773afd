"""Abuse has an end: recipients, sizes, lines, commands, errors, connections. What is refused is not kept meanwhile."""

import threading
import tracemalloc

import pytest

from gateway.mail import reply as replies
from gateway.mail.envelope import ListenerKind
from gateway.relay import conversation, data
from gateway.relay.conversation import Conversation
from gateway.relay.reasons import Reason
from gateway.relay.services import ListenerSettings
from tests import make, served
from tests.served import Client, serve, wait_for

ENVELOPE = b"MAIL FROM:<>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\n"
MB = 1 << 20


def flood(client: Client, piece: bytes, times: int) -> threading.Thread:
    """Send from a thread of its own, until it is done or the other side has had enough."""

    def send() -> None:
        try:
            for _ in range(times):
                client.send(piece)
        except OSError:
            pass

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def test_recipients_beyond_the_limit_are_sent_to_another_transaction() -> None:
    with serve(served.policy(limits={"recipients": 100, "errors": 3})) as gate, gate.session() as client:
        client.send(b"MAIL FROM:<>\r\n" + b"".join(b"RCPT TO:<u%d@corp.example>\r\n" % n for n in range(300)))
        assert client.codes(301) == [250] * 101 + [452] * 200
        assert client.ask("DATA").startswith("354 ")
        client.send(make.message() + b".\r\n")
        assert client.codes(1) == [250]
        assert gate.taken[0].recipients == [f"u{n}@corp.example" for n in range(100)]
        assert set(gate.events.reasons) == {Reason.RECIPIENTS}


def test_one_recipient_is_served_once() -> None:
    document = served.policy(make.known("info@corp.example", "bob@corp.example"), make.known())
    with serve(document) as gate, gate.session() as client:
        client.deliver(make.message(), "bob@corp.example", "BOB@corp.example", "info@corp.example")
        assert gate.taken[0].recipients == ["bob@corp.example"]


def test_100_000_recipients_are_not_listened_to() -> None:
    with serve(served.policy(limits={"recipients": 100})) as gate, gate.session() as client:
        batch = b"".join(b"RCPT TO:<u%d@corp.example>\r\n" % number for number in range(1000))
        client.send(b"MAIL FROM:<>\r\n")
        sender = flood(client, batch, 100)
        codes = client.codes_until_closed()
        client.socket.close()
        sender.join(served.SECONDS)
        assert codes[:101] == [250] * 101
        assert codes[-1] == 421
        assert len(codes) <= gate.policy.document.limits.commands + 1
        assert gate.events.reasons[-1] is Reason.COMMANDS


def test_endless_commands_end() -> None:
    with serve(served.policy(limits={"commands": 500})) as gate, gate.session() as client:
        sender = flood(client, b"NOOP\r\n" * 1000, 100)
        codes = client.codes_until_closed()
        client.socket.close()
        sender.join(served.SECONDS)
        assert codes == [250] * 499 + [421]
        assert gate.events.reasons == [Reason.COMMANDS]


def test_an_accepted_message_gives_new_commands() -> None:
    with serve(served.policy(limits={"commands": 50})) as gate, gate.session() as client:
        for _ in range(30):
            assert client.deliver(make.message()).startswith("250 ")
        assert gate.events.refusals == []


def test_errors_come_to_an_end() -> None:
    with serve(served.policy(limits={"errors": 5})) as gate, gate.session() as client:
        client.send(b"FROB\r\n" * 10)
        assert client.codes_until_closed() == [500] * 4 + [421]
        assert gate.events.reasons == [Reason.UNKNOWN_COMMAND] * 5 + [Reason.ERRORS]


def test_refused_messages_are_errors_too() -> None:
    with serve(served.policy(limits={"errors": 3})) as gate, gate.session() as client:
        gate.intake.reply = replies.REFUSALS["generic"]
        assert client.deliver(make.message()).startswith("550 ")
        gate.intake.reply = replies.QUEUED
        assert client.deliver(make.message()).startswith("250 ")  # which forgives
        gate.intake.reply = replies.REFUSALS["generic"]
        for _ in range(3):
            assert client.deliver(make.message()).startswith("550 ")
        assert client.codes_until_closed() == [421]
        assert gate.events.reasons == [Reason.ERRORS]


def test_what_is_not_the_peers_fault_is_no_error() -> None:
    with serve(served.policy(limits={"errors": 2})) as gate, gate.session() as client:
        gate.intake.room = replies.STORAGE_FULL
        for _ in range(10):
            assert client.ask("MAIL FROM:<>").startswith("452 ")


@pytest.mark.parametrize("size", [65536, 65537])
def test_the_size_of_a_message_is_counted_to_the_octet(size: int) -> None:
    head = b"Subject: x\r\n\r\n"
    raw = head + b"x" * (size - len(head) - 2) + b"\r\n"
    document = served.policy(limits={"message_bytes": 65536, "header_bytes": 65536})
    with serve(document) as gate, gate.session() as client:
        assert client.deliver(raw).startswith("250 " if size == 65536 else "552 5.3.4 ")
        chunk = f"BDAT {size} LAST\r\n".encode() + raw
        client.send(b"MAIL FROM:<>\r\nRCPT TO:<bob@corp.example>\r\n" + chunk)
        assert client.codes(3) == [250, 250, 250 if size == 65536 else 552]
        assert client.ask(f"MAIL FROM:<> SIZE={size}").startswith("250 " if size == 65536 else "552 5.3.4 ")
        assert len(gate.taken) == (2 if size == 65536 else 0)


@pytest.mark.parametrize("octets", [65536, 65537])
def test_the_header_of_a_message_is_counted_to_the_octet(octets: int) -> None:
    raw = b"Subject: " + b"x" * (octets - 11) + b"\r\n\r\nbody\r\n"
    with serve(served.policy(limits={"header_bytes": 65536})) as gate, gate.session() as client:
        assert client.deliver(raw).startswith("250 " if octets == 65536 else "552 5.3.4 ")
        assert client.deliver(raw[: raw.index(b"\r\n\r\n") + 2]).startswith("250 " if octets == 65536 else "552 5.3.4 ")
        assert client.ask("NOOP").startswith("250 ")


def test_a_message_that_is_too_big_is_read_to_its_end() -> None:
    document = served.policy(limits={"message_bytes": MB})
    with serve(document) as gate, gate.session() as client:
        client.send(ENVELOPE)
        assert client.codes(3) == [250, 250, 354]
        for _ in range(10):
            client.send(b"x" * MB)
        client.send(b"\r\n.\r\nNOOP\r\n")
        assert client.codes(2) == [552, 250]
        assert client.deliver(make.message()).startswith("250 ")


def test_a_message_without_end_is_cut_off_and_hears_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "DROP_BYTES", 4 * MB)
    with serve(served.policy(limits={"message_bytes": MB})) as gate, gate.session() as client:
        client.send(ENVELOPE)
        assert client.codes(3) == [250, 250, 354]
        sender = flood(client, b"x" * MB, 1000)
        assert client.codes_until_closed() == [552]
        client.socket.close()
        sender.join(served.SECONDS)
        wait_for(lambda: len(gate.services.sessions) == 0)


def talk_to(document: dict[str, object]) -> Conversation:
    """A conversation without a socket, after EHLO, with these limits."""
    running = served.Served(served.policy(limits=document), ListenerKind.INBOUND, None)
    talk = Conversation(ListenerSettings(ListenerKind.INBOUND, "mx.corp.example"), running.services, "192.0.2.1")
    talk.open()
    talk.receive(b"EHLO client.example\r\n")
    talk.out.clear()
    return talk


def peak_of(talk: Conversation, piece: bytes, times: int) -> int:
    """Return how much memory the conversation took at most."""
    tracemalloc.start()
    try:
        for _ in range(times):
            talk.receive(piece)
            talk.out.clear()
            while talk.has_more:
                talk.proceed()
                talk.out.clear()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("piece", [b"x" * 65536, b"x" * 100 + b"\r\n" + b"y" * 65434, b"RCPT TO:<" + b"a" * 65527])
def test_a_command_line_without_end_takes_no_memory(piece: bytes) -> None:
    assert peak_of(talk_to({}), piece, 1600) < 2 * MB


def test_a_message_in_small_pieces_takes_no_more_memory_than_its_size() -> None:
    talk = talk_to({"message_bytes": MB})
    talk.receive(ENVELOPE)
    assert peak_of(talk, b"xy", 30_000) < 200_000


def test_a_message_that_is_too_big_takes_no_more_memory_than_the_limit() -> None:
    talk = talk_to({"message_bytes": MB})
    talk.receive(ENVELOPE)
    assert peak_of(talk, b"x" * 65536, 800) < 3 * MB


def test_chunks_that_are_refused_take_no_memory() -> None:
    talk = talk_to({"message_bytes": MB})
    talk.receive(b"MAIL FROM:<>\r\nRCPT TO:<bob@corp.example>\r\nBDAT 40000000\r\n")
    assert peak_of(talk, b"x" * 65536, 600) < MB


@pytest.mark.parametrize("length", [conversation.MAX_LINE, conversation.MAX_LINE + 1, 10_000, 1_000_000])
def test_a_line_that_is_too_long_is_passed_over(length: int) -> None:
    with serve(served.policy()) as gate, gate.session() as client:
        client.send(b"NOOP " + b"x" * (length - 7) + b"\r\nRSET\r\n")
        assert client.codes(2) == [250 if length == conversation.MAX_LINE else 500, 250]


def test_a_line_without_end_is_not_listened_to() -> None:
    with serve(served.policy()) as gate, gate.session() as client:
        sender = flood(client, b"x" * MB, 100)
        assert client.codes_until_closed() == [500]
        client.socket.close()
        sender.join(served.SECONDS)
        assert gate.events.reasons == [Reason.LINE_LENGTH]


def test_one_network_has_its_share_of_connections() -> None:
    with serve(served.policy(limits={"connections_per_network": 3})) as gate:
        clients = [gate.connect() for _ in range(3)]
        with gate.connect(greeted=False) as refused:
            assert refused.reply() == "421 4.7.0 Too many connections from your network, try again later"
            assert refused.is_closed()
        clients.pop().socket.close()
        wait_for(lambda: gate.table.open_connections == 2)
        clients.append(gate.connect())
        for client in clients:
            client.socket.close()
        assert gate.events.reasons == [Reason.NETWORK_CONNECTIONS]


def test_new_connections_have_a_rate() -> None:
    with serve(served.policy(limits={"connects_per_minute": 5})) as gate:
        codes = []
        for _ in range(8):
            with gate.connect(greeted=False) as client:
                codes += client.codes(1)
        assert codes == [220] * 5 + [421] * 3


def test_a_relay_source_has_its_messages_per_hour() -> None:
    source = make.relay_source("127.0.0.1/32", max_per_hour=2)
    with serve(served.policy(source), ListenerKind.OUTBOUND) as gate, gate.session() as client:
        for _ in range(2):
            assert client.deliver(make.message(), mail_from="bob@corp.example").startswith("250 ")
        assert client.ask("MAIL FROM:<bob@corp.example>").startswith("451 4.7.1 ")
        assert gate.events.reasons == [Reason.MESSAGE_RATE]


def test_messages_that_were_not_taken_do_not_count_for_the_hour() -> None:
    source = make.relay_source("127.0.0.1/32", max_per_hour=2)
    with serve(served.policy(source), ListenerKind.OUTBOUND) as gate, gate.session() as client:
        gate.intake.reply = replies.LOCAL_ERROR
        for _ in range(5):
            assert client.deliver(make.message(), mail_from="bob@corp.example").startswith("451 4.3.0 ")
