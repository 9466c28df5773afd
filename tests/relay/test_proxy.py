"""What trusted peers say of others: PROXY headers, XCLIENT attributes, Received fields."""

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mail.envelope import ListenerKind
from gateway.mail.errors import Malformed
from gateway.relay import listener
from gateway.relay.proxy import (
    UNKNOWN,
    V1_MARK,
    V2_MARK,
    Origin,
    parse_proxy,
    parse_xclient,
    peer_ip,
    upstream_peer,
)
from gateway.relay.reasons import Reason
from tests import make, served
from tests.served import Served, serve


def v2(command: int, family: int, addresses: bytes, tlvs: bytes = b"") -> bytes:
    return V2_MARK + bytes([command, family]) + struct.pack("!H", len(addresses + tlvs)) + addresses + tlvs


TCP4 = bytes([192, 0, 2, 1, 198, 51, 100, 1]) + struct.pack("!HH", 51000, 25)
TCP6 = bytes.fromhex("20010db8" + "00" * 11 + "01") + bytes.fromhex("20010db8" + "00" * 11 + "02") + b"\xc7\x38\x00\x19"
MAPPED = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 9]) + bytes(16) + b"\0\1\0\2"


@pytest.mark.parametrize(
    ("header", "origin"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 51000 25\r\n", Origin("192.0.2.1", 51000)),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 51000 25\r\n", Origin("2001:db8::1", 51000)),
        (b"PROXY TCP6 2001:DB8:0:0::1 2001:db8::2 0 65535\r\n", Origin("2001:db8::1", 0)),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 51000 25\r\n", Origin("192.0.2.1", 51000)),
        (b"PROXY UNKNOWN\r\n", UNKNOWN),
        (b"PROXY UNKNOWN whatever the proxy likes to say\r\n", UNKNOWN),
        (v2(0x21, 0x11, TCP4), Origin("192.0.2.1", 51000)),
        (v2(0x21, 0x21, TCP6), Origin("2001:db8::1", 51000)),
        (v2(0x21, 0x21, MAPPED), Origin("192.0.2.9", 1)),
        (v2(0x21, 0x11, TCP4, tlvs=b"\x04\x00\x03abc" * 40), Origin("192.0.2.1", 51000)),
        (v2(0x20, 0x00, b""), UNKNOWN),  # a health check
        (v2(0x20, 0x11, TCP4), UNKNOWN),
        (v2(0x21, 0x00, b""), UNKNOWN),
        (v2(0x21, 0x31, bytes(216)), UNKNOWN),
    ],
)
def test_a_header_is_read_and_nothing_after_it(header: bytes, origin: Origin) -> None:
    assert parse_proxy(header + b"EHLO client.example\r\n") == (origin, len(header))
    for length in range(len(header)):
        assert parse_proxy(header[:length]) is None


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO client.example\r\n",
        b"PROXY\r\n",
        b"proxy TCP4 192.0.2.1 198.51.100.1 51000 25\r\n",
        b"PROXY  TCP4 192.0.2.1 198.51.100.1 51000 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 51000 25 \r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 51000\r\n",
        b"PROXY TCP4 2001:db8::1 198.51.100.1 51000 25\r\n",
        b"PROXY TCP6 192.0.2.1 2001:db8::2 51000 25\r\n",
        b"PROXY TCP4 192.0.2.01 198.51.100.1 51000 25\r\n",
        # RFC 4007 section 11: a scope id names an interface of the proxy's.
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY TCP6 ::1 fe80::1%eth0 1 2\r\n",
        b"PROXY TCP6 fe80::1%25eth0 ::1 1 2\r\n",
        b"PROXY TCP6 18::1d%2b ::1 1 2\r\n",
        b"PROXY TCP6 ::ffff:192.0.2.1%1 ::1 1 2\r\n",
        b"PROXY TCP6 2001:db8::1% ::1 1 2\r\n",
        b"PROXY TCP4 192.0.2.1%1 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 051 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 -1 25\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.1 51000 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 51000 25\n" + b"x" * 80,
        b"PROXY TCP4 \xff.0.2.1 198.51.100.1 51000 25\r\n",
        V1_MARK + b"x" * 101,
        V2_MARK[:-1] + b"\r",
        v2(0x11, 0x11, TCP4),
        v2(0x22, 0x11, TCP4),
        v2(0x21, 0x12, TCP4),
        v2(0x21, 0x11, TCP4[:-1]),
        v2(0x21, 0x21, TCP4),
        V2_MARK + b"\x21\x11\xff\xff",
    ],
)
def test_what_is_no_header_is_refused(header: bytes) -> None:
    with pytest.raises(Malformed):
        parse_proxy(header)


