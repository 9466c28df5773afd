"""What trusted peers say about somebody else's address: PROXY header, XCLIENT attributes, Received fields.

Pure parsers; whether the peer is to be believed was asked before. PROXY is HAProxy's `proxy-protocol.txt`, versions 1
and 2; XCLIENT is Postfix's XCLIENT_README.
"""

import re
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from msgspec import Struct

from gateway.mail.address import ip_in, parse_ip
from gateway.mail.errors import Malformed
from gateway.mail.received import parse_received
from gateway.mail.xtext import decode_xtext
from gateway.policy.compile import Policy

V1_MARK: Final = b"PROXY "
V2_MARK: Final = b"\r\n\r\n\0\r\nQUIT\n"
V1_MAX: Final = 107  # octets with CRLF, section 2.1
V2_MAX: Final = 4096  # octets after the fixed part; TLVs with a certificate's names stay far below
_V2_FIXED: Final = struct.Struct("!12sBBH")
_TCP4: Final = struct.Struct("!4s4sHH")
_TCP6: Final = struct.Struct("!16s16sHH")
_LOCAL, _PROXY = 0x20, 0x21  # version 2 and command, section 2.2
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")

XCLIENT_NAMES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN")
_UNAVAILABLE: Final = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
_VALUE_MAX: Final = 255


class Origin(Struct, frozen=True):
    """Where a connection comes from. `ip` is "" when the proxy speaks for itself (a health check) or does not know."""

    ip: str
    port: int


UNKNOWN: Final = Origin("", 0)


def parse_proxy(data: bytes) -> tuple[Origin, int] | None:
    """Read the PROXY header at the begin of `data`; return origin and length of the header, None while it is not whole.

    Raises Malformed as soon as it cannot become one.
    """
    if data.startswith(V2_MARK):
        return _parse_v2(data)
    if data.startswith(V1_MARK):
        return _parse_v1(data)
    if len(data) < len(V2_MARK) and (V1_MARK.startswith(data) or V2_MARK.startswith(data)):
        return None
    raise Malformed("no PROXY header")


def _parse_v1(data: bytes) -> tuple[Origin, int] | None:
    end = data.find(b"\r\n", 0, V1_MAX)
    if end < 0:
        if len(data) < V1_MAX:
            return None
        raise Malformed("the PROXY line has no end")
    try:
        words = data[:end].decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise Malformed("the PROXY line is not ASCII") from None
    if words[1] == "UNKNOWN":  # section 2.1: what follows is to be ignored
        return UNKNOWN, end + 2
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise Malformed("the PROXY line is not TCP4, TCP6 or UNKNOWN")
    _family, source, destination, source_port, destination_port = words[1:]
    version = 4 if words[1] == "TCP4" else 6
    try:
        ips = parse_ip(source), parse_ip(destination)
    except ValueError:
        raise Malformed("the PROXY line has a wrong address") from None
    if any(ip.version != version for ip in ips):
        raise Malformed("the PROXY line has an address of the other family")
    _port(destination_port)
    return Origin(_plain(ips[0]), _port(source_port)), end + 2


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise Malformed("the port is not valid")
    return int(text)


def _parse_v2(data: bytes) -> tuple[Origin, int] | None:
    if len(data) < _V2_FIXED.size:
        return None
    _mark, command, family, length = _V2_FIXED.unpack_from(data)
    if command not in (_LOCAL, _PROXY):
        raise Malformed("not a known PROXY version and command")
    if length > V2_MAX:
        raise Malformed("the PROXY header is too long")
    end = _V2_FIXED.size + length
    if len(data) < end:
        return None
    # LOCAL: the proxy's own connection. UNSPEC and Unix sockets: no address that a policy could use.
    if command == _LOCAL or family in (0x00, 0x31):
        return UNKNOWN, end
    layout = {0x11: _TCP4, 0x21: _TCP6}.get(family)
    if layout is None:
        raise Malformed("the PROXY header is not about TCP")
    if length < layout.size:
        raise Malformed("the PROXY header is too short for its addresses")
    source, _destination, port, _destination_port = layout.unpack_from(data, _V2_FIXED.size)
    return Origin(_plain(IPv4Address(source) if layout is _TCP4 else IPv6Address(source)), port), end


def _plain(ip: IPv4Address | IPv6Address) -> str:
    """Write an address as policies name it: an IPv4 peer on an IPv6 socket (::ffff:192.0.2.1) is an IPv4 peer."""
    return str((isinstance(ip, IPv6Address) and ip.ipv4_mapped) or ip)


def peer_ip(text: str) -> str:
    """Return a socket's peer address as policies name it: no IPv6 scope, IPv4 where it is mapped, "" if it is none."""
    return _told_ip(text.partition("%")[0])


def _told_ip(text: str) -> str:
    """Return an address that another host wrote, as policies name it; "" if it is none or has a scope of that host."""
    try:
        return _plain(parse_ip(text))
    except ValueError:
        return ""


def parse_xclient(argument: bytes) -> dict[str, str]:
    """Read the attributes of an XCLIENT command; names in upper case, values decoded, "" for one that is not available.

    ADDR is an IP address without prefix and scope. Raises Malformed for anything unknown, repeated or out of shape.
    """
    try:
        words = argument.decode("ascii").split()
    except UnicodeDecodeError:
        raise Malformed("XCLIENT is ASCII") from None
    attributes: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.upper()
        if not equals or name not in XCLIENT_NAMES or name in attributes:
            raise Malformed("an XCLIENT attribute is unknown or given twice")
        attributes[name] = _xclient_value(name, value)
    if not attributes:
        raise Malformed("XCLIENT without attributes")
    return attributes


def _xclient_value(name: str, encoded: str) -> str:
    if encoded.upper() in _UNAVAILABLE:
        return ""
    value = decode_xtext(encoded)
    if len(value) > _VALUE_MAX or not value.isprintable() or not value.isascii():
        raise Malformed("an XCLIENT value is too long or not printable")
    if name == "ADDR":
        ip = _told_ip(value[5:] if value[:5].upper() == "IPV6:" else value)
        if not ip:
            raise Malformed("XCLIENT ADDR is no address")
        return ip
    if name == "PORT":
        _port(value)
    return value


def upstream_peer(received: Sequence[str], peer: str, policy: Policy) -> str | None:
    """Return the address that a trusted upstream hop took the message from; None when `peer` is no such hop.

    `received` are the values of the Received fields, from the top. None as well when the field that the policy names is
    missing or holds no address: then the hop itself is judged, which only costs it its trust in others' names.
    """
    for hop in policy.document.trust.upstream:
        if ip_in(peer, (hop.network,)):
            if len(received) < hop.received:
                return None
            return _told_ip(parse_received(received[hop.received - 1]).from_ip) or None
    return None
