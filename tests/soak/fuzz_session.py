"""SMTP sessions: any octets in any pieces give the same replies, and only clean messages are taken."""

from collections.abc import Iterator
from datetime import UTC, datetime

from tests.soak import fuzzing
from tests.soak.fuzzing import Input

with fuzzing.instrumented():
    from gateway.filters import registry
    from gateway.mail import reply as replies
    from gateway.mail.envelope import ListenerKind
    from gateway.policy.compile import Policy, compile
    from gateway.policy.document import Document
    from gateway.relay.admission import AdmissionTable
    from gateway.relay.conversation import Conversation, Take
    from gateway.relay.services import ListenerSettings, Services

KINDS = (ListenerKind.INBOUND, ListenerKind.OUTBOUND, ListenerKind.ANY)
PEERS = ("192.0.2.1", "198.51.100.1", "2001:db8::1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy.of(
    compile(
        Document.model_validate(
            {
                "domains": {"corp.example": {"any_recipient": True}},
                "trust": {"proxy": ["198.51.100.0/24"], "xclient": ["192.0.2.0/24"]},
                "limits": {"message_bytes": 65536, "header_bytes": 65536, "connects_per_minute": 1_000_000},
            }
        ),
        registry(),
        hostname="gate.example",
    ),
    1,
    1,
)
ENVELOPE = b"EHLO x.example\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@corp.example>\r\n"
SEEDS = (
    b"\0\0\0" + ENVELOPE + b"DATA\r\nFrom: a@x.example\r\n\r\n..dot\r\n.\r\nQUIT\r\n",
    b"\0\0\7" + ENVELOPE + b"BDAT 5\r\nFrom:BDAT 4 LAST\r\n a\r\nRSET\r\nNOOP\r\n",
    b"\0\0\1" + ENVELOPE + b"DATA\r\nX\n.\nMAIL FROM:<c@x.example>\r\n.\r\n",
    b"\0\0\3" + ENVELOPE + b"DATA\r\nX\r.\r\r\n.\n\r\n.\r\n",
    b"\0\0\0" + ENVELOPE + b"DATA\r\nSubject: a\rb\n.\r\nMAIL FROM:<c@x.example>\r\n.\r\n",
    b"\1\0\0MAIL FROM:<> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=a+2Bb\r\nRCPT TO:<x@y.example> NOTIFY=NEVER\r\n",
    b"\2\0\0XCLIENT ADDR=192.0.2.9 NAME=a.example\r\nEHLO x\r\nSTARTTLS\r\nNOOP\r\n",
    b"\0\1\0PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\nEHLO x\r\nVRFY a\r\nHELP\r\nEXPN a\r\nFROB\r\n",
)


class Room:
    """An intake that is never asked to take: the steps are carried out below."""

    def has_room(self, size: int = 0) -> None:
        return None


class Silence:
    def connected(self, *_: object) -> None: ...
    def refused(self, *_: object) -> None: ...
    def disconnected(self, *_: object) -> None: ...


def converse(kind: ListenerKind, peer: str, pieces: Iterator[bytes]) -> tuple[bytes, list[bytes]]:
    """Return everything that was replied, and the messages that were taken."""
    numbers = iter(range(1_000_000))
    services = Services(
        lambda: POLICY,
        Room(),  # type: ignore[arg-type]
        AdmissionTable().column(0),
        Silence(),
        new_id=lambda _: f"{next(numbers):026d}",
        now=lambda: NOW,
        monotonic=lambda: 1000.0,
    )
    talk = Conversation(ListenerSettings(kind, "gate.example"), services, peer)
    talk.open()
    taken: list[bytes] = []
    for piece in pieces:
        if talk.is_over:
            break
        talk.receive(piece)
        carry_out(talk, taken)
        if talk.step is not None:  # STARTTLS: what follows is TLS
            break
    said = b"".join(talk.out)
    talk.lose()
    return said, taken


def carry_out(talk: Conversation, taken: list[bytes]) -> None:
    while not talk.is_over and (isinstance(talk.step, Take) or (talk.has_more and talk.step is None)):
        if isinstance(talk.step, Take):
            taken.append(talk.step.raw)
            talk.answered(replies.QUEUED)
        else:
            talk.proceed()


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def look(data: bytes) -> None:
    choice = Input(data)
    kind, peer = KINDS[choice.byte() % len(KINDS)], PEERS[choice.byte() % len(PEERS)]
    size = 1 + choice.byte() % 17
    octets = choice.rest()
    said, taken = converse(kind, peer, iter([octets] if octets else []))
    again, taken_again = converse(kind, peer, in_pieces(octets, size))
    # A connection that is over may have been cut before the rest arrived; up to there all is equal.
    assert said.startswith(again) or again.startswith(said), (said, again)
    assert taken == taken_again
    for line in said.split(b"\r\n"):
        assert len(line) <= 510
        assert b"\n" not in line
        assert b"\r" not in line
    for raw in taken:
        assert raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r")
        assert b"\0" not in raw
        assert len(raw) <= 65536


if __name__ == "__main__":
    fuzzing.main(look, SEEDS)
