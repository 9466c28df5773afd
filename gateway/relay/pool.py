"""Kept connections to next hops: as many as a destination stands, shared fairly between the sources of the mail.

A destination is one endpoint. It begins with a few connections at once, gets one more for each parcel that went through
and half as many after a failure to connect. Whoever finds it full waits in the line of its source, and the lines take
turns. What to do with an outcome, and when to try a dead host again, is decided by `delivery`.
"""

import asyncio
import ssl
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from msgspec import Struct

from gateway.relay.client import Connection, Endpoint, Timeouts, Unreachable, client_context, connect
from gateway.relay.parcel import Outcome, Parcel
from gateway.relay.reply_stream import local_reply

FIRST_WINDOW = 5  # connections at once to a destination of which nothing is known yet
CALM_SECONDS = 10.0  # after a failure to connect the window does not grow so long
SWEEP_SECONDS = 5.0


class Crowded(Unreachable):
    """It is not the host: too much is on its way already."""


class PoolSettings(Struct, frozen=True):
    """Limits of one process's connections."""

    idle_seconds: float = 30.0
    parcels_per_connection: int = 100
    connections: int = 400  # in all; each needs a descriptor
    wait_seconds: float = 30.0  # in line for a full destination, then the queue has the mail
    timeouts: Timeouts = Timeouts()


