"""A next hop for tests: an SMTP server on 127.0.0.1 that records what it gets and behaves as told, step by step."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Iterable
from enum import Enum

EXTENSIONS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")
LINE_LIMIT = 1 << 16


class Does(Enum):
    """What a step does instead of answering."""

    STALL = "stall"  # says nothing and reads nothing more
    CLOSE = "close"  # closes in good order
    RESET = "reset"  # drops the connection


# What a step is: the reply as text (CRLF is added), octets as they are, one of `Does`, an event to wait for before the
# ordinary answer, or a function that is given the line and returns one of these, or None for the ordinary answer.
PlainStep = str | bytes | Does | asyncio.Event
Step = PlainStep | Callable[[str], PlainStep | None]


class Taken:
    """One message that came in whole. `was_acknowledged`: the hop has answered it with 2xx."""

    def __init__(self, connection: int, tls: bool, mail: str, rcpts: list[str], raw: bytes) -> None:
        self.connection = connection
        self.tls = tls
        self.mail = mail  # the argument of MAIL, e.g. "FROM:<a@corp.example> SIZE=120"
        self.rcpts = rcpts  # the arguments of the RCPTs that were accepted
        self.raw = raw  # without dot-stuffing
        self.was_acknowledged = False

    @property
    def recipients(self) -> list[str]:
        return [rcpt.partition("<")[2].partition(">")[0] for rcpt in self.rcpts]


class NextHop:
    """Use as `async with NextHop() as hop:` and deliver to 127.0.0.1, `hop.port`.

    `hop.on("RCPT", "550 5.1.1 No", when="bob@")` scripts a step: CONNECT, EHLO, HELO, STARTTLS, MAIL, RCPT, DATA,
    CONTENT (after each line of a message; `when` sees all so far), END (after its dot), RSET, QUIT. Rules are looked at
    in their order; `times` limits one. `tls` offers STARTTLS; `handshakes=False` then sends rubbish in its place.
    """

    def __init__(
        self,
        *,
        extensions: Iterable[str] = EXTENSIONS,
        tls: ssl.SSLContext | None = None,
        handshakes: bool = True,
        name: str = "hop.example",
        port: int = 0,
    ) -> None:
        self.extensions = tuple(extensions)
        self.tls = tls
        self.handshakes = handshakes
        self.name = name
        self.port = port
        self.messages: list[Taken] = []
        self.commands: list[str] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self._rules: list[tuple[str, str, list[int], Step]] = []
        self._sessions: set[asyncio.Task[None]] = set()

    def on(self, verb: str, step: Step, *, when: str = "", times: int = 1 << 30) -> None:
        """Do `step` at `verb` when its line contains `when`, so many times. END sees MAIL's and RCPTs' arguments."""
        self._rules.append((verb, when, [times], step))

    def scripts(self, verb: str) -> bool:
        """Say whether there is a rule left for a verb."""
        return any(rule[0] == verb and rule[2][0] > 0 for rule in self._rules)

    def forget(self) -> None:
        """Drop all rules."""
        self._rules.clear()

    def step(self, verb: str, line: str = "") -> PlainStep | None:
        """Return the scripted step for a command, None for the ordinary one."""
        for rule_verb, when, left, step in self._rules:
            if rule_verb == verb and left[0] > 0 and when in line:
                left[0] -= 1
                return step(line) if callable(step) else step
        return None

    async def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Wait for a condition; fail after the deadline."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not in time; the hop has seen {self.commands[-20:]}"
            await asyncio.sleep(0.002)

    async def arrival(self, count: int = 1, seconds: float = 10.0) -> None:
        """Wait until so many messages have come."""
        await self.until(lambda: len(self.messages) >= count, seconds)

    async def __aenter__(self) -> "NextHop":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=LINE_LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close the listening socket and drop every connection."""
        self._server.close()
        for session in list(self._sessions):
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await self._server.wait_closed()

    async def drop_connections(self) -> None:
        """Close the connections that stand, and go on listening."""
        for session in list(self._sessions):
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await _Session(self, reader, writer, self.connections).run()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError, _Ended):
            pass
        finally:
            self.open -= 1
            self._sessions.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 1)


class _Ended(Exception):
    pass


