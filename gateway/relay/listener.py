"""The SMTP listener: aiosmtpd's protocol class around one `Conversation`.

aiosmtpd gives the frame: life cycle, session, the task of each connection. Its command loop is replaced, since it
strips line ends, waits for each command by itself and offers no pipelining: here commands are answered right where
octets come in, and the task of a connection (`_handle_client`) only does what must be awaited, the handshake of
STARTTLS and the intake of a message.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, cast

from aiosmtpd.smtp import SMTP

from gateway import log
from gateway.mail import reply as replies
from gateway.relay import refusals, tls
from gateway.relay.conversation import Conversation, StartTls, Take
from gateway.relay.data import DataReader
from gateway.relay.proxy import peer_ip
from gateway.relay.reasons import Refusal
from gateway.relay.services import ListenerSettings, Services

__all__ = ["Listener", "make_protocol"]

# aiosmtpd writes a line for each command.
logging.getLogger("mail.log").disabled = True

PROXY_SECONDS: Final = 10.0  # to send the PROXY header
LINGER_SECONDS: Final = 5.0  # from our last reply until the connection is cut, whatever the peer does
TICK_SECONDS: Final = 15.0  # how often a session's clock is looked at; short limits are looked at more often
SLOW_AFTER_SECONDS: Final = 60.0  # a message is measured after so long
MAX_WAITING: Final = 1 << 16  # octets that may wait while a message is being taken; then the peer is not read from


def make_protocol(settings: ListenerSettings, services: Services) -> Callable[[], "Listener"]:
    """Return what `loop.create_server` wants: a function that makes the protocol of one connection."""
    loop = asyncio.get_running_loop()
    return lambda: Listener(settings, services, loop)


class Listener(SMTP):
    """One connection."""

    def __init__(self, settings: ListenerSettings, services: Services, loop: asyncio.AbstractEventLoop) -> None:
        # Not aiosmtpd's own __init__: at each connection it looks through all attributes for AUTH mechanisms and
        # handler hooks (0.13 ms), and there are none. What follows is what the parts of the frame that are in use
        # read.
        asyncio.StreamReaderProtocol.__init__(self, asyncio.StreamReader(loop=loop), self._cb_client_connected, loop)
        self.loop = loop
        self.hostname = settings.hostname
        self.tls_context = settings.tls_context
        self.transport: asyncio.Transport | None = None
        self._original_transport = None
        self._tls_protocol = None
        self._timeout_handle: asyncio.TimerHandle | None = None
        self._handler_coroutine: asyncio.Task[None] | None = None
        self._settings = settings
        self._services = services
        self._talk: Conversation | None = None
        self._wake: asyncio.Future[None] | None = None  # what `_handle_client` waits for when there is nothing to do
        self._is_lost = False
        self._has_ended = False  # the peer will send no more
        self._is_stuck = False  # the peer does not read our replies
        self._is_paused = False
        self._is_continuing = False  # `_continue` is under way
        self._is_handshaking = False
        self._heard_at = self._began_at = self._body_began_at = self._hung_up_at = 0.0
        self._watched: object = None  # the transaction whose message is being timed

    # --- Life cycle ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = cast(asyncio.Transport, transport)
        self._began_at = self._heard_at = self.loop.time()
        peer = connection.get_extra_info("peername")
        self._talk = self._begin(peer_ip(peer[0]) if peer else "")
        if self._talk is None or self._talk.is_over:
            self._is_lost = True  # turned away: nothing was begun that would have to be ended
            if self._talk is not None:
                connection.write(b"".join(self._talk.out))
            connection.close()
            return
        self._services.sessions.add(self)
        super().connection_made(transport)
        self._serve()

    def _begin(self, ip: str) -> Conversation | None:
        """Open the conversation; None after an error of ours."""
        try:
            talk = Conversation(self._settings, self._services, ip)
            talk.open()
        except Exception as error:  # border: one connection
            log.error("session.failed", error=f"{type(error).__name__}: {error}", peer=ip)
            return None
        return talk

    def connection_lost(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            if self._timeout_handle is not None:
                self._timeout_handle.cancel()
            if self._talk is not None:
                self._talk.lose()
            # Not cancelled as aiosmtpd does it: a message that is being taken is ours whether or not the peer hears
            # of it.
            self._wake_up()
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        self.transport = None

    def data_received(self, data: bytes) -> None:
        talk = self._talk
        if talk is None or self._is_lost:
            return
        self._heard_at = self.loop.time()
        if type(talk.step) is StartTls and not self._is_handshaking:
            self.abort()  # neither read as a command nor, later, as if it had been protected
            return
        try:
            talk.receive(data)
        except Exception as error:  # border: one connection
            self._fail(error)
        self._serve()

    def eof_received(self) -> bool:
        self._has_ended = True
        self._serve()
        # RFC 5321 says nothing of half-closed connections; replies still reach who shut down only the sending side.
        # TLS cannot.
        return self._talk is not None and self._talk.session.tls is None and not self._talk.is_over

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_stuck = True
        self._set_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_stuck = False
        self._continue_soon()

    def drain(self) -> None:
        if self._talk is not None and not self._is_lost:
            self._talk.drain()
            self._serve()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    # --- Output and steps ---------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Write the replies there are, all at once, and see to what comes next."""
        talk = self._talk
        transport = self.transport
        if talk is None or transport is None or self._is_lost:
            return
        out = talk.out
        if out:
            transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()
        if talk.step is not None:
            if type(talk.step) is Take:
                if talk.waiting > MAX_WAITING:
                    self._set_reading()
            elif not self._is_handshaking:
                # The client's first octets of TLS must not be read as commands.
                transport.pause_reading()
            self._wake_up()
        elif talk.is_over or (self._has_ended and not talk.has_more):
            self._hang_up()
        else:
            if talk.has_more:
                self._continue_soon()
            if self._is_paused or talk.waiting > MAX_WAITING:
                self._set_reading()

    def _continue_soon(self) -> None:
        if not self._is_continuing:
            self._is_continuing = True
            self.loop.call_soon(self._continue)

    def _continue(self) -> None:
        """Go on with what has been received but not answered."""
        self._is_continuing = False
        talk = self._talk
        if talk is None or self._is_lost or self._is_stuck or talk.is_over:
            return
        if talk.has_more and talk.step is None:
            try:
                talk.proceed()
            except Exception as error:  # border: one connection
                self._fail(error)
        self._serve()

    def _set_reading(self) -> None:
        """Read from the peer unless it does not take our replies or sends more than we can answer now."""
        talk, transport = self._talk, self.transport
        if talk is None or transport is None or transport.is_closing():
            return
        pause = self._is_stuck or talk.waiting > MAX_WAITING
        if pause != self._is_paused:
            self._is_paused = pause
            if pause:
                transport.pause_reading()
            else:
                transport.resume_reading()

    def _hang_up(self) -> None:
        """End the connection so that our last reply arrives: a close with unread input would reset it."""
        talk, transport = self._talk, self.transport
        if self._hung_up_at or talk is None or transport is None:
            return
        self._hung_up_at = self.loop.time()
        if talk.is_polite_end or self._has_ended or not transport.can_write_eof():
            transport.close()
        else:
            try:
                transport.write_eof()
            except OSError:  # the peer has cut the connection, and the loop has not heard of it yet
                transport.abort()
                return
            if self._is_paused:
                self._is_paused = False
                transport.resume_reading()  # into nothing
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        self._timeout_handle = self.loop.call_later(LINGER_SECONDS, self.abort)

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _handle_client(self) -> None:
        """Do what must be awaited, one step after the other, until the connection is gone."""
        try:
            talk = self._talk
            assert talk is not None
            while True:
                step = talk.step
                if type(step) is Take:
                    await self._take(talk, step)
                elif self._is_lost:
                    return
                elif type(step) is StartTls:
                    await self._start_tls(talk)
                else:
                    self._wake = self.loop.create_future()
                    await self._wake
        finally:
            self._services.sessions.discard(self)

    async def _take(self, talk: Conversation, step: Take) -> None:
        try:
            intake = self._services.intake
            reply = await intake.take(step.session, step.envelope, step.raw, step.policy, has_dots=step.has_dots)
        except Exception as error:  # border: one message
            log.error("session.failed", error=f"{type(error).__name__}: {error}", peer=step.session.peer_ip)
            reply = replies.LOCAL_ERROR
        self._heard_at = self.loop.time()
        try:
            talk.answered(reply)
        except Exception as error:  # border: one connection
            self._fail(error)
        self._serve()

    async def _start_tls(self, talk: Conversation) -> None:
        transport, context = self.transport, self.tls_context
        assert transport is not None
        assert context is not None
        self._is_handshaking = True
        try:
            secured = await tls.secure(transport, self, context)
        except Exception:  # border: whatever went wrong in a handshake, there is no connection to go on with
            talk.step = None
            talk.hang_up(refusals.TLS_FAILED)
            transport.abort()
            self.connection_lost(None)  # asyncio does not tell of it when the handshake fails
            return
        self.transport = secured
        self._heard_at = self.loop.time()
        self._is_paused = False
        try:
            talk.secured(tls.describe(secured.get_extra_info("ssl_object")))
        except Exception as error:  # border: one connection
            self._fail(error)
        self._serve()

    def _fail(self, error: Exception) -> None:
        talk = self._talk
        assert talk is not None
        log.error("session.failed", error=f"{type(error).__name__}: {error}", peer=talk.session.peer_ip)
        talk.step = None
        talk.hang_up(refusals.FAILED)

    # --- Time ---------------------------------------------------------------------------------------------------------

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Set the one timer of the connection. It looks at the clock now and then; no command resets anything."""
        if duration is None:
            duration = TICK_SECONDS
            if (talk := self._talk) is not None:
                limits = talk.limits
                shortest = min(limits.idle_seconds, limits.session_seconds, limits.data_seconds)
                duration = min(duration, (min(shortest, PROXY_SECONDS) if talk.expects_proxy else shortest) / 4)
        self._timeout_handle = self.loop.call_later(duration, self._timeout_cb)

    def _timeout_cb(self) -> None:
        talk = self._talk
        if talk is None or self._is_lost or self._hung_up_at:
            return
        overdue = self._overdue(talk, self.loop.time())
        if overdue is not None:
            talk.hang_up(overdue)
            self._serve()
            return
        self._reset_timeout()

    def _overdue(self, talk: Conversation, now: float) -> Refusal | None:
        """Tell why the peer has had time enough, or None. While a message is being taken the time is ours."""
        limits = talk.limits
        if talk.step is not None:
            return None
        if talk.expects_proxy:
            return refusals.BAD_PROXY_HEADER if now - self._began_at >= PROXY_SECONDS else None
        if now - self._heard_at >= limits.idle_seconds:
            return refusals.IDLE
        if now - self._began_at >= limits.session_seconds:
            return refusals.SESSION_TOO_LONG
        return self._overdue_message(talk, now)

    def _overdue_message(self, talk: Conversation, now: float) -> Refusal | None:
        transaction = talk.transaction
        in_message = transaction is not None and (type(talk.body) is DataReader or transaction.chunks is not None)
        if not in_message:
            self._watched = None
        elif self._watched is not transaction:
            self._watched, self._body_began_at = transaction, now
        else:
            limits, took = talk.limits, now - self._body_began_at
            if took >= limits.data_seconds:
                return refusals.DATA_TOO_SLOW
            if took >= SLOW_AFTER_SECONDS and talk.received < took * limits.data_bytes_per_second:
                return refusals.DATA_TOO_SLOW
        return None
