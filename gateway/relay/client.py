"""Our SMTP client: one connection to a next hop, and mail transactions over it (RFC 5321, 2920, 3207).

Expected trouble is a value: `send` always returns an outcome with a reply for every recipient. Only opening raises,
since without a connection there is nothing to say about recipients. Which host, how many connections and when to try
again are decided by `hops`, `pool` and `retry`.
"""

import asyncio
import contextlib
import ssl

from msgspec import Struct

from gateway.relay.adaptation import adapt
from gateway.relay.attempt import Attempt
from gateway.relay.dots import slices, stuffed, stuffed_whole
from gateway.relay.parcel import Outcome, Parcel, mail_command, rcpt_command
from gateway.relay.reply_stream import HostReply, Lost, ReplyStream, local_reply

SMALL = 64 * 1024  # octets of a message that is written at once


class Endpoint(Struct, frozen=True, cache_hash=True):
    """One address of a next hop and how to speak to it.

    `host` is its name, "" where only the address is known. `tls` is never, opportunistic or required. `is_mx`: somebody
    else's DNS led here, so it may be ourselves.
    """

    host: str
    address: str
    port: int
    tls: str = "opportunistic"
    is_mx: bool = False

    def __str__(self) -> str:
        """Return `mx.example [192.0.2.1]:25`, as results and logs have it."""
        return f"{self.host} [{self.address}]:{self.port}".lstrip()


class Timeouts(Struct, frozen=True):
    """Seconds to wait for each step; the defaults are those of RFC 5321 section 4.5.3.2."""

    connect: float = 30.0
    tls: float = 60.0
    greeting: float = 300.0
    hello: float = 300.0
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0
    final: float = 600.0
    quit: float = 5.0


