"""The life of a connection: what is taken, what is answered when, and how it ends. On both event loops."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from gateway.mail import reply as replies
from gateway.mail.envelope import Direction, ListenerKind
from gateway.relay import listener
from gateway.relay.reasons import Reason
from tests import make, served
from tests.served import LOOPS, Served, serve, wait_for

MESSAGE = make.message()


@pytest.fixture(params=sorted(LOOPS))
def gate(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serve(served.policy(), loop=request.param) as running:
        yield running


def test_a_message_is_taken_with_its_session_and_envelope(gate: Served) -> None:
    with gate.session() as client:
        assert client.deliver(MESSAGE, "bob@corp.example", "Carol@CORP.example") == "250 2.0.0 Message accepted"
        assert client.ask("QUIT") == "221 2.0.0 Goodbye"
        assert client.is_closed()
    (taken,) = gate.taken
    assert taken.raw == MESSAGE
    assert taken.recipients == ["bob@corp.example", "Carol@corp.example"]
    assert {recipient.direction for recipient in taken.envelope.recipients} == {Direction.INBOUND}
    assert str(taken.envelope.mail_from) == "ann@partner.example"
    assert (taken.session.peer_ip, taken.session.helo, taken.session.tls) == ("127.0.0.1", "client.example", None)
    wait_for(lambda: bool(gate.events.ends))
    assert gate.events.connections == [(ListenerKind.INBOUND, "127.0.0.1")]
    assert [(session.id, count) for session, count in gate.events.ends] == [(taken.session.id, 1)]
    assert gate.events.refusals == []


def test_a_pipelined_envelope_is_answered_in_one_piece(gate: Served) -> None:
    with gate.session() as client:
        client.send(b"MAIL FROM:<ann@partner.example>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\n")
        answer = client.socket.recv(65536)
        assert [line[:3] for line in answer.split(b"\r\n")] == [b"250", b"250", b"354", b""]


def test_many_messages_go_over_one_connection(gate: Served) -> None:
    with gate.session() as client:
        for number in range(300):
            client.send(b"MAIL FROM:<ann@partner.example>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\n")
            assert client.codes(3) == [250, 250, 354]
            client.send(b"Subject: %d\r\n" % number)
            client.send(b"\r\nHello\r\n.\r\n")
            assert client.codes(1) == [250]
    assert [taken.raw for taken in gate.taken] == [b"Subject: %d\r\n\r\nHello\r\n" % number for number in range(300)]


def test_commands_after_the_message_wait_for_its_outcome(gate: Served) -> None:
    gate.intake.may_answer.clear()
    with gate.session() as client:
        client.send(b"MAIL FROM:<ann@partner.example>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\n")
        assert client.codes(3) == [250, 250, 354]
        client.send(MESSAGE + b".\r\nNOOP\r\nMAIL FROM:<>\r\n")
        wait_for(lambda: gate.intake.begun == 1)
        client.send(b"RSET\r\n")
        gate.intake.reply = replies.LOCAL_ERROR
        gate.intake.may_answer.set()
        assert client.codes(4) == [451, 250, 250, 250]


def test_a_peer_that_stops_sending_after_the_dot_still_hears_the_outcome(gate: Served) -> None:
    gate.intake.may_answer.clear()
    with gate.session() as client:
        client.send(b"MAIL FROM:<ann@partner.example>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\n")
        assert client.codes(3) == [250, 250, 354]
        client.send(MESSAGE + b".\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        wait_for(lambda: gate.intake.begun == 1)
        gate.intake.may_answer.set()
        assert client.codes_until_closed() == [250]
    assert len(gate.taken) == 1


def test_a_message_is_carried_to_its_outcome_although_the_peer_is_gone(gate: Served) -> None:
    gate.intake.may_answer.clear()
    with gate.session() as client:
        client.send(b"MAIL FROM:<ann@partner.example>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\n")
        assert client.codes(3) == [250, 250, 354]
        client.send(MESSAGE + b".\r\n")
        wait_for(lambda: gate.intake.begun == 1)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not closed
    wait_for(lambda: bool(gate.events.ends))
    assert len(gate.services.sessions) == 1  # until its message is settled
    gate.intake.may_answer.set()
    wait_for(lambda: len(gate.taken) == 1)
    wait_for(lambda: len(gate.services.sessions) == 0)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"EHL",
        b"MAIL FROM:<ann@partner.example>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\nSubject: half",
        b"MAIL FROM:<ann@partner.example>\r\nRCPT TO:<bob@corp.example>\r\nBDAT 100 LAST\r\nSubject: half",
    ],
)
def test_half_a_session_leaves_nothing_behind(gate: Served, said: bytes) -> None:
    with gate.session() as client:
        client.send(said)
    wait_for(lambda: len(gate.services.sessions) == 0)
    assert gate.taken == []
    assert gate.table.open_connections == 0


def test_an_error_of_ours_is_a_deferral_without_details(gate: Served, capsys: pytest.CaptureFixture[str]) -> None:
    gate.intake.reply = RuntimeError("secret detail")
    with gate.session() as client:
        assert client.deliver(MESSAGE) == "451 4.3.0 Local error, try again later"
        gate.intake.reply = replies.QUEUED
        assert client.deliver(MESSAGE).startswith("250 ")


def test_without_room_mail_is_deferred_at_mail(gate: Served) -> None:
    gate.intake.room = replies.STORAGE_FULL
    with gate.session() as client:
        assert client.ask("MAIL FROM:<ann@partner.example>") == "452 4.3.1 Not enough storage, try again later"
        gate.intake.room = None
        assert client.ask("MAIL FROM:<ann@partner.example>").startswith("250 ")
    assert gate.events.refusals == [("mail", Reason.NO_ROOM, "ann@partner.example", "")]


def test_the_policy_is_pinned_at_mail(gate: Served) -> None:
    first = gate.policy
    with gate.session() as client:
        assert client.ask("MAIL FROM:<ann@partner.example>").startswith("250 ")
        gate.policy = served.policy(domains={"other.example": {"any_recipient": True}})
        assert client.ask("RCPT TO:<bob@other.example>").startswith("550 5.7.1 ")
        assert client.ask("RCPT TO:<bob@corp.example>").startswith("250 ")
        assert client.ask("DATA").startswith("354 ")
        client.send(MESSAGE + b".\r\n")
        assert client.reply().startswith("250 ")
        assert client.ask("MAIL FROM:<ann@partner.example>").startswith("250 ")
        assert client.ask("RCPT TO:<bob@corp.example>").startswith("550 5.7.1 ")
    assert gate.taken[0].policy is first


def test_an_error_in_our_own_code_ends_the_connection_with_421(gate: Served) -> None:
    with gate.session() as client:
        gate.policy = None  # type: ignore[assignment]
        assert client.ask("MAIL FROM:<> SIZE=1").startswith("421 4.3.0 ")
        assert client.is_closed()
    assert gate.events.reasons == [Reason.FAILED]


def test_without_a_policy_a_connection_is_closed(gate: Served) -> None:
    gate.policy = None  # type: ignore[assignment]
    with gate.connect(greeted=False) as client:
        assert client.is_closed()
    assert gate.events.connections == []


def test_a_message_whose_sender_is_gone_counts_for_its_source() -> None:
    source = make.relay_source("127.0.0.1/32", max_per_hour=1)
    with serve(served.policy(source), ListenerKind.OUTBOUND) as gate:
        gate.intake.may_answer.clear()
        with gate.session() as client:
            client.send(b"MAIL FROM:<bob@corp.example>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\n")
            assert client.codes(3) == [250, 250, 354]
            client.send(MESSAGE + b".\r\n")
            wait_for(lambda: gate.intake.begun == 1)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gate.intake.may_answer.set()
        wait_for(lambda: len(gate.services.sessions) == 0)
        with gate.session() as client:
            assert client.ask("MAIL FROM:<bob@corp.example>").startswith("451 4.7.1 ")


@pytest.mark.parametrize("loop", sorted(LOOPS))
@pytest.mark.parametrize(
    "said", [b"", b"EHLO client.example\r\nMAIL FROM:<>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\nx"]
)
def test_whoever_says_nothing_is_told_so_and_cut_off(loop: str, said: bytes) -> None:
    with serve(served.policy(limits={"idle_seconds": 1}), loop=loop) as gate, gate.connect() as client:
        client.send(said)
        assert client.codes_until_closed()[-1] == 421
        assert gate.events.reasons == [Reason.TIMEOUT]


def test_a_peer_that_keeps_talking_is_cut_off_at_the_end_of_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "TICK_SECONDS", 0.05)
    moved = served.policy(limits={"session_seconds": 10})
    with serve(moved) as gate, gate.session() as client:
        (session,) = gate.services.sessions._live
        session._began_at -= 11  # type: ignore[attr-defined]
        assert client.codes_until_closed() == [421]
        assert gate.events.reasons == [Reason.TIMEOUT]


def test_a_peer_that_does_not_hang_up_after_our_421_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "LINGER_SECONDS", 0.2)
    with serve(served.policy(limits={"idle_seconds": 1})) as gate, gate.connect() as client:
        assert client.codes_until_closed() == [421]
        wait_for(lambda: len(gate.services.sessions) == 0)


def test_a_slow_message_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(listener, "SLOW_AFTER_SECONDS", 0.2)
    with serve(served.policy(limits={"data_bytes_per_second": 1000})) as gate, gate.session() as client:
        client.send(b"MAIL FROM:<>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\nSubject: x\r\n")
        assert client.codes_until_closed() == [250, 250, 354, 421]
        assert gate.events.reasons == [Reason.SLOW_DATA]


def test_a_message_in_slow_chunks_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(listener, "SLOW_AFTER_SECONDS", 0.2)
    with serve(served.policy(limits={"data_bytes_per_second": 1000})) as gate, gate.session() as client:
        client.send(b"MAIL FROM:<>\r\nRCPT TO:<bob@corp.example>\r\nBDAT 1\r\nSBDAT 1\r\nu")
        assert client.codes_until_closed() == [250, 250, 250, 250, 421]
        assert gate.events.reasons == [Reason.SLOW_DATA]


@pytest.mark.parametrize("loop", sorted(LOOPS))
def test_for_a_peer_that_does_not_read_nothing_piles_up(loop: str) -> None:
    with serve(served.policy(limits={"commands": 1_000_000}), loop=loop) as gate, gate.connect() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.socket.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 100 << 20:
                sent += client.socket.send(b"EHLO client.example\r\n" * 2000)
        assert sent < 100 << 20
        (session,) = gate.services.sessions._live
        assert session.transport.get_write_buffer_size() < 1 << 20  # type: ignore[attr-defined]
        assert session._talk.waiting < 1 << 20  # type: ignore[attr-defined]
        client.socket.settimeout(served.SECONDS)
        assert set(client.codes(40)) == {250}  # and it goes on where it was


# --- The end of a worker ----------------------------------------------------------------------------------------------


def test_idle_peers_are_told_at_shutdown(gate: Served) -> None:
    with gate.session() as idle, gate.connect() as silent:
        cut = gate.drain(5)
        assert idle.reply() == silent.reply() == "421 4.3.2 Shutting down, try again later"
        assert idle.is_closed()
        idle.socket.close()
        silent.socket.close()
        assert cut.result(5) == 0


def test_an_open_transaction_ends_before_the_shutdown(gate: Served) -> None:
    gate.intake.may_answer.clear()
    with gate.session() as client:
        client.send(b"MAIL FROM:<ann@partner.example>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\n")
        assert client.codes(3) == [250, 250, 354]
        cut = gate.drain(5)
        client.send(MESSAGE + b".\r\n")
        wait_for(lambda: gate.intake.begun == 1)
        gate.intake.may_answer.set()
        assert client.codes_until_closed() == [250, 421]
        client.socket.close()
        assert cut.result(5) == 0
    assert len(gate.taken) == 1


def test_rset_ends_a_transaction_at_shutdown_as_well(gate: Served) -> None:
    with gate.session() as client:
        assert client.ask("MAIL FROM:<ann@partner.example>").startswith("250 ")
        gate.drain(5)
        wait_for(lambda: gate.services.sessions.is_draining)
        client.send(b"RSET\r\n")
        assert client.codes_until_closed() == [250, 421]


def test_what_does_not_end_is_cut_at_shutdown(gate: Served) -> None:
    with gate.session() as client:
        assert client.ask("MAIL FROM:<ann@partner.example>").startswith("250 ")
        assert gate.drain(0.1).result(5) == 1
        assert client.is_closed()


def test_a_peer_that_has_just_cut_does_not_keep_others_from_being_told(gate: Served) -> None:
    clients = [gate.session() for _ in range(8)]

    async def cut_and_drain() -> int:
        for client in clients[::2]:
            # The loop cannot see it before it drains, and what is said then is answered by an RST.
            client.socket.close()
        return await gate.services.sessions.drain([gate.server], 5)

    cut = asyncio.run_coroutine_threadsafe(cut_and_drain(), gate.loop)
    for client in clients[1::2]:
        assert client.codes_until_closed() == [421]
        client.socket.close()
    assert cut.result(5) == 0


def test_nobody_connects_during_shutdown(gate: Served) -> None:
    gate.services.sessions.is_draining = True
    with gate.connect(greeted=False) as client:
        assert client.codes_until_closed() == [421]
    assert gate.events.reasons == [Reason.SHUTDOWN]