class _Session:
    def __init__(self, hop: NextHop, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.hop = hop
        self.reader = reader
        self.writer = writer
        self.number = number
        self.in_tls = False
        self.mail = ""
        self.rcpts: list[str] = []

    async def run(self) -> None:
        await self.answer("CONNECT", "", f"220 {self.hop.name} ESMTP")
        while line := (await self.reader.readline()).decode("utf-8", "surrogateescape"):
            line = line.rstrip("\r\n")
            self.hop.commands.append(line)
            verb = line.partition(" ")[0].upper()
            await getattr(self, f"do_{verb.lower()}", self.unknown)(line)

    async def answer(self, verb: str, line: str, ordinary: str) -> str:
        """Do the step; return the reply that was given."""
        step = self.hop.step(verb, line)
        if isinstance(step, asyncio.Event):
            await step.wait()
            step = None
        if step is Does.STALL:
            await asyncio.Event().wait()
        if step is Does.CLOSE:
            raise _Ended
        if step is Does.RESET:
            self.writer.transport.abort()
            raise _Ended
        if isinstance(step, bytes):
            self.writer.write(step)
            reply = step.decode("utf-8", "replace")
        else:
            reply = step if isinstance(step, str) else ordinary
            self.writer.write(reply.encode() + b"\r\n" if reply else b"")
        await self.writer.drain()
        return reply

    async def unknown(self, line: str) -> None:
        await self.answer("UNKNOWN", line, "502 5.5.1 Not here")

    async def do_ehlo(self, line: str) -> None:
        offered = [*self.hop.extensions, *(["STARTTLS"] if self.hop.tls and not self.in_tls else [])]
        lines = [f"{self.hop.name} hello", *offered]
        ordinary = "\r\n".join(f"250{' ' if each is lines[-1] else '-'}{each}" for each in lines)
        await self.answer("EHLO", line, ordinary)

    async def do_helo(self, line: str) -> None:
        await self.answer("HELO", line, f"250 {self.hop.name}")

    async def do_starttls(self, line: str) -> None:
        reply = await self.answer("STARTTLS", line, "220 2.0.0 Go on")
        if not reply.startswith("220") or self.hop.tls is None:
            return
        if not self.hop.handshakes:
            await self.reader.read(1)  # the client has begun
            self.writer.write(b"this is no handshake\r\n" * 20)
            await self.writer.drain()
            raise _Ended
        await self.writer.start_tls(self.hop.tls)
        self.in_tls = True

    async def do_mail(self, line: str) -> None:
        if (await self.answer("MAIL", line, "250 2.1.0 Ok")).startswith("2"):
            self.mail, self.rcpts = line[5:], []

    async def do_rcpt(self, line: str) -> None:
        if (await self.answer("RCPT", line, "250 2.1.5 Ok" if self.mail else "503 5.5.1 MAIL first")).startswith("2"):
            self.rcpts.append(line[5:])

    async def do_data(self, line: str) -> None:
        reply = await self.answer("DATA", line, "354 Go on" if self.rcpts else "554 5.5.1 No valid recipients")
        if not reply.startswith("354"):
            return
        content = bytearray()
        while not (content.endswith(b"\r\n.\r\n") or content == b".\r\n"):
            content += await self.reader.readuntil(b"\n")
            if self.hop.scripts("CONTENT"):
                await self.answer("CONTENT", content.decode("latin-1"), "")
        raw = (b"\r\n" + bytes(content[:-3])).replace(b"\r\n.", b"\r\n")[2:]
        taken = Taken(self.number, self.in_tls, self.mail, self.rcpts, raw)
        self.mail, self.rcpts = "", []
        self.hop.messages.append(taken)
        final = await self.answer("END", taken.mail + " ".join(taken.rcpts), "250 2.0.0 Taken")
        last_line = final.rstrip("\r\n").rpartition("\n")[2]
        taken.was_acknowledged = last_line[:1] == "2" and last_line[3:4] != "-"

    async def do_rset(self, line: str) -> None:
        self.mail, self.rcpts = "", []
        await self.answer("RSET", line, "250 2.0.0 Ok")

    async def do_noop(self, line: str) -> None:
        await self.answer("NOOP", line, "250 2.0.0 Ok")

    async def do_quit(self, line: str) -> None:
        await self.answer("QUIT", line, "221 2.0.0 Bye")
        raise _Ended
