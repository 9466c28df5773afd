"""What delivery tests send: the smallest parcel, accepted group and policy, and TLS contexts for next hops."""

import functools
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import trustme

from gateway.accepted import Accepted
from gateway.mail.address import NULL_PATH, Address, parse_mailbox
from gateway.mail.envelope import Direction, Recipient
from gateway.policy.compile import Policy
from gateway.relay.client import Connection, Endpoint, Timeouts, client_context, connect
from gateway.relay.parcel import Outcome, Parcel
from tests import make
from tests.nexthop import NextHop

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
RAW = b"Subject: Hello\r\nFrom: <bob@corp.example>\r\n\r\nHello, Ann.\r\n"
QUICK = Timeouts(connect=5, tls=5, greeting=5, hello=5, mail=5, rcpt=5, data=5, block=5, final=5, quit=1)
IMPATIENT = Timeouts(connect=0.3, tls=0.3, greeting=0.3, hello=0.3, mail=0.3, rcpt=0.3, data=0.3, block=0.3, final=0.3)


def address(text: str) -> Address:
    return parse_mailbox(text) if text else NULL_PATH


def recipients(*texts: str | Recipient, direction: Direction = Direction.OUTBOUND) -> tuple[Recipient, ...]:
    return tuple(one if isinstance(one, Recipient) else Recipient(address(one), direction) for one in texts)


def parcel(*to: str | Recipient, raw: bytes = RAW, mail_from: str = "bob@corp.example", **fields: Any) -> Parcel:
    values: dict[str, Any] = {"pieces": (raw,), "size": len(raw)}
    return Parcel(address(mail_from), recipients(*(to or ("ann@partner.example",))), **(values | fields))


def accepted(*to: str | Recipient, mail_from: str = "bob@corp.example", number: int = 1, **fields: Any) -> Accepted:
    """A group of recipients outside, sent by our side."""
    direction = fields.get("direction", Direction.OUTBOUND)
    values: dict[str, Any] = {
        "id": f"{number:026d}",
        "group": 0,
        "mail_from": address(mail_from),
        "recipients": recipients(*(to or ("ann@partner.example",)), direction=direction),
        "direction": direction,
        "accepted_at": NOW,
        "expires_at": NOW + timedelta(days=5),
        "size": len(RAW),
        "may_notify": direction is not Direction.INBOUND,
        "peer_ip": "192.0.2.1",
    }
    return Accepted(**(values | fields))


def endpoint(hop: NextHop, tls: str = "opportunistic", **fields: Any) -> Endpoint:
    return Endpoint("hop.example", "127.0.0.1", hop.port, tls, **fields)


def policy(*hops: NextHop, tls: str = "opportunistic", max_connections: int = 10, **document: Any) -> Policy:
    """A policy whose only route leads to these hops, in their order."""
    route = {
        "hops": [{"host": "127.0.0.1", "port": hop.port} for hop in hops],
        "tls": tls,
        "max_connections": max_connections,
    }
    return make.policy(routes={"hop": route}, outbound_route="hop", inbound_route="hop", **document)


async def connected(hop: NextHop, *, tls: str = "opportunistic", timeouts: Timeouts = QUICK) -> Connection:
    return await connect(endpoint(hop, tls), hostname="mx.corp.example", timeouts=timeouts, context=client_context())


async def send(hop: NextHop, a_parcel: Parcel, timeouts: Timeouts = QUICK) -> Outcome:
    """Open a connection, send one parcel, take leave."""
    connection = await connected(hop, timeouts=timeouts)
    try:
        return await connection.send(a_parcel)
    finally:
        await connection.quit()


def codes(outcome: Outcome) -> list[int]:
    return [reply.code for reply in outcome.replies]


def texts(outcome: Outcome) -> list[str]:
    return [str(reply) for reply in outcome.replies]


@functools.cache
def hop_context() -> ssl.SSLContext:
    """A certificate of an authority that nobody knows: what most mail hosts have."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("hop.example").configure_cert(context)
    return context


def joined(pieces: Sequence[bytes | memoryview]) -> bytes:
    return b"".join(pieces)