@given(st.sampled_from([b"", V1_MARK, V1_MARK + b"TCP4 192.0.2.1 ", V2_MARK, V2_MARK + b"\x21\x11\x00"]), st.binary())
def test_any_octets_are_a_header_or_none_or_too_few(begin: bytes, rest: bytes) -> None:
    data = begin + rest
    try:
        found = parse_proxy(data)
    except Malformed:
        return
    if found is None:
        assert len(data) < 16 + 4096
    else:
        origin, length = found
        assert length <= len(data)
        assert origin.ip == peer_ip(origin.ip)
        assert parse_proxy(data[:length]) == found


@pytest.mark.parametrize(
    ("text", "ip"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("", ""),
        ("mail.example", ""),
        ("/run/socket", ""),
    ],
)
def test_peer_ip(text: str, ip: str) -> None:
    assert peer_ip(text) == ip


@pytest.mark.parametrize(
    ("argument", "attributes"),
    [
        (b"ADDR=192.0.2.1", {"ADDR": "192.0.2.1"}),
        (b"addr=IPV6:2001:db8::1 NAME=[UNAVAILABLE]", {"ADDR": "2001:db8::1", "NAME": ""}),
        (b"NAME=mail+2Dout.example HELO=x  PORT=25", {"NAME": "mail-out.example", "HELO": "x", "PORT": "25"}),
        (b"ADDR=[tempunavail] PROTO=ESMTP LOGIN=bob", {"ADDR": "", "PROTO": "ESMTP", "LOGIN": "bob"}),
    ],
)
def test_xclient_attributes(argument: bytes, attributes: dict[str, str]) -> None:
    assert parse_xclient(argument) == attributes


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b"ADDR",
        b"ADDR=",
        b"ADDR=mail.example",
        b"ADDR=IPV6:fe80::1%eth0",
        b"ADDR=fe80::1%25eth0",
        b"ADDR=IPV6:fe80::1+25eth0",
        b"ADDR=IPV6:2001:db8::1%",
        b"ADDR=192.0.2.1%1",
        b"ADDR=192.0.2.1 ADDR=192.0.2.2",
        b"DESTADDR=192.0.2.1",
        b"NAME=a+0D+0Ab",
        b"NAME=a+b",
        b"NAME=" + b"a" * 300,
        b"HELO=\xc3\xa9",
        b"PORT=70000",
    ],
)
def test_what_xclient_does_not_say(argument: bytes) -> None:
    with pytest.raises(Malformed):
        parse_xclient(argument)


RECEIVED = [
    "from relay.partner.example (a.partner.example [192.0.2.7]) by hop.corp.example; Tue, 24 Nov 2026 09:00:00 +0000",
    "from x (unknown [192.0.2.8]) by relay.partner.example; Tue, 24 Nov 2026 08:59:00 +0000",
    "by nobody",
    "from [192.0.2.9] (unknown [IPv6:fe80::1%eth0]) by relay.partner.example; Tue, 24 Nov 2026 08:58:00 +0000",
]


@pytest.mark.parametrize(
    ("peer", "number", "found"),
    [
        ("10.0.0.5", 1, "192.0.2.7"),
        ("10.0.0.5", 2, "192.0.2.8"),
        ("10.0.0.5", 3, None),
        ("10.0.0.5", 4, None),  # a scope of the hop's own; what the peer says of itself does not count
        ("10.0.0.5", 5, None),
        ("192.0.2.99", 1, None),
    ],
)
def test_a_trusted_upstream_hop_tells_the_peer(peer: str, number: int, found: str | None) -> None:
    policy = make.policy(trust={"upstream": [{"network": "10.0.0.0/24", "received": number}]})
    assert upstream_peer(RECEIVED, peer, policy) == found


# --- Over sockets -----------------------------------------------------------------------------------------------------

BEHIND_PROXY = {"trust": {"proxy": ["127.0.0.1/32"]}}
HEADER = b"PROXY TCP4 192.0.2.1 198.51.100.1 51000 25\r\n"


@pytest.mark.parametrize("header", [HEADER, v2(0x21, 0x11, TCP4)])
def test_behind_a_proxy_the_peer_is_the_one_it_names(header: bytes) -> None:
    with serve(served.policy(**BEHIND_PROXY)) as gate, gate.connect(greeted=False) as client:
        client.send(header[:7])
        client.send(header[7:] + b"EHLO client.example\r\n")
        assert client.codes(2) == [220, 250]
        client.deliver(make.message())
        assert gate.taken[0].session.peer_ip == "192.0.2.1"
        assert gate.events.connections == [(ListenerKind.INBOUND, "192.0.2.1")]


def test_a_trusted_proxy_must_send_a_header() -> None:
    with serve(served.policy(**BEHIND_PROXY)) as gate, gate.connect(greeted=False) as client:
        client.send(b"EHLO client.example\r\n")
        assert client.codes_until_closed() == [421]
        assert gate.events.reasons == [Reason.PROXY]


