"""S30, coming in: what is taken and what is not, over the wire of the real product."""

from collections.abc import Iterator

import pytest

from tests import make
from tests.faults.sender import stuffed
from tests.flows.conftest import Start
from tests.flows.edge import arrival, arrivals
from tests.flows.gateway import SERVER_IP, Gateway, document, server
from tests.flows.peer import BOB, PARTNER, Answer, Peer, answer
from tests.nexthop import NextHop
from tests.served import Client

MESSAGE_BYTES = 200_000
EMPTY = b"From: ann@partner.example\r\n\r\n"


@pytest.fixture(scope="module")
def gateway(arrange: Start, inside: NextHop, outside: NextHop) -> Gateway:
    return arrange(document(inside, outside, limits={"message_bytes": MESSAGE_BYTES}), [server()])


@pytest.fixture
def peer(gateway: Gateway) -> Iterator[Peer]:
    with gateway.partner() as peer:
        yield peer


# -- never an open relay

RELAYING = [
    "<ann@world.example>",
    "<ann@sub.corp.example>",
    "<ann@corp.example.world.example>",
    "<ann@notcorp.example>",
    "<ann%world.example@corp.example>",
    "<world.example!ann@corp.example>",
    "<ann@world.example@corp.example>",
    '<"ann@world.example"@corp.example>',
    '<"ann%world.example"@corp.example>',
    "<@corp.example:ann@world.example>",
    "<@corp.example,@gate.corp.example:ann@world.example>",
    "<ann@[127.0.0.1]>",
    "<ann@[10.20.0.5]>",
    "<ann@[IPv6:::1]>",
    "<ann@localhost>",
    "<ann@gate.corp.example>",
    "<ann@world.example.>",
    "<ann>",
    "<corp.example@world.example>",
    "ann@world.example",
    "<ann@world.example> <bob@corp.example>",
]


@pytest.mark.parametrize("sender", ["<ann@partner.example>", "<>", "<bob@corp.example>", "<postmaster@corp.example>"])
def test_it_is_never_an_open_relay(peer: Peer, sender: str) -> None:
    taken = []
    for path in RELAYING:
        assert peer.ask(f"MAIL FROM:{sender}").startswith("250 ")
        if not peer.ask(f"RCPT TO:{path}").startswith("5"):
            taken.append(path)
        assert peer.ask("RSET").startswith("250 ")
    assert taken == []


def test_no_name_and_no_sender_makes_a_relay_source(gateway: Gateway) -> None:
    with gateway.partner("203.0.113.9", name="app5.corp.internal", helo=f"[{SERVER_IP}]") as peer:
        assert peer.offer(EMPTY, "ann@world.example", mail_from="bob@corp.example").code == 550
    with Peer(gateway.any_port, "203.0.113.9", helo="gate.corp.example") as peer:
        assert peer.offer(EMPTY, "ann@world.example", mail_from="bob@corp.example").code == 550


def test_only_trusted_peers_may_say_for_whom_they_speak(gateway: Gateway, inside: NextHop, outside: NextHop) -> None:
    with gateway.under(document(inside, outside, trust={})), Client(gateway.outbound_port) as client:
        client.hello()
        assert client.ask(f"XCLIENT ADDR={SERVER_IP}").startswith("550 ")
        assert client.ask("MAIL FROM:<bob@corp.example>").startswith("550 ")


# -- smuggling

SECOND = (
    b"MAIL FROM:<boss@corp.example>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\n"
    b"From: boss@corp.example\r\nSubject: smuggled\r\n\r\nPay at once.\r\n.\r\n"
)
FALSE_ENDS = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r", b"\r.\r\n", b"\r.\n", b"\n.\r", b"\n\n.\n\n",
    b"\r\r\n.\r\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\0\n.\r\n",
]  # fmt: skip


@pytest.mark.parametrize("end", FALSE_ENDS, ids=repr)
def test_no_false_end_of_a_message_smuggles_another_one_in(peer: Peer, inside: NextHop, end: bytes) -> None:
    before = len(inside.messages)
    for command in ("MAIL FROM:<ann@partner.example>", f"RCPT TO:<{BOB}>", "DATA"):
        assert peer.ask(command)[0] in "23"
    peer.send(EMPTY + b"Hello" + end + SECOND)
    assert peer.reply() == "554 5.6.0 Message holds a bare CR, a bare LF or a NUL"
    # Had anything been smuggled in, its replies would come before this one's.
    assert peer.ask("HELP").startswith("214 ")
    last = peer.offer(make.message(), BOB)
    assert arrival(inside, last.ref)
    assert not [taken for taken in inside.messages[before:] if b"smuggled" in taken.raw]


