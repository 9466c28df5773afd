"""A real listener on 127.0.0.1 in a thread of its own, with a recording intake, and a client that speaks by lines."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import trustme
import uvloop

from gateway.mail import reply as replies
from gateway.mail.envelope import Envelope, ListenerKind, Session
from gateway.mail.reply import Reply
from gateway.policy.compile import Policy
from gateway.policy.ledger import LedgerEntry
from gateway.relay.admission import AdmissionTable
from gateway.relay.listener import make_protocol
from gateway.relay.reasons import Reason
from gateway.relay.services import ListenerSettings, Services
from tests import make

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
SECONDS = 10.0  # how long anything is waited for
# Tests say many wrong things in one session, and connect often.
LIMITS: dict[str, Any] = {"errors": 1000, "connects_per_minute": 1_000_000, "connections_per_network": 500}


def policy(*entries: LedgerEntry, limits: dict[str, Any] | None = None, **document: Any) -> Policy:
    """The usual policy of tests with generous limits; `limits` are those that the test is about."""
    return make.policy(*entries, limits={**LIMITS, **(limits or {})}, **document)


class Taken:
    """One message as intake was given it."""

    def __init__(self, session: Session, envelope: Envelope, raw: bytes, policy: Policy) -> None:
        self.session = session
        self.envelope = envelope
        self.raw = raw
        self.policy = policy

    @property
    def recipients(self) -> list[str]:
        return [str(recipient.address) for recipient in self.envelope.recipients]


class RecordingIntake:
    """Remembers every message. `reply` is its answer; while `may_answer` is not set it keeps the peer waiting."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.begun = 0
        self.reply: Reply | Exception = replies.QUEUED
        self.room: Reply | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    def has_room(self, size: int = 0) -> Reply | None:
        return self.room

    async def take(
        self, session: Session, envelope: Envelope, raw: bytes, policy: Policy, *, has_dots: bool = True
    ) -> Reply:
        self.begun += 1
        while not self.may_answer.is_set():
            await asyncio.sleep(0.005)
        self.taken.append(Taken(session, envelope, raw, policy))
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


class RecordingEvents:
    """Remembers what the listener tells."""

    def __init__(self) -> None:
        self.connections: list[tuple[ListenerKind, str]] = []
        self.refusals: list[tuple[str, Reason, str, str]] = []
        self.ends: list[tuple[Session, int]] = []

    def connected(self, listener: ListenerKind, ip: str) -> None:
        self.connections.append((listener, ip))

    def refused(self, session: Session, stage: str, reply: Reply, reason: Reason, mail_from: str, rcpt: str) -> None:
        self.refusals.append((stage, reason, mail_from, rcpt))

    def disconnected(self, session: Session, messages: int) -> None:
        self.ends.append((session, messages))

    @property
    def reasons(self) -> list[Reason]:
        return [reason for _stage, reason, _mail_from, _rcpt in self.refusals]


class Client:
    """A plain socket. `ask` sends one line and returns the reply: its lines, without ends, joined by a newline."""

    def __init__(self, port: int, *, greeted: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        if greeted:
            assert self.reply().startswith("220 ")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def line(self) -> str:
        """Return one line; "" when the connection is over."""
        while b"\r\n" not in self._buffer:
            try:
                more = self.socket.recv(65536)
            except ConnectionError:
                more = b""
            if not more:
                assert not self._buffer, f"cut off in the middle of a reply: {self._buffer!r}"
                return ""
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode("ascii")

    def reply(self) -> str:
        """Return the next whole reply; "" when the connection is over."""
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        return "\n".join(lines)

    def ask(self, line: str | bytes) -> str:
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply()

    def hello(self) -> str:
        return self.ask("EHLO client.example")

    def codes(self, count: int) -> list[int]:
        """Return the codes of the next `count` replies."""
        return [int(self.reply()[:3] or 0) for _ in range(count)]

    def codes_until_closed(self) -> list[int]:
        codes = []
        while reply := self.reply():
            codes.append(int(reply[:3]))
        return codes

    def deliver(
        self, raw: bytes, *recipients: str, mail_from: str = "ann@partner.example", parameters: str = ""
    ) -> str:
        """Send one message in the plain way (`raw` is dot-stuffed by the caller); return the last reply."""
        assert self.ask(f"MAIL FROM:<{mail_from}>{parameters}").startswith("250 ")
        for recipient in recipients or ("bob@corp.example",):
            assert self.ask(f"RCPT TO:<{recipient}>").startswith("250 ")
        assert self.ask("DATA").startswith("354 ")
        self.send(raw + b".\r\n")
        return self.reply()

    def starttls(self) -> None:
        """Do the handshake after the 220; the certificate is not looked at."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.socket = context.wrap_socket(self.socket)

    def is_closed(self) -> bool:
        """Wait for the end of the connection; False when something else comes."""
        return self.reply() == ""


class Served:
    """A listener that runs. `policy` may be replaced while it does."""

    def __init__(self, policy: Policy, kind: ListenerKind, context: ssl.SSLContext | None) -> None:
        self.policy = policy
        self.intake = RecordingIntake()
        self.events = RecordingEvents()
        self.table = AdmissionTable(1)
        self.services = Services(lambda: self.policy, self.intake, self.table.column(0), self.events)
        self.settings = ListenerSettings(kind, "mx.corp.example", context)
        self.port = 0
        self.loop: asyncio.AbstractEventLoop
        self.server: asyncio.Server

    @property
    def taken(self) -> list[Taken]:
        return self.intake.taken

    def connect(self, *, greeted: bool = True) -> Client:
        return Client(self.port, greeted=greeted)

    def session(self) -> Client:
        """Connect and say EHLO."""
        client = self.connect()
        assert client.hello().startswith("250")
        return client

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine on the listener's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(SECONDS)

    def drain(self, seconds: float) -> Any:
        """Begin to drain; the future's result is how many sessions were cut."""
        return asyncio.run_coroutine_threadsafe(self.services.sessions.drain([self.server], seconds), self.loop)

    async def serve(self, started: threading.Event, stop: asyncio.Event) -> None:
        self.loop = asyncio.get_running_loop()
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.bind(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self.server = await self.loop.create_server(make_protocol(self.settings, self.services), sock=listening)
        started.set()
        await stop.wait()
        self.intake.may_answer.set()
        await self.services.sessions.drain([self.server], 1)


@contextlib.contextmanager
def serve(
    policy: Policy,
    kind: ListenerKind = ListenerKind.INBOUND,
    *,
    context: ssl.SSLContext | None = None,
    loop: str = "asyncio",
) -> Iterator[Served]:
    """Run a listener until the block ends."""
    served = Served(policy, kind, context)
    started, stop = threading.Event(), asyncio.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
                runner.run(served.serve(started, stop))
        except BaseException as error:  # the thread's failure is the test's
            failures.append(error)
            started.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(SECONDS)
    if failures:
        raise failures[0]
    try:
        yield served
    finally:
        served.loop.call_soon_threadsafe(stop.set)
        thread.join(SECONDS)
    assert not thread.is_alive()
    if failures:
        raise failures[0]
    assert served.table.open_connections == 0
    assert served.services.in_data.count == 0


@cache
def authority() -> trustme.CA:
    return trustme.CA()


def tls_context() -> ssl.SSLContext:
    """A listener's context with a certificate of our own authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("mx.corp.example").configure_cert(context)
    return context


def wait_for(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait until something is so; fail when it does not become so in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