def test_a_proxy_that_sends_no_header_in_time_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "PROXY_SECONDS", 0.2)
    with serve(served.policy(**BEHIND_PROXY)) as gate, gate.connect(greeted=False) as client:
        client.send(HEADER[:20])
        assert client.codes_until_closed() == [421]
        assert gate.events.reasons == [Reason.PROXY]


def test_the_header_of_a_stranger_is_no_command() -> None:
    with serve(served.policy()) as gate, gate.connect() as client:
        assert client.ask(HEADER.removesuffix(b"\r\n")).startswith("500 ")
        client.hello()
        client.deliver(make.message())
        assert gate.taken[0].session.peer_ip == "127.0.0.1"


def test_connections_are_counted_for_the_peer_behind_the_proxy() -> None:
    with (
        serve(served.policy(limits={"connections_per_network": 1}, **BEHIND_PROXY)) as gate,
        gate.connect(greeted=False) as first,
        gate.connect(greeted=False) as second,
        gate.connect(greeted=False) as other,
    ):
        first.send(HEADER)
        assert first.codes(1) == [220]
        second.send(HEADER)
        assert second.codes_until_closed() == [421]
        other.send(HEADER.replace(b"192.0.2.1", b"192.0.2.2"))
        assert other.codes(1) == [220]


@pytest.fixture
def trusting() -> Iterator[Served]:
    source = make.relay_source("10.1.2.0/24")
    with serve(served.policy(source, trust={"xclient": ["127.0.0.1/32"]}), ListenerKind.ANY) as gate:
        yield gate


def test_xclient_puts_another_peer_in_place(trusting: Served) -> None:
    with trusting.session() as client:
        assert client.ask("MAIL FROM:<bob@corp.example>").startswith("250 ")
        assert client.ask("XCLIENT ADDR=10.1.2.3").startswith("503 5.5.1 ")
        assert client.ask("RSET").startswith("250 ")
        assert client.ask("XCLIENT ADDR=10.1.2.3 NAME=app.corp.example LOGIN=app").startswith("220 ")
        assert client.ask("MAIL FROM:<bob@corp.example>").startswith("503 5.5.1 ")  # HELO is wanted again
        assert client.hello().startswith("250")
        client.deliver(make.message(), "ann@partner.example", mail_from="bob@corp.example")
    (taken,) = trusting.taken
    session = taken.session
    assert (session.peer_ip, session.peer_name, session.user, session.source) == (
        "10.1.2.3",
        "app.corp.example",
        "app",
        "s1",
    )


def test_xclient_can_give_the_helo_as_well(trusting: Served) -> None:
    with trusting.connect() as client:
        assert client.ask("XCLIENT ADDR=192.0.2.5 HELO=mail.partner.example PROTO=ESMTP").startswith("220 ")
        assert client.ask("MAIL FROM:<ann@partner.example> SIZE=100").startswith("250 ")


@pytest.mark.parametrize("argument", ["", "ADDR=[UNAVAILABLE]", "ADDR=x", "COLOUR=red"])
def test_xclient_is_refused_when_it_is_not_understood(trusting: Served, argument: str) -> None:
    with trusting.session() as client:
        assert client.ask(f"XCLIENT {argument}").startswith("501 5.5.4 ")


def test_xclient_is_for_trusted_peers_only() -> None:
    with serve(served.policy(make.relay_source("10.1.2.0/24")), ListenerKind.ANY) as gate, gate.connect() as client:
        assert "XCLIENT" not in client.hello()
        assert client.ask("XCLIENT ADDR=10.1.2.3").startswith("550 5.7.0 ")
        assert client.ask("MAIL FROM:<bob@corp.example>").startswith("250 ")
        assert client.ask("RCPT TO:<ann@partner.example>").startswith("550 5.7.1 ")


def test_whoever_is_put_in_place_has_the_trust_of_nobody_else(trusting: Served) -> None:
    with trusting.session() as client:
        assert client.ask("XCLIENT ADDR=192.0.2.5").startswith("220 ")
        assert client.hello().startswith("250")
        # The peer that connected is the trusted one, and may speak for yet another.
        assert client.ask("XCLIENT ADDR=192.0.2.6").startswith("220 ")
        assert client.hello().startswith("250")
        client.deliver(make.message())
        assert trusting.taken[0].session.peer_ip == "192.0.2.6"


def test_the_peer_put_in_place_is_held_to_the_limits() -> None:
    document = served.policy(limits={"connections_per_network": 1}, trust={"xclient": ["127.0.0.1/32"]})
    with serve(document) as gate, gate.connect() as client:
        assert client.ask("XCLIENT ADDR=192.0.2.5").startswith("220 ")
        with gate.connect() as other:
            assert other.ask("XCLIENT ADDR=192.0.2.5").startswith("421 4.7.0 ")
            assert other.is_closed()
    assert len(gate.events.ends) == len(gate.events.connections) == 2
