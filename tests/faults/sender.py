"""A client that remembers: every message that it offered, to whom, and whether it was told 250.

What was answered 250 is the gateway's; what was not may have been taken or not, and is not sent again.
"""

import asyncio
import random
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

from tests.product import OUR_DOMAIN, PARTNER

REPLY_SECONDS = 60.0
ID_FIELD = b"X-Load-Id: "
NAMES = ("anna", "ben", "carla", "david", "elena", "farid")


@dataclass
class Sent:
    """One offered message. `accepted` is True once 250 was read."""

    ident: str
    recipients: tuple[str, ...]
    raw: bytes
    accepted: bool = False


class Refused(Exception):
    """The server answered something else than was hoped for; carries the reply's code and text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code, self.text = code, text


def make_message(ident: str, chance: random.Random, recipients: tuple[str, ...], size: int) -> bytes:
    """Return a message of about `size` octets with what may get lost: dots, 8-bit text, long lines, blanks."""
    head = [
        f"X-Load-Id: {ident}",
        f"From: Load <load@{PARTNER}>",
        f"To: {', '.join(recipients)}",
        f"Subject: Message {ident}",
        "Date: Mon, 06 Jan 2025 10:00:00 +0000",
        f"Message-ID: <{ident}@{PARTNER}>",
        "MIME-Version: 1.0",
        "X-Folded: one\r\n\ttwo  \r\n three",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
    ]
    odd = [".", "..", ". dot first", "", "Grüße, señor €", "  blanks at the end  ", "x" * 990]
    plain = (f"{chance.getrandbits(256):064x}" for _ in range(size // 66))
    body = [chance.choice(odd) if chance.random() < 0.1 else line for line in plain]
    return ("\r\n".join([*head, *body]) + "\r\n").encode()


class Connection:
    """One SMTP connection, command by command."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int, helo: str = "client.partner.example.com", host: str = "127.0.0.1") -> "Connection":
        """Connect, read the greeting, say EHLO; raise Refused or OSError."""
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = cls(reader, writer)
        try:
            await connection.expect(220)
            await connection.say(f"EHLO {helo}", 250)
        except BaseException:
            connection.close()
            raise
        return connection

    async def reply(self) -> tuple[int, str]:
        """Read one whole reply."""
        async with asyncio.timeout(REPLY_SECONDS):
            while True:
                line = (await self._reader.readuntil(b"\n")).decode("latin-1").strip()
                if line[3:4] != "-":
                    return int(line[:3]), line[4:]

    async def expect(self, code: int) -> str:
        """Read a reply; raise Refused when it is another one."""
        found, text = await self.reply()
        if found != code:
            raise Refused(found, text)
        return text

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def say(self, command: str, code: int) -> str:
        """Send a command and expect the reply."""
        self._writer.write(f"{command}\r\n".encode())
        await self._writer.drain()
        return await self.expect(code)

    async def send(
        self, raw: bytes, recipients: tuple[str, ...], mail_from: str = f"load@{PARTNER}", *, bdat: bool = False
    ) -> str:
        """Send one message to its 250; raise Refused."""
        await self.say(f"MAIL FROM:<{mail_from}> BODY=8BITMIME", 250)
        for recipient in recipients:
            await self.say(f"RCPT TO:<{recipient}>", 250)
        if bdat:
            half = len(raw) // 2
            self._writer.write(b"BDAT %d\r\n" % half + raw[:half])
            await self.expect(250)
            self._writer.write(b"BDAT %d LAST\r\n" % (len(raw) - half) + raw[half:])
        else:
            await self.say("DATA", 354)
            self._writer.write(stuffed(raw))
        await self._writer.drain()
        return await self.expect(250)

    async def quit(self) -> None:
        await self.say("QUIT", 221)
        self.close()

    def close(self) -> None:
        self._writer.transport.abort()


def stuffed(raw: bytes) -> bytes:
    """Return a message with CRLF line ends as it goes over the wire after DATA."""
    dot = b"." if raw.startswith(b".") else b""
    return dot + raw.replace(b"\r\n.", b"\r\n..") + b".\r\n"


class Load:
    """Several connections that send in a thread of their own until told to stop, whatever happens to the server."""

    def __init__(self, port: int, *, seed: int, connections: int = 6, most: int = 10_000, pause: float = 0.0) -> None:
        self.sent: list[Sent] = []
        self.refusals: list[str] = []
        self.extra_recipients: tuple[str, ...] = ()
        self.sizes = (500, 2000, 4000, 8000, 20_000, 150_000)
        self._port, self._seed, self._connections, self._most, self._pause = port, seed, connections, most, pause
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def accepted(self) -> list[Sent]:
        return [sent for sent in self.sent if sent.accepted]

    def wait(self) -> None:
        """Wait until all is sent."""
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._drive())

    async def _drive(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._connections)))

    async def _client(self, number: int) -> None:
        chance = random.Random(f"{self._seed}/{number}")
        while not self._is_over():
            try:
                connection = await Connection.open(self._port)
            except (OSError, EOFError, Refused, TimeoutError):
                await asyncio.sleep(0.1)  # it is down, or on its way up
                continue
            try:
                await self._conversation(connection, number, chance)
            except (OSError, EOFError, TimeoutError):
                pass  # cut: the message's fate stays unknown
            except Refused as refusal:
                self.refusals.append(str(refusal))
            finally:
                connection.close()

    async def _conversation(self, connection: Connection, number: int, chance: random.Random) -> None:
        for _ in range(chance.randint(1, 30)):
            if self._is_over():
                break
            one = self._next(number, chance)
            await connection.send(one.raw, one.recipients, bdat=chance.random() < 0.3)
            one.accepted = True
            if self._pause:
                await asyncio.sleep(self._pause)
        await connection.quit()

    def _next(self, number: int, chance: random.Random) -> Sent:
        ident = f"{self._seed}.{number}.{len(self.sent)}.{time.monotonic_ns():x}"
        names = [*chance.sample(NAMES, chance.choice((1, 1, 1, 2, 3))), *self.extra_recipients]
        recipients = tuple(f"{name}@{OUR_DOMAIN}" for name in names)
        size = chance.choice(self.sizes)
        one = Sent(ident, recipients, make_message(ident, chance, recipients, size))
        self.sent.append(one)
        return one

    def _is_over(self) -> bool:
        return self._stopped.is_set() or len(self.sent) >= self._most


def ident_of(raw: bytes) -> str:
    """Return the id of a message that came out, "" without one."""
    start = raw.find(ID_FIELD)
    return raw[start + len(ID_FIELD) : raw.find(b"\r\n", start)].decode("latin-1") if start >= 0 else ""


def send_one(
    port: int, ident: str, recipients: tuple[str, ...] = (f"anna@{OUR_DOMAIN}",), size: int = 2000, **options: Any
) -> Sent:
    """Send one message on a connection of its own to its 250; raise Refused."""
    sent = Sent(ident, recipients, make_message(ident, random.Random(ident), recipients, size))

    async def send() -> None:
        connection = await Connection.open(port)
        try:
            await connection.send(sent.raw, recipients, **options)
            sent.accepted = True
        finally:
            connection.close()

    asyncio.run(send())
    return sent