class Unreachable(Exception):
    """There is no usable connection. `reply` says why; it is temporary but for a loop."""

    def __init__(self, reply: HostReply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class TlsFailed(Exception):
    """The host offered STARTTLS and it came to nothing; the connection is gone."""


def client_context() -> ssl.SSLContext:
    """Return the context for next hops: encryption without proof of identity (RFC 7435), TLS 1.2 and up (RFC 8996)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def connect(endpoint: Endpoint, *, hostname: str, timeouts: Timeouts, context: ssl.SSLContext) -> "Connection":
    """Open a connection as far as the answer to EHLO, over TLS where level and host allow. Raises Unreachable.

    Opportunistic TLS that fails falls back to a new connection in clear: RFC 7435 prefers mail in clear to no mail.
    """
    if endpoint.tls == "never":
        return await _connect(endpoint, hostname, timeouts, None)
    try:
        return await _connect(endpoint, hostname, timeouts, context)
    except TlsFailed as failure:
        if endpoint.tls == "required":
            # RFC 3463: X.7.5 cryptographic failure.
            raise Unreachable(local_reply("4.7.5", f"TLS is required and failed: {failure}")) from None
        return await _connect(endpoint, hostname, timeouts, None)


async def _connect(
    endpoint: Endpoint, hostname: str, timeouts: Timeouts, context: ssl.SSLContext | None
) -> "Connection":
    loop = asyncio.get_running_loop()
    stream = ReplyStream(loop)
    try:
        async with asyncio.timeout(timeouts.connect):
            await loop.create_connection(lambda: stream, endpoint.address, endpoint.port)
    except TimeoutError:
        raise Unreachable(local_reply("4.4.1", f"connecting to {endpoint} timed out")) from None
    except OSError as error:
        raise Unreachable(local_reply("4.4.1", f"cannot connect to {endpoint}: {_reason(error)}")) from None
    connection = Connection(stream, endpoint, timeouts)
    try:
        await connection.greet(hostname)
        if context is not None:
            await connection.secure(context, hostname)
    except Lost as lost:
        raise Unreachable(local_reply("4.4.2", f"{endpoint} at the start: {lost.why}")) from None
    except BaseException:
        stream.abort()
        raise
    return connection


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _is_done(reply: HostReply) -> bool:
    return 200 <= reply.code < 300


def _as_temporary(reply: HostReply, step: str) -> HostReply:
    return local_reply("4.3.2", f"{step}: {reply}")


class Connection:
    """One connection past EHLO. `sent` counts its transactions, `idle_since` is the pool's."""

    def __init__(self, stream: ReplyStream, endpoint: Endpoint, timeouts: Timeouts) -> None:
        self._stream = stream
        self._timeouts = timeouts
        self._pipelines = False
        self.endpoint = endpoint
        self.extensions: dict[str, str] = {}
        self.host_name = ""  # as the host calls itself in the answer to EHLO
        self.tls = ""
        self.sent = 0
        self.idle_since = 0.0

    @property
    def is_usable(self) -> bool:
        """True when nothing stands between us and another transaction."""
        return self._stream.is_quiet

    # -- the beginning

    async def greet(self, hostname: str) -> None:
        """Wait for the greeting and say EHLO, or HELO to a host that knows no better. Raises Lost, Unreachable."""
        greeting = await self._stream.reply(self._timeouts.greeting)
        if greeting.code != 220:
            # A 5xx greeting is a host out of service (RFC 5321 section 3.1); the mail may have another or wait.
            raise Unreachable(_as_temporary(greeting, "greeting"))
        reply = await self._hello("EHLO", hostname)
        if reply.is_permanent:
            reply = await self._hello("HELO", hostname)  # RFC 5321 section 3.2
        if not _is_done(reply):
            raise Unreachable(_as_temporary(reply, "HELO"))
        if self.endpoint.is_mx and self.host_name == hostname.lower():
            # The name is ours: the address is one of ours that we do not know of, or is led back to us.
            raise Unreachable(local_reply("5.4.6", f"{self.endpoint} calls itself {hostname}, like us: a loop"))

    async def _hello(self, verb: str, hostname: str) -> HostReply:
        self._stream.send(f"{verb} {hostname}\r\n".encode(), 1)
        reply = await self._stream.reply(self._timeouts.hello)
        if _is_done(reply):
            first, *lines = reply.text.split("\n")
            self.host_name = first.split(" ", 1)[0].lower()
            self.extensions = {}
            if verb == "EHLO":
                for line in lines:
                    keyword, _, value = line.strip().partition(" ")
                    self.extensions[keyword.upper()] = value
            self._pipelines = "PIPELINING" in self.extensions
        return reply

    async def secure(self, context: ssl.SSLContext, hostname: str) -> None:
        """Go over to TLS. Raises TlsFailed, Lost, and Unreachable where TLS is required and not offered."""
        if "STARTTLS" not in self.extensions:
            if self.endpoint.tls == "required":
                # RFC 3463: X.7.4 security features not supported.
                raise Unreachable(local_reply("4.7.4", f"TLS is required and {self.endpoint} does not offer it"))
            return
        self._stream.send(b"STARTTLS\r\n", 1)
        try:
            reply = await self._stream.reply(self._timeouts.mail)
        except Lost as lost:
            raise TlsFailed(f"STARTTLS: {lost.why}") from None
        if reply.code != 220:
            self._stream.abort()
            raise TlsFailed(f"STARTTLS refused: {reply}")
        if not self._stream.is_quiet:
            # What came before the handshake would be taken for the protected host's word.
            self._stream.abort()
            raise TlsFailed("the host spoke before the handshake")
        try:
            self.tls = await self._stream.start_tls(
                context, self.endpoint.host or self.endpoint.address, self._timeouts.tls
            )
            # RFC 3207 section 4.2: all that was learnt before is forgotten.
            reply = await self._hello("EHLO", hostname)
        except Lost as lost:
            raise TlsFailed(f"connection lost after the handshake: {lost.why}") from None
        except (OSError, ValueError) as error:
            self._stream.abort()
            raise TlsFailed(f"handshake failed: {error}") from None
        if not _is_done(reply):
            self._stream.abort()
            raise TlsFailed(f"EHLO refused after the handshake: {reply}")

    # -- a transaction

    async def send(self, parcel: Parcel) -> Outcome:
        """Carry one transaction through; return what became of each recipient. Never raises for what the host does."""
        is_kept = self.sent > 0
        self.sent += 1
        attempt = Attempt(parcel)
        parcel = await adapt(parcel, self.extensions, attempt)
        try:
            if attempt.open:
                await self._transact(parcel, attempt)
        except Lost as lost:
            attempt.lose(lost)
        except BaseException:
            self._stream.abort()
            raise
        if attempt.is_host_leaving:
            self._stream.close()
        return attempt.outcome(is_kept=is_kept, passes_dsn="DSN" in self.extensions, tls=self.tls)

    async def _transact(self, parcel: Parcel, attempt: Attempt) -> None:
        """Send MAIL, RCPT and DATA, then the message and its final dot if the host waits for it."""
        # A small message is put together once: to see its octets, and to be sent.
        small = stuffed_whole(parcel.pieces) if parcel.size <= SMALL else None
        eight_bits = "8BITMIME" in self.extensions and (
            parcel.body != "7BIT" or (not small.isascii() if small is not None else parcel.has_eight_bits)
        )
        mail = mail_command(parcel, self.extensions, eight_bits=eight_bits)
        todo = list(attempt.open)
        recipients = [rcpt_command(parcel.recipients[position], self.extensions) for position in todo]
        if self._pipelines:
            # RFC 2920 section 3.1: MAIL, RCPT and DATA in one group; a reply for each comes, whatever the others say.
            count = len(recipients) + 2
            self._stream.send(b"".join((mail, *recipients, b"DATA\r\n")), count)
            if await self._stream.is_go_ahead(count, self._timeouts.mail):
                attempt.take_go_ahead()
            elif not await self._envelope_at_once(todo, attempt):
                return
        elif not await self._envelope_by_steps(mail, recipients, todo, attempt):
            return
        if small is None:
            await self._write_pieces(parcel)
        self._stream.send(small or b".\r\n", 1)
        attempt.is_sent = True
        attempt.take_final(await self._stream.reply(self._timeouts.final))

    async def _envelope_at_once(self, todo: list[int], attempt: Attempt) -> bool:
        """Read the replies to an envelope sent in one group; return whether the host waits for the message."""
        stream = self._stream
        attempt.take_mail(await stream.reply(self._timeouts.mail))
        for position in todo:
            attempt.take_rcpt(position, await stream.reply(self._timeouts.rcpt))
        reply = await stream.reply(self._timeouts.data)
        if reply.code != 354:
            attempt.take_data(reply)
            await self._reset()
        elif attempt.open:
            return True
        elif attempt.has_sender:
            # RFC 2920 section 3.1: the host waits for a message to nobody; an empty one gets us out of it.
            stream.send(b".\r\n", 1)
            await stream.reply(self._timeouts.final)
        else:
            stream.abort()  # It refused the sender and yet takes a message: out of step.
        return False

    async def _envelope_by_steps(self, mail: bytes, recipients: list[bytes], todo: list[int], attempt: Attempt) -> bool:
        """Send the envelope one command at a time; return whether the host waits for the message."""
        stream = self._stream
        stream.send(mail, 1)
        attempt.take_mail(await stream.reply(self._timeouts.mail))
        if attempt.open:
            for position, command in zip(todo, recipients, strict=True):
                stream.send(command, 1)
                attempt.take_rcpt(position, await stream.reply(self._timeouts.rcpt))
        if attempt.open:
            stream.send(b"DATA\r\n", 1)
            reply = await stream.reply(self._timeouts.data)
            if reply.code == 354:
                return True
            attempt.take_data(reply)
        await self._reset()
        return False

    async def _reset(self) -> None:
        self._stream.send(b"RSET\r\n", 1)
        if not _is_done(await self._stream.reply(self._timeouts.mail)):
            self._stream.abort()

    async def _write_pieces(self, parcel: Parcel) -> None:
        for chunk in stuffed(parcel.pieces) if parcel.has_dots else slices(parcel.pieces):
            self._stream.write(chunk)
            await self._stream.room(self._timeouts.block)

    # -- the end

    async def quit(self) -> None:
        """Take leave in good order, in little time."""
        if self._stream.is_quiet:
            self._stream.send(b"QUIT\r\n", 1)
            with contextlib.suppress(Lost):
                await self._stream.reply(self._timeouts.quit)
        self._stream.close()

    def abort(self) -> None:
        """Close at once."""
        self._stream.abort()
