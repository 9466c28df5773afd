"""Who speaks to us and what MAIL FROM and RCPT TO said (RFC 5321, RFC 3461); never the header fields."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from gateway.mail.address import Address


class Direction(StrEnum):
    """Where a recipient's mail goes, seen from the company. It belongs to the recipient, not to the message."""

    INBOUND = "inbound"  # from outside to one of our domains
    OUTBOUND = "outbound"  # from an approved source to the world
    INTERNAL = "internal"  # from an approved source to one of our domains
    RETURNED = "returned"  # back from the second scanner; never judged twice


class ListenerKind(StrEnum):
    """What a listener is for. On `ANY` a peer among the relay sources is outbound, everybody else inbound."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    RETURN = "return"
    PORTAL = "portal"
    ANY = "any"


class Notify(StrEnum):
    """The NOTIFY parameter of RCPT (RFC 3461 section 4.1)."""

    NEVER = "NEVER"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


class Ret(StrEnum):
    """The RET parameter of MAIL (RFC 3461 section 4.3): how much of the message a notification returns."""

    FULL = "FULL"
    HDRS = "HDRS"


class Body(StrEnum):
    """The BODY parameter of MAIL (RFC 6152, RFC 3030)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"


class Tls(Struct, frozen=True):
    """The protection of one connection; `client_name` is the verified certificate's name, "" without one."""

    version: str
    cipher: str
    client_name: str = ""


class Recipient(Struct, frozen=True):
    """One RCPT TO path as accepted.

    `notify` is empty when the parameter was absent; `orcpt` is decoded, with its type: `rfc822;user@corp.example`.
    """

    address: Address
    direction: Direction
    notify: tuple[Notify, ...] = ()
    orcpt: str = ""


class Session(Struct, frozen=True):
    """The peer as the policy sees it: after PROXY, XCLIENT or trusted upstream hops.

    `source` names the ledger's relay source that let the peer relay, "" for anybody else.
    """

    id: str
    listener: ListenerKind
    peer_ip: str
    peer_name: str
    helo: str
    tls: Tls | None
    user: str
    started_at: datetime
    source: str = ""
    esmtp: bool = True  # EHLO, not HELO


class Envelope(Struct, frozen=True):
    """What the transaction said. `declared_size` is octets by SIZE= (RFC 1870) or None."""

    mail_from: Address
    recipients: tuple[Recipient, ...]
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    declared_size: int | None = None
    ret: Ret | None = None
    envid: str = ""
