"""The client's end of one SMTP connection: replies in, bytes out, limits and time-outs on both (RFC 5321 section 4.2).

A host that says more than it was asked, or says it before it was asked, is out of step with us: the connection is given
up, because every later reply would be taken for another command's. What commands mean is `client`'s business.
"""

import asyncio
import re
import ssl
from collections import deque
from functools import lru_cache
from typing import cast

from gateway.mail.reply import Reply

MAX_LINE = 2048  # octets of one reply line; RFC 5321 section 4.5.3.1.5 has 512, real hosts more
MAX_LINES = 100
MAX_REPLY = 8192  # octets of one reply
MAX_STORED = 512  # characters of a reply that are kept in rows and logs
WRITE_AHEAD = 256 * 1024  # octets that may wait in the transport before the writer waits

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(?:([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|$))?(.*))?", re.DOTALL)


class HostReply(Reply, frozen=True):
    """What a host said, its lines parted by LF; or, `is_local`, what we say for it because it said nothing of use."""

    is_local: bool = False

    def __str__(self) -> str:
        """Return it on one line, as it is stored and shown; without a code when it is our own."""
        if "\n" not in self.text and self.text.isprintable():  # nearly always
            text = f"{self.enhanced} {self.text}".strip()
            return (text if self.is_local else f"{self.code} {text}")[:MAX_STORED]
        text = " ".join(word for word in (self.enhanced, *self.text.split()) if word)
        clean = "".join(letter if letter.isprintable() else "?" for letter in text) if not text.isprintable() else text
        return (clean if self.is_local else f"{self.code} {clean}")[:MAX_STORED]


def local_reply(enhanced: str, text: str) -> HostReply:
    """Return a result of our own finding; the class of `enhanced` says whether it is permanent."""
    return HostReply(550 if enhanced.startswith("5") else 450, enhanced, text, is_local=True)


def _reply(code: bytes, enhanced: bytes | None, text: bytes) -> HostReply:
    # RFC 2034 section 4: the class of the enhanced code is the reply's first digit; another one is just text.
    status = enhanced.decode() if enhanced is not None and enhanced[:1] == code[:1] else ""
    return HostReply(int(code), status, text.decode("utf-8", "replace"))


@lru_cache(256)
def _single_line(line: bytes) -> HostReply | None:
    """Return a short reply of one line; None for anything else."""
    found = _LINE.fullmatch(line.removesuffix(b"\r")) if len(line) < MAX_STORED else None
    if found is None or found[2] == b"-":
        return None
    return _reply(found[1], found[3], found[4] or b"")