def test_what_looks_like_an_end_inside_of_a_chunk_is_content_on_the_way_out_too(peer: Peer, inside: NextHop) -> None:
    raw = EMPTY + b".\r\nHello\r\n.\r\n" + SECOND + b"..\r\n.\r\n"
    found = bdat(peer, raw, (len(raw),))
    assert found.code == 250
    taken = arrival(inside, found.ref)
    assert taken.raw.endswith(raw)
    assert taken.recipients == [BOB]
    assert [one.recipients for one in arrivals(inside, found.ref)] == [[BOB]]


@pytest.mark.parametrize("end", [b"\n", b"\r"], ids=repr)
def test_a_command_line_ends_in_crlf_and_nothing_else(peer: Peer, end: bytes) -> None:
    peer.send(b"NOOP" + end + b"NOOP\r\n")
    codes = [int(peer.reply()[:3])]
    peer.send(b"HELP\r\n")
    while codes[-1] != 214:
        codes.append(int(peer.reply()[:3]))
    assert codes[0] == 500


def test_what_comes_with_starttls_in_clear_is_never_taken_as_protected(gateway: Gateway) -> None:
    with Client(gateway.port) as client:
        client.hello()
        client.send(b"STARTTLS\r\nMAIL FROM:<ann@partner.example>\r\nRCPT TO:<bob@corp.example>\r\n")
        assert client.codes_until_closed() == [503]


# -- pipelining and chunks


def test_a_whole_envelope_at_once_is_answered_in_order(peer: Peer, inside: NextHop) -> None:
    commands = ["MAIL FROM:<ann@partner.example>", f"RCPT TO:<{BOB}>", "RCPT TO:<ann@world.example>", "DATA"]
    peer.send("".join(f"{command}\r\n" for command in commands).encode())
    assert peer.codes(4) == [250, 250, 550, 354]
    # The message and the next envelope together, and a third command that is none.
    peer.send(stuffed(make.message()) + "".join(f"{command}\r\n" for command in commands[:2]).encode() + b"FROB\r\n")
    first = answer(peer.reply())
    assert (first.code, peer.codes(3)) == (250, [250, 250, 500])
    assert arrival(inside, first.ref).recipients == [BOB]


def test_a_session_in_one_piece_from_envelope_to_quit(peer: Peer, inside: NextHop) -> None:
    chunk = make.message()
    envelope = f"MAIL FROM:<ann@partner.example>\r\nRCPT TO:<{BOB}>\r\nBDAT {len(chunk)} LAST\r\n"
    peer.send(envelope.encode() + chunk + b"QUIT\r\n")
    assert peer.codes(2) == [250, 250]
    found = answer(peer.reply())
    assert found.code == 250
    assert peer.codes_until_closed() == [221]
    assert arrival(inside, found.ref).raw.endswith(chunk)


