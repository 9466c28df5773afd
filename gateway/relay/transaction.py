"""One mail transaction (RFC 5321 section 3.3): what MAIL pinned and RCPT gathered, until it ends."""

from gateway.mail.address import Address
from gateway.mail.envelope import Envelope, ListenerKind, Recipient, Session
from gateway.policy.compile import Policy
from gateway.policy.ledger import RelaySource
from gateway.relay.arguments import MailParameters


class Transaction:
    """`kind` and `session` are as the pinned policy sees the peer. `chunks` is what BDAT brought, None before it."""

    __slots__ = (
        "chunks",
        "is_broken",
        "kind",
        "mail_from",
        "parameters",
        "policy",
        "recipients",
        "refused",
        "session",
        "source",
    )

    def __init__(
        self,
        policy: Policy,
        session: Session,
        kind: ListenerKind,
        source: RelaySource | None,
        mail_from: Address,
        parameters: MailParameters,
    ) -> None:
        self.policy = policy
        self.kind = kind
        self.session = session
        self.source = source
        self.mail_from = mail_from
        self.parameters = parameters
        self.recipients: dict[
            str, Recipient
        ] = {}  # by address key: one recipient is served once, however often he was named
        self.refused = 0
        self.chunks: bytearray | None = None
        self.is_broken = False  # a chunk was refused: RFC 3030 section 2 wants RSET now

    def envelope(self) -> Envelope:
        parameters = self.parameters
        return Envelope(
            self.mail_from,
            tuple(self.recipients.values()),
            parameters.body,
            parameters.smtputf8,
            parameters.size,
            parameters.ret,
            parameters.envid,
        )