class Pool:
    """One for each process. `hostname` is asked for each new connection: what EHLO says."""

    def __init__(
        self,
        hostname: Callable[[], str],
        settings: PoolSettings = PoolSettings(),  # noqa: B008 (frozen)
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._hostname = hostname
        self._settings = settings
        self._context = context or client_context()
        self._destinations: dict[Endpoint, _Destination] = {}
        self._free = asyncio.Semaphore(settings.connections)
        self._reserving = 0
        self._leaving: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def send(self, endpoint: Endpoint, parcel: Parcel, *, source: str, max_connections: int) -> Outcome:
        """Send a parcel over a kept or a new connection. Raises Unreachable when none can be had.

        `source` is whose line it waits in; `max_connections` is the route's limit for the endpoint.
        """
        destination = self._destinations.get(endpoint)
        if destination is None:
            destination = self._destinations[endpoint] = _Destination()
        destination.limit = max_connections
        destination.users += 1
        try:
            while True:
                connection = self._idle_connection(destination) or await self._take(endpoint, destination, source)
                is_well = False
                try:
                    outcome = await connection.send(parcel)
                    is_well = not outcome.is_stale
                finally:
                    self._give_back(destination, connection, is_well=is_well)
                if is_well:
                    return outcome
        finally:
            destination.users -= 1
            if not destination.users and not destination.open:
                self._destinations.pop(endpoint, None)

    @property
    def open_connections(self) -> int:
        return sum(destination.open for destination in self._destinations.values())

    @property
    def destinations(self) -> int:
        return len(self._destinations)

    async def close(self) -> None:
        """Take leave of every idle connection; those in use are closed when their parcel is through."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for destination in self._destinations.values():
            while destination.idle:
                self._leave(destination, destination.idle.popleft())
        await asyncio.gather(*self._leaving)

    # -- taking

    async def _take(self, endpoint: Endpoint, destination: "_Destination", source: str) -> Connection:
        while True:
            connection = self._idle_connection(destination)
            if connection is None:
                if destination.has_room:
                    destination.open += 1
                else:
                    connection = await self._wait_in_line(destination, source)
            if connection is None:
                connection = await self._open(endpoint, destination)
            if connection is not None:
                return connection

    def _idle_connection(self, destination: "_Destination") -> Connection | None:
        while destination.idle:
            connection = destination.idle.pop()  # the one used last: the others may grow old and go
            if connection.is_usable:
                return connection
            self._drop(destination, connection)
        return None

    async def _open(self, endpoint: Endpoint, destination: "_Destination") -> Connection | None:
        """Connect; the place is counted already. None: the host takes no more than it has, so wait for one."""
        try:
            await self._reserve()
            try:
                return await connect(
                    endpoint, hostname=self._hostname(), timeouts=self._settings.timeouts, context=self._context
                )
            except BaseException:
                self._free.release()
                raise
        except Crowded:
            destination.open -= 1
            destination.call_next()
            raise
        except Unreachable as error:
            destination.open -= 1
            destination.fail(error, time.monotonic())
            if not destination.open:
                raise
            return None
        except BaseException:
            destination.open -= 1
            destination.call_next()
            raise

    async def _reserve(self) -> None:
        """Take one of the process's connections, at the cost of an idle one elsewhere when they are all in use."""
        if self._free.locked():
            for destination in self._destinations.values():
                if destination.idle:
                    self._drop(destination, destination.idle.popleft())
                    break
        if not self._free.locked():
            await self._free.acquire()
            return
        self._reserving += 1  # whoever has done with a connection gives it up meanwhile
        try:
            async with asyncio.timeout(self._settings.wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise Crowded(local_reply("4.3.2", "all connections are in use")) from None
        finally:
            self._reserving -= 1

    async def _wait_in_line(self, destination: "_Destination", source: str) -> Connection | None:
        """Return a connection handed over, or None for a place that has been counted for us. Raises Unreachable."""
        loop = asyncio.get_running_loop()
        ticket: _Ticket = loop.create_future()
        destination.lines.setdefault(source, deque()).append(ticket)
        timer = loop.call_later(self._settings.wait_seconds, destination.turn_away, source, ticket)
        try:
            return await ticket
        except asyncio.CancelledError:
            self._return_ticket(destination, source, ticket)
            raise
        finally:
            timer.cancel()

    def _return_ticket(self, destination: "_Destination", source: str, ticket: "_Ticket") -> None:
        """Leave the line; pass on what was handed over in the same moment."""
        if ticket.cancelled():
            destination.leave_line(source, ticket)
        elif ticket.exception() is None:
            connection = ticket.result()
            if connection is not None:
                self._give_back(destination, connection, is_well=False)
            else:
                destination.open -= 1
                destination.call_next()

    # -- giving back

    def _give_back(self, destination: "_Destination", connection: Connection, *, is_well: bool) -> None:
        now = time.monotonic()
        if is_well:
            destination.succeed(now)
        if not connection.is_usable:
            self._drop(destination, connection)
        elif connection.sent >= self._settings.parcels_per_connection or self._is_closed:
            self._leave(destination, connection)
        elif not destination.hand_over(connection):
            self._put_aside(destination, connection, now)
        if destination.lines:
            destination.call_next()

    def _put_aside(self, destination: "_Destination", connection: Connection, now: float) -> None:
        if self._reserving:  # somebody needs its place
            self._leave(destination, connection)
            return
        connection.idle_since = now
        destination.idle.append(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _drop(self, destination: "_Destination", connection: Connection) -> None:
        connection.abort()
        destination.open -= 1
        self._free.release()

    def _leave(self, destination: "_Destination", connection: Connection) -> None:
        """Say QUIT in the background; the place is free already."""
        destination.open -= 1
        self._free.release()
        task = asyncio.ensure_future(connection.quit())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _sweep(self) -> None:
        """Close what has been idle too long, and forget destinations without connections."""
        loop = asyncio.get_running_loop()
        old = time.monotonic() - self._settings.idle_seconds
        is_any_idle = False
        for endpoint, destination in list(self._destinations.items()):
            while destination.idle and (destination.idle[0].idle_since <= old or not destination.idle[0].is_usable):
                self._leave(destination, destination.idle.popleft())
            is_any_idle = is_any_idle or bool(destination.idle)
            if not destination.open and not destination.users:
                del self._destinations[endpoint]
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep) if is_any_idle else None


# What one waits for: a connection, or None for a place to open one.
_Ticket = asyncio.Future[Connection | None]


class _Destination:
    """The connections to one endpoint and who waits for them. `open` counts those in use, idle and being opened."""

    def __init__(self) -> None:
        self.idle: deque[Connection] = deque()
        self.open = 0
        self.users = 0  # parcels on their way
        self.limit = FIRST_WINDOW
        # One line for each source; the first line is served next and goes to the end.
        self.lines: OrderedDict[str, deque[_Ticket]] = OrderedDict()
        self._window = FIRST_WINDOW
        self._calm_until = 0.0

    @property
    def has_room(self) -> bool:
        return self.open < min(self._window, self.limit)

    def succeed(self, now: float) -> None:
        if self._window < self.limit and now >= self._calm_until:
            self._window += 1

    def fail(self, error: Unreachable, now: float) -> None:
        """Note a failure to connect. With no other connection the host is down for all who wait."""
        self._window = max(1, min(self._window // 2, self.open))
        self._calm_until = now + CALM_SECONDS
        if self.open:
            return
        for line in self.lines.values():
            for ticket in line:
                if not ticket.done():
                    ticket.set_exception(Unreachable(error.reply))
        self.lines.clear()

    def hand_over(self, connection: Connection) -> bool:
        """Give a connection to whoever is next; False when nobody waits."""
        ticket = self._next()
        if ticket is not None:
            ticket.set_result(connection)
        return ticket is not None

    def call_next(self) -> None:
        """Give the next in line a place to open a connection, if there is one."""
        if self.has_room and (ticket := self._next()) is not None:
            self.open += 1
            ticket.set_result(None)

    def _next(self) -> _Ticket | None:
        while self.lines:
            source, line = self.lines.popitem(last=False)
            ticket = line.popleft()
            if line:
                self.lines[source] = line
            if not ticket.done():
                return ticket
        return None

    def turn_away(self, source: str, ticket: _Ticket) -> None:
        """End a wait that has become too long."""
        if not ticket.done():
            self.leave_line(source, ticket)
            ticket.set_exception(Crowded(local_reply("4.4.5", "too much mail waits for this host")))

    def leave_line(self, source: str, ticket: _Ticket) -> None:
        line = self.lines.get(source)
        if line is not None and ticket in line:
            line.remove(ticket)
            if not line:
                del self.lines[source]
