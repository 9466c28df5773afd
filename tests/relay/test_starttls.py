"""STARTTLS (RFC 3207): what was said before counts for nothing, and nothing can be put before the handshake."""

import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from gateway.relay import tls
from gateway.relay.reasons import Reason
from tests import make, served
from tests.served import LOOPS, Served, authority, serve, tls_context, wait_for

MESSAGE = make.message()


@pytest.fixture(params=sorted(LOOPS))
def gate(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serve(served.policy(), context=tls_context(), loop=request.param) as running:
        yield running


def test_a_message_over_tls_is_taken_as_such(gate: Served) -> None:
    with gate.connect() as client:
        assert "STARTTLS" in client.hello()
        assert client.ask("STARTTLS") == "220 2.0.0 Ready to start TLS"
        client.starttls()
        assert "STARTTLS" not in client.hello()
        for _ in range(3):
            assert client.deliver(MESSAGE).startswith("250 ")
        assert client.ask("QUIT").startswith("221 ")
        assert client.is_closed()
    for taken in gate.taken:
        assert taken.raw == MESSAGE
        assert taken.session.tls is not None
        assert (taken.session.tls.version, taken.session.tls.client_name) == ("TLSv1.3", "")
        assert taken.session.tls.cipher


def test_commands_may_follow_the_handshake_at_once(gate: Served) -> None:
    """The last octets of the handshake and the first command come in one piece."""
    for _ in range(5):
        with gate.session() as client:
            assert client.ask("STARTTLS").startswith("220 ")
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            context = ssl._create_unverified_context()
            engine = context.wrap_bio(incoming, outgoing)
            while True:
                try:
                    engine.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    client.send(outgoing.read())
                    incoming.write(client.socket.recv(65536))
            engine.write(b"EHLO client.example\r\n")
            client.send(outgoing.read())  # Finished and EHLO
            while True:
                try:
                    assert engine.read().startswith(b"250-")
                    break
                except ssl.SSLWantReadError:
                    incoming.write(client.socket.recv(65536))


def test_nothing_said_before_counts(gate: Served) -> None:
    with gate.session() as client:
        assert client.ask("MAIL FROM:<ann@partner.example>").startswith("250 ")
        assert client.ask("STARTTLS").startswith("220 ")
        client.starttls()
        assert client.ask("MAIL FROM:<ann@partner.example>").startswith("503 5.5.1 ")
        assert client.ask("RCPT TO:<bob@corp.example>").startswith("503 5.5.1 ")
        client.hello()
        assert client.ask("RCPT TO:<bob@corp.example>").startswith("503 5.5.1 ")
        assert client.deliver(MESSAGE).startswith("250 ")


@pytest.mark.parametrize("injected", [b"NOOP\r\n", b"EHLO x.example\r\nMAIL FROM:<a@x.example>\r\n", b"x"])
def test_what_comes_with_starttls_is_refused(gate: Served, injected: bytes) -> None:
    with gate.session() as client:
        client.send(b"STARTTLS\r\n" + injected)
        assert client.codes_until_closed() == [503]
    assert gate.events.reasons == [Reason.TLS]
    assert gate.taken == []


def test_what_comes_after_starttls_in_clear_is_never_a_command(gate: Served) -> None:
    with gate.session() as client:
        assert client.ask("STARTTLS").startswith("220 ")
        client.send(b"MAIL FROM:<a@x.example>\r\nRCPT TO:<bob@corp.example>\r\n" * 10)
        # At most an alert of TLS comes back, in binary.
        client.socket.settimeout(served.SECONDS)
        answer = b""
        try:
            while more := client.socket.recv(65536):
                answer += more
        except ConnectionError:
            pass
        assert b"250" not in answer
    wait_for(lambda: len(gate.services.sessions) == 0)


def test_starttls_comes_once(gate: Served) -> None:
    with gate.session() as client:
        assert client.ask("STARTTLS now").startswith("501 5.5.4 ")
        assert client.ask("STARTTLS").startswith("220 ")
        client.starttls()
        assert client.ask("STARTTLS").startswith("503 5.5.1 ")
        client.hello()
        assert client.ask("STARTTLS").startswith("503 5.5.1 ")
        assert client.deliver(MESSAGE).startswith("250 ")


def test_a_failed_handshake_leaves_nothing_behind(gate: Served) -> None:
    with gate.session() as client:
        assert client.ask("STARTTLS").startswith("220 ")
        context = ssl.create_default_context()  # does not know our authority
        with pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(client.socket, server_hostname="mx.corp.example")
    wait_for(lambda: len(gate.services.sessions) == 0)
    assert len(gate.events.ends) == 1


def test_a_peer_that_vanishes_in_the_handshake_leaves_nothing_behind(gate: Served) -> None:
    with gate.session() as client:
        assert client.ask("STARTTLS").startswith("220 ")
        client.send(b"\x16\x03\x01\x02\x00")
    wait_for(lambda: len(gate.services.sessions) == 0)


@pytest.mark.parametrize("loop", sorted(LOOPS))
def test_a_handshake_that_takes_too_long_is_ended(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 0.2)
    with serve(served.policy(), context=tls_context(), loop=loop) as gate, gate.session() as client:
        assert client.ask("STARTTLS").startswith("220 ")
        began = time.monotonic()
        assert client.is_closed()
        assert time.monotonic() - began < 5
        wait_for(lambda: len(gate.services.sessions) == 0)


def test_a_big_message_comes_over_tls(gate: Served) -> None:
    raw = MESSAGE + b"0123456789abcdef" * 100_000 + b"\r\n"
    with gate.session() as client:
        assert client.ask("STARTTLS").startswith("220 ")
        client.starttls()
        client.hello()
        assert client.deliver(raw).startswith("250 ")
    assert gate.taken[0].raw == raw


def test_a_peer_that_ends_tls_after_the_dot_has_its_message_taken(gate: Served) -> None:
    gate.intake.may_answer.clear()
    with gate.session() as client:
        assert client.ask("STARTTLS").startswith("220 ")
        client.starttls()
        client.hello()
        client.send(b"MAIL FROM:<>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\n")
        assert client.codes(3) == [250, 250, 354]
        client.send(MESSAGE + b".\r\n")
        wait_for(lambda: gate.intake.begun == 1)
        client.socket.shutdown(socket.SHUT_RDWR)
    gate.intake.may_answer.set()
    wait_for(lambda: len(gate.taken) == 1)
    wait_for(lambda: len(gate.services.sessions) == 0)


def test_without_a_certificate_it_is_not_offered() -> None:
    with serve(served.policy()) as gate, gate.connect() as client:
        assert "STARTTLS" not in client.hello()
        assert client.ask("STARTTLS").startswith("502 5.5.1 ")


def test_the_name_of_a_verified_client_certificate_is_noted() -> None:
    context = tls_context()
    authority().configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    with serve(served.policy(), context=context) as gate, gate.session() as client:
        assert client.ask("STARTTLS").startswith("220 ")
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority().configure_trust(ours)
        authority().issue_cert("mail.partner.example").configure_cert(ours)
        client.socket = ours.wrap_socket(client.socket, server_hostname="mx.corp.example")
        client.hello()
        client.deliver(MESSAGE)
        session = gate.taken[0].session
        assert session.tls is not None
        assert session.tls.client_name == "mail.partner.example"


def test_the_context_of_a_listener_is_made_of_files(tmp_path: pytest.TempPathFactory) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"  # type: ignore[operator]
    issued = authority().issue_cert("mx.corp.example")
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    context = tls.server_context(certificate, key)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE
    ca = tmp_path / "ca.pem"  # type: ignore[operator]
    authority().cert_pem.write_to_path(ca)
    assert tls.server_context(certificate, key, ca).verify_mode is ssl.CERT_OPTIONAL
    with pytest.raises(OSError, match="No such file"):
        tls.server_context(tmp_path / "none.pem", key)  # type: ignore[operator]
