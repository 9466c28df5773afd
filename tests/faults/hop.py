"""A next hop that fails by script: refuses, stalls, cuts connections, also after the final dot, and remembers all.

It runs in a thread of its own. What it took is a list of `Reception`s: also those that it left unanswered, since the
other side cannot know whether they arrived.
"""

import asyncio
import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from tests.product import free_port

STALL_SECONDS = 1.5
LARGEST_BYTES = 1 << 27


class Fault(StrEnum):
    """What the hop does to one transaction."""

    NONE = "none"
    DEFER_MAIL = "defer mail"
    DEFER_SOME = "defer some recipients"
    DEFER_DATA = "defer data"
    CUT_IN_DATA = "cut in data"
    CUT_AFTER_DOT = "cut after the final dot"
    STALL = "stall before the last reply"
    STALL_AND_CUT = "stall after the final dot, then cut"
    GARBAGE = "no reply code after the final dot"


# The message came in whole, and the sender has no reply that says so.
UNCLEAR = {Fault.CUT_AFTER_DOT, Fault.STALL_AND_CUT, Fault.GARBAGE}


@dataclass
class Reception:
    """One message that came in whole. `answered` is False when the sender was not told."""

    recipients: tuple[str, ...]
    raw: bytes
    began_at: float  # monotonic, as all times here
    ended_at: float
    answered: bool


@dataclass
class Script:
    """Which faults happen, and how often. `refused` are local parts that are never taken."""

    chance: random.Random = field(default_factory=lambda: random.Random(1))
    share: float = 0.0  # of the transactions that meet a fault
    faults: tuple[Fault, ...] = tuple(fault for fault in Fault if fault is not Fault.NONE)
    refused: frozenset[str] = frozenset()

    def next(self) -> Fault:
        return self.chance.choice(self.faults) if self.chance.random() < self.share else Fault.NONE


class NextHop:
    """An SMTP server on 127.0.0.1. `port` stays the same when it is closed and opened again."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.port = free_port()
        self.receptions: list[Reception] = []
        self.faults: list[Fault] = []
        self.connections = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="next-hop", daemon=True)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> "NextHop":
        self._thread.start()
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self) -> None:
        """Listen."""
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)

    def close(self) -> None:
        """Cut all connections and refuse new ones."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)

    def open_again(self) -> None:
        """Listen, if it does not."""
        if self._server is None:
            self.open()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=LARGEST_BYTES)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await Conversation(self, reader, writer).run()
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the other side went away, or the hop closes: both are what these tests are about
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


class Conversation:
    """One connection to the hop."""

    def __init__(self, hop: NextHop, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._hop, self._reader, self._writer = hop, reader, writer
        self._fault = Fault.NONE
        self._recipients: list[str] = []
        self._began_at = 0.0

    async def run(self) -> None:
        self._say("220 hop.example ESMTP")
        commands: dict[bytes, Callable[[bytes], None]] = {b"MAIL": self._mail, b"RCPT": self._rcpt, b"EHLO": self._ehlo}
        while True:
            await self._writer.drain()
            line = await self._reader.readuntil(b"\n")
            verb = line[:4].upper()
            if verb == b"DATA":
                await self._data()
            elif verb == b"QUIT":
                self._say("221 2.0.0 Bye")
                await self._writer.drain()
                return
            elif verb in commands:
                commands[verb](line)
            else:
                self._say("250 2.0.0 Ok")

    def _say(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())

    def _ehlo(self, _line: bytes) -> None:
        self._say("250-hop.example", "250-PIPELINING", "250-SIZE 104857600", "250-8BITMIME", "250-SMTPUTF8", "250 DSN")

    def _mail(self, _line: bytes) -> None:
        self._fault = self._hop.script.next()
        self._recipients = []
        self._began_at = time.monotonic()
        if self._fault is not Fault.NONE:
            self._hop.faults.append(self._fault)
        self._say("451 4.3.0 Not now" if self._fault is Fault.DEFER_MAIL else "250 2.1.0 Ok")

    def _rcpt(self, line: bytes) -> None:
        address = line[line.index(b"<") + 1 : line.index(b">")].decode()
        if address.partition("@")[0] in self._hop.script.refused:
            self._say("550 5.1.1 Nobody of that name")
        elif self._fault is Fault.DEFER_MAIL:
            self._say("503 5.5.1 MAIL first")
        elif self._fault is Fault.DEFER_SOME and self._hop.script.chance.random() < 0.5:
            self._say("451 4.2.0 Mailbox busy")
        else:
            self._recipients.append(address)
            self._say("250 2.1.5 Ok")

    async def _data(self) -> None:
        if not self._recipients:
            self._say("503 5.5.1 No recipients")
            return
        self._say("354 Go on")
        await self._writer.drain()
        if self._fault is Fault.CUT_IN_DATA:
            await self._reader.readexactly(200)  # more than this has every message of ours
            self._writer.transport.abort()
            return
        body = (await self._reader.readuntil(b"\r\n.\r\n"))[:-3]
        await self._after_dot((body[1:] if body.startswith(b".") else body).replace(b"\r\n..", b"\r\n."))

    async def _after_dot(self, raw: bytes) -> None:
        fault = self._fault
        if fault in (Fault.STALL, Fault.STALL_AND_CUT):
            # A Reception from the dot on: whoever is killed now cannot know of it.
            reception = self._note(raw, answered=False)
            await asyncio.sleep(STALL_SECONDS)
            reception.ended_at = time.monotonic()
            if fault is Fault.STALL_AND_CUT:
                self._writer.transport.abort()
            else:
                reception.answered = True
                self._say("250 2.0.0 Taken late")
            return
        if fault is Fault.DEFER_DATA:
            self._say("451 4.3.0 Cannot take it now")
            return
        self._note(raw, answered=fault not in UNCLEAR)
        if fault is Fault.CUT_AFTER_DOT:
            self._writer.transport.abort()
        elif fault is Fault.GARBAGE:
            self._say("taken, thank you")
            with contextlib.suppress(OSError):
                await self._writer.drain()
        else:
            self._say("250 2.0.0 Taken")

    def _note(self, raw: bytes, *, answered: bool) -> Reception:
        reception = Reception(tuple(self._recipients), raw, self._began_at, time.monotonic(), answered)
        self._hop.receptions.append(reception)
        return reception