class Lost(Exception):
    """The connection cannot be used any more. `reply` is the host's parting word when it had one (a 421)."""

    def __init__(self, why: str, reply: HostReply | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.reply = reply


class ReplyStream(asyncio.Protocol):
    """Used by one coroutine at a time. Expects the greeting, then a reply for each command that `send` announces."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._lines: list[bytes] = []
        self._size = 0
        self._replies: deque[HostReply] = deque()
        self._expected = 1
        self._lost: Lost | None = None
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # -- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(WRITE_AHEAD)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"connection lost: {error}" if error is not None else "connection closed by the host")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        if self._lost is not None:
            return
        *lines, self._rest = (self._rest + data if self._rest else data).split(b"\n")
        for line in lines:
            # Most replies are one line, and one of a few.
            reply = _single_line(line) if not self._lines else None
            if reply is None:
                reply = self._take_line(line)
            if reply is not None and self._expected:
                self._expected -= 1
                self._replies.append(reply)
            elif reply is not None:
                self._fail(f"unexpected reply: {reply}", reply if reply.code >= 400 else None)
            if self._lost is not None:
                return
        if len(self._rest) > MAX_LINE:
            self._fail("reply line too long")
        if self._replies:
            self._wake()

    def _take_line(self, line: bytes) -> HostReply | None:
        """Add a line to the reply that has begun; return it when it is whole."""
        line = line.removesuffix(b"\r")
        found = _LINE.fullmatch(line)
        if found is None or len(line) > MAX_LINE:
            self._fail("reply line too long" if len(line) > MAX_LINE else "not an SMTP reply")
            return None
        code, more, enhanced, text = found.groups()
        self._size += len(line)
        if len(self._lines) >= MAX_LINES or self._size > MAX_REPLY:
            self._fail("reply too long")
            return None
        self._lines.append(text or b"")
        if more == b"-":
            return None
        reply = _reply(code, enhanced, b"\n".join(self._lines))
        self._lines.clear()
        self._size = 0
        return reply

    # -- what the client calls

    @property
    def is_quiet(self) -> bool:
        """True when the connection stands and nothing is owed or left over: it can carry another transaction."""
        return self._lost is None and not (self._expected or self._replies or self._rest or self._lines)

    def send(self, data: bytes, replies: int) -> None:
        """Write commands that will be answered by so many replies; a lost connection is noticed when they are read."""
        self._expected += replies
        self.write(data)

    def write(self, data: bytes | memoryview) -> None:
        """Write what is not answered yet: a piece of a message."""
        if self._lost is None and self._transport is not None:
            self._transport.write(data)

    async def room(self, seconds: float) -> None:
        """Wait until more can be written; raise Lost."""
        while self._is_paused and self._lost is None:
            await self._waking(seconds)
        if self._lost is not None:
            raise self._lost

    async def reply(self, seconds: float) -> HostReply:
        """Return the next reply; raise Lost, also after `seconds` without a whole one."""
        while not self._replies:
            if self._lost is not None:
                raise self._lost
            await self._waking(seconds)
        return self._replies.popleft()

    async def is_go_ahead(self, count: int, seconds: float) -> bool:
        """Wait for the first of `count` replies to MAIL, RCPTs and DATA. True: all came, all say yes, and are taken.

        False takes nothing: whoever asked reads the replies one by one. Raises Lost, also after `seconds`.
        """
        replies = self._replies
        while not replies:
            if self._lost is not None:
                raise self._lost
            await self._waking(seconds)
        codes = [reply.code for reply in replies]
        # A 354 before the last is a host out of step.
        if len(codes) != count or codes[-1] != 354 or max(codes[:-1]) >= 300:
            return False
        replies.clear()
        return True

    async def start_tls(self, context: ssl.SSLContext, server_name: str, seconds: float) -> str:
        """Go over to TLS; return protocol version and cipher. Raises OSError, ssl.SSLError, ValueError."""
        if self._transport is None:
            raise ConnectionResetError("not connected")
        transport = await self._loop.start_tls(
            self._transport, self, context, server_hostname=server_name, ssl_handshake_timeout=seconds
        )
        if transport is None:  # closed in the meantime
            raise ConnectionResetError("connection closed in the handshake")
        self._transport = transport
        transport.set_write_buffer_limits(WRITE_AHEAD)
        version, cipher = transport.get_extra_info("ssl_object").version(), transport.get_extra_info("cipher")
        return f"{version} {cipher[0]}"

    def close(self) -> None:
        """Close once everything written has gone out."""
        self._lost = self._lost or Lost("connection closed")
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._fail("connection closed")

    # -- inside

    def _fail(self, why: str, reply: HostReply | None = None) -> None:
        if self._lost is None:
            self._lost = Lost(why, reply)
            if self._transport is not None:
                self._transport.abort()
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _waking(self, seconds: float) -> asyncio.Future[None]:
        """Return what is done when something happens, at the latest after so long. One waits at a time."""
        self._deadline = self._loop.time() + seconds
        # One timer serves many waits: it is set anew only for a deadline before its own.
        if self._timer is None or self._timer_at > self._deadline:
            self._set_timer()
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._on_timer)
        self._timer_at = self._deadline

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._deadline:
            self._set_timer()
        else:
            self._fail("timed out")