def test_pipelining_is_offered(peer: Peer) -> None:
    offered = {line[4:].split(" ")[0] for line in peer.extensions}
    assert {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES", "STARTTLS"} <= offered


def bdat(peer: Peer, raw: bytes, sizes: tuple[int, ...], parameters: str = "") -> Answer:
    """Send a message in chunks of these sizes, the last with LAST; return the last reply."""
    assert peer.ask(f"MAIL FROM:<ann@partner.example>{parameters}").startswith("250 ")
    assert peer.ask(f"RCPT TO:<{BOB}>").startswith("250 ")
    at, found = 0, ""
    for number, size in enumerate(sizes):
        last = " LAST" if number == len(sizes) - 1 else ""
        peer.send(f"BDAT {size}{last}\r\n".encode() + raw[at : at + size])
        at += size
        found = peer.reply()
    return answer(found)


@pytest.mark.parametrize("sizes", [(1, 2, 3, -1), (-1, 0), (0, -1), (-1,)], ids=["odd", "empty last", "empty", "one"])
def test_chunks_make_one_message_octet_for_octet(peer: Peer, inside: NextHop, sizes: tuple[int, ...]) -> None:
    raw = make.message(body=b".\r\n..\r\nlines that begin with dots\r\n.\r\n")
    rest = len(raw) - sum(size for size in sizes if size > 0)
    found = bdat(peer, raw, tuple(rest if size < 0 else size for size in sizes))
    assert found.code == 250
    assert arrival(inside, found.ref).raw.endswith(b"\r\n" + raw)


def test_a_chunk_and_data_do_not_mix(peer: Peer) -> None:
    assert peer.ask("MAIL FROM:<ann@partner.example>").startswith("250 ")
    assert peer.ask(f"RCPT TO:<{BOB}>").startswith("250 ")
    peer.send(b"BDAT 5\r\nFrom:")
    assert peer.reply().startswith("250 ")
    assert peer.ask("DATA").startswith("503 ")


# -- 8BITMIME, SMTPUTF8, SIZE, the null sender


def test_eight_bits_pass_octet_for_octet(peer: Peer, inside: NextHop) -> None:
    raw = make.message(subject="Grüße", body=bytes(range(128, 256)) + b"\r\n\xff\xfe\r\n")
    found = peer.offer(raw, BOB, parameters="BODY=8BITMIME")
    taken = arrival(inside, found.ref)
    assert taken.raw.endswith(raw)
    assert "BODY=8BITMIME" in taken.mail


def test_addresses_of_every_script_pass_with_smtputf8(peer: Peer, inside: NextHop) -> None:
    raw = make.message(from_="Jörg <jörg@partner.example>", to="用户@corp.example")
    found = peer.offer(raw, "用户@corp.example", mail_from="jörg@partner.example", parameters="SMTPUTF8")
    taken = arrival(inside, found.ref)
    assert taken.raw.endswith(raw)
    assert taken.recipients == ["用户@corp.example"]
    assert taken.mail.startswith("FROM:<jörg@partner.example>")
    assert "SMTPUTF8" in taken.mail
    assert b"with UTF8SMTP" in taken.raw


def test_without_smtputf8_they_are_refused_with_the_right_code(peer: Peer) -> None:
    assert peer.ask("MAIL FROM:<jörg@partner.example>").startswith("550 5.6.7 ")
    assert peer.ask("MAIL FROM:<ann@partner.example>").startswith("250 ")
    assert peer.ask("RCPT TO:<用户@corp.example>").startswith("553 5.6.7 ")


def test_the_size_is_offered_and_a_bigger_one_is_refused_before_it_is_sent(peer: Peer) -> None:
    assert f"SIZE {MESSAGE_BYTES}" in {line[4:] for line in peer.extensions}
    assert peer.ask(f"MAIL FROM:<ann@partner.example> SIZE={MESSAGE_BYTES + 1}").startswith("552 5.3.4 ")
    assert peer.ask(f"MAIL FROM:<ann@partner.example> SIZE={MESSAGE_BYTES}").startswith("250 ")


def test_what_is_bigger_than_it_said_is_refused_all_the_same(peer: Peer, inside: NextHop) -> None:
    line = b"x" * 98 + b"\r\n"
    fits = EMPTY + line * ((MESSAGE_BYTES - len(EMPTY)) // len(line))
    assert peer.offer(fits + line, BOB, parameters="SIZE=100").text.startswith("5.3.4 ")
    assert bdat(peer, fits + line, (100_000, len(fits + line) - 100_000)).text.startswith("5.3.4 ")
    found = peer.offer(fits, BOB, parameters="SIZE=100")
    assert found.code == 250
    assert arrival(inside, found.ref).raw.endswith(fits)


def test_the_null_sender_is_taken_and_stays_null(peer: Peer, inside: NextHop) -> None:
    found = peer.offer(make.message(from_="MAILER-DAEMON@partner.example"), BOB, mail_from="")
    assert found.code == 250
    assert arrival(inside, found.ref).mail.startswith("FROM:<>")


def test_a_message_without_any_line_is_taken(peer: Peer, inside: NextHop) -> None:
    found = peer.offer(b"", BOB)
    assert found.code == 250
    assert arrival(inside, found.ref)


# -- STARTTLS


def test_mail_over_starttls_says_so_in_its_trace_field_and_in_the_database(gateway: Gateway, inside: NextHop) -> None:
    with Client(gateway.port) as client:
        client.hello()
        assert client.ask("STARTTLS").startswith("220 ")
        client.starttls()
        assert client.ask("MAIL FROM:<ann@partner.example>").startswith("503 "), "what was said before is forgotten"
        assert "STARTTLS" not in client.hello()
        found = answer(client.deliver(make.message()))
    raw = arrival(inside, found.ref).raw
    assert b" with ESMTPS" in raw[:500]
    assert b"TLSv1.3" in raw[:500]
    assert gateway.message(found.ref).tls == "TLSv1.3"


def test_mail_in_clear_is_taken_from_who_cannot_do_better(peer: Peer, gateway: Gateway) -> None:
    found = peer.offer(make.message(), BOB)
    assert gateway.message(found.ref).tls == ""


# -- and what the operator sees of it


def test_a_message_with_a_bare_line_end_is_listed(gateway: Gateway) -> None:
    ip = "198.51.100.77"
    with gateway.partner(ip) as peer:
        assert peer.offer(EMPTY + b"one\ntwo\r\n", BOB).code == 554
    row = gateway.refused_session(ip)
    assert (row.stage, row.reason, row.mail_from, row.rcpt_to) == ("message", "line_ends", PARTNER, BOB)
