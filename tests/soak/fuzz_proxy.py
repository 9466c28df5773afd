"""PROXY headers and XCLIENT attributes: whole or not, right or wrong, and nothing of what follows is eaten."""

import contextlib

from tests.soak import fuzzing

with fuzzing.instrumented():
    from gateway.mail.errors import Malformed
    from gateway.relay.proxy import V1_MARK, V2_MARK, parse_proxy, parse_xclient, peer_ip

V2 = V2_MARK + b"\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x10\x00\x00\x19"
SEEDS = (
    b"",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1025 25\r\nEHLO x\r\n",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 1025 25\r\n",
    b"PROXY UNKNOWN anything\r\n",
    V2 + b"EHLO x\r\n",
    V2_MARK + b"\x20\x00\x00\x00",
    V2_MARK + b"\x21\x21\x00\x24" + bytes(36),
    b"ADDR=192.0.2.1 NAME=[UNAVAILABLE] HELO=x+2Dy PORT=25 PROTO=ESMTP LOGIN=a",
    b"ADDR=IPV6:2001:db8::1",
)


def look(data: bytes) -> None:
    for header in (data, V1_MARK + data, V2_MARK + data):
        check(header)
    with contextlib.suppress(Malformed):
        attributes = parse_xclient(data)
        assert all("\r" not in value and "\n" not in value for value in attributes.values())


def check(data: bytes) -> None:
    try:
        found = parse_proxy(data)
    except Malformed:
        return
    if found is None:
        # So far it may still become one; it must not wait for ever.
        assert len(data) < 5000
        return
    origin, length = found
    assert 0 < length <= len(data)
    assert parse_proxy(data[:length]) == found
    assert parse_proxy(data[:length] + b"EHLO x\r\n") == found
    with contextlib.suppress(Malformed):
        assert parse_proxy(data[: length - 1]) is None
    assert origin.ip == peer_ip(origin.ip)
    assert 0 <= origin.port <= 65535


if __name__ == "__main__":
    fuzzing.main(look, SEEDS)
