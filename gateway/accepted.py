"""A message that became ours: the head of a spool record, and all that the database must learn of it.

The record on disk is the commit, so everything that an import needs stands here; the bytes of the message follow it
in the segment. One record for each group of recipients with the same outcome.
"""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from gateway.mail.address import Address
from gateway.mail.envelope import Body, Direction, Envelope, Recipient, Ret, Session


class State(StrEnum):
    """Where one recipient's delivery stands. The last four are final; `HELD` waits for a person."""

    QUEUED = "queued"
    ACTIVE = "active"
    HELD = "held"
    DELIVERED = "delivered"
    FAILED = "failed"
    DELETED = "deleted"
    DISCARDED = "discarded"


class Location(Struct, frozen=True):
    """Where a record lies: `OWNER/NUMBER.seg` below the spool's root; offset and length of the record in octets."""

    segment: str
    offset: int
    length: int


class Objection(Struct, frozen=True):
    """One reason for which a group is held: a finding's filter and code, and its detail. No release opens the floor."""

    reason: str
    detail: str = ""
    is_floor: bool = False


class Kept(Struct, frozen=True):
    """What it takes to judge a held message again, beside its bytes: who brought it, for whom, and what objected."""

    session: Session
    envelope: Envelope
    objections: tuple[Objection, ...] = ()


class Accepted(Struct, frozen=True):
    """One group of recipients of one accepted message.

    `id` is the message's; `group` counts its groups from 0, and only group 0 carries the trace (MessagePack of
    `verdict.Trace`). `held` is the kind of hold ("" : it is delivered). `may_notify`: a failure is told to `mail_from`;
    otherwise it is held as undeliverable. `message_id` is the Message-ID as received, `sent_message_id` as it leaves.
    `is_ascii`: no octet is over 127, False when that is not known; `has_dots`: a line may begin with a dot.
    `used_entries` are ledger rows whose last use this message is, `claimed` those of which a limited use was claimed
    for the bytes with this `sha256`; `counted` are findings without effect that are counted all the same. `author` and
    `subject` are for lists, redacted.
    With `kept` the bytes are those that were received, to be judged again and transformed when a person releases them;
    without it they are those for the next hop. `sha256` is of the received bytes, where something may ask for it.
    """

    id: str
    group: int
    mail_from: Address
    recipients: tuple[Recipient, ...]
    direction: Direction
    accepted_at: datetime
    expires_at: datetime
    size: int
    held: str = ""
    held_reason: str = ""
    route: str = ""
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    ret: Ret | None = None
    envid: str = ""
    may_notify: bool = False
    is_notice: bool = False
    author: str = ""
    subject: str = ""
    message_id: str = ""
    sent_message_id: str = ""
    action: str = "deliver"
    reason: str = ""
    peer_ip: str = ""
    helo: str = ""
    source: str = ""
    tls: str = ""
    policy_version: int = 0
    sha256: str = ""
    used_entries: tuple[str, ...] = ()
    claimed: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()
    is_ascii: bool = False
    has_dots: bool = True
    trace: bytes = b""
    kept: Kept | None = None


class Settled(Struct, frozen=True):
    """What one attempt did for one recipient. `state` is QUEUED (try again at `due_at`), DELIVERED, FAILED or HELD."""

    message_id: str
    group: int
    recipient: Address
    state: State
    reply: str
    host: str
    at: datetime
    attempts: int
    due_at: datetime | None = None
    tls: str = ""
    notice_due: str = ""  # "", "failed", "delayed", "delivered", "relayed": the notification this outcome calls for
