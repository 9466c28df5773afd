"""What a listener is given: its settings, and what it calls. The listener knows none of these from inside."""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from gateway.mail.envelope import Envelope, ListenerKind, Session
from gateway.mail.reference import new_id
from gateway.mail.reply import Reply
from gateway.policy.compile import Policy
from gateway.relay.admission import Admission
from gateway.relay.reasons import Reason
from gateway.relay.sessions import Sessions


class Intake(Protocol):
    """Takes whole messages."""

    def has_room(self, size: int = 0) -> Reply | None:
        """Return the reply that turns a transaction away at MAIL, or None. `size` is as declared, 0 when unknown."""

    async def take(
        self, session: Session, envelope: Envelope, raw: bytes, policy: Policy, *, has_dots: bool = True
    ) -> Reply:
        """Carry one message to its outcome. Runs to its end even when the peer hangs up meanwhile.

        `has_dots`: a line of `raw` may begin with a dot.
        """


class Events(Protocol):
    """Hears what happens outside of messages; called in the reply path, so it must not block or raise."""

    def connected(self, listener: ListenerKind, ip: str) -> None: ...

    def refused(self, session: Session, stage: str, reply: Reply, reason: Reason, mail_from: str, rcpt: str) -> None:
        """`stage` is the command in lower case, or "connect" (no `disconnected` follows), "command", "message".

        `mail_from` and `rcpt` are "" where there is none.
        """

    def disconnected(self, session: Session, messages: int) -> None:
        """The connection is over; `messages` were accepted. Called for each connection that `connected` told of."""


class DataCount:
    """How many sessions are inside DATA or BDAT: whether it is worth to wait for company at the spool."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class CountsData(Protocol):
    count: int


@dataclass(frozen=True)
class ListenerSettings:
    """One listener. Without `tls_context` STARTTLS is not offered; `hostname` is used while the policy names none."""

    kind: ListenerKind
    hostname: str
    tls_context: ssl.SSLContext | None = None


@dataclass(frozen=True)
class Services:
    """What the listeners of one worker share. `policy` returns the one in force; a transaction pins it at MAIL."""

    policy: Callable[[], Policy]
    intake: Intake
    admission: Admission
    events: Events
    new_id: Callable[[int], str] = new_id
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    monotonic: Callable[[], float] = time.monotonic
    in_data: CountsData = field(default_factory=DataCount)
    sessions: Sessions = field(default_factory=Sessions)
