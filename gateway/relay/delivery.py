"""Delivery: one attempt for the recipients of one accepted group, from memory right after the 250 or for the queue.

Each recipient is settled by itself and exactly once, whatever hosts, DNS or this program do. Results go to `settled`;
what becomes of them (the database, notices) is not known here.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from gateway import log, metrics
from gateway.accepted import Accepted, Settled, State
from gateway.mail.envelope import Direction, Recipient
from gateway.mail.reference import reference
from gateway.policy.compile import Policy
from gateway.policy.document import Document, Route
from gateway.policy.routes import NamedRoute, route_for
from gateway.relay.client import Endpoint, Unreachable
from gateway.relay.hops import Hops
from gateway.relay.parcel import Outcome, Parcel
from gateway.relay.pool import Crowded, Pool
from gateway.relay.reply_stream import HostReply, local_reply
from gateway.relay.retry import BackOff, Outages
from gateway.relay.settlement import Circumstances, Due, put_back, settle
from gateway.spool import Pieces

MEMORY_BYTES = 64 << 20
OVERHEAD_BYTES = 4096  # what a waiting message costs besides its octets
RECIPIENTS_PER_PARCEL = 100  # RFC 5321 section 4.5.3.1.8: a host has to take so many
MAX_ROUTES = 10_000  # remembered at once
RESTING_TASKS = 100  # kept for the next message
GROUPS_AT_ONCE = 20  # destinations of one message that are tried side by side

OUR_ERROR = local_reply("4.3.0", "an error of ours")

EVENTS = {
    State.DELIVERED: "delivery.delivered",
    State.QUEUED: "delivery.deferred",
    State.FAILED: "delivery.failed",
    State.HELD: "delivery.held",
}


_Job = tuple[Accepted, Pieces, Policy, int]  # a first attempt and the octets it is counted with


class Failure(NamedTuple):
    """Why a host did not take somebody who may be taken elsewhere."""

    reply: HostReply
    host: str


class Delivery:
    """One for each process that delivers. `settled` takes results in the loop; it must not block."""

    def __init__(
        self,
        pool: Pool,
        hops: Hops,
        settled: Callable[[Sequence[Settled]], None],
        *,
        memory_bytes: int = MEMORY_BYTES,
        back_off: BackOff = BackOff(),  # noqa: B008 (frozen)
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.pool = pool
        self.hops = hops
        self.settled = settled
        self.back_off = back_off
        self.clock = clock
        self.outages = Outages()
        self._routes = _Routes()
        self._memory_bytes = memory_bytes
        self._held_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._resting: list[asyncio.Future[_Job | None]] = []
        self._at_work = 0
        self._is_closing = False

    # -- from memory

    def first_attempt(self, accepted: Accepted, pieces: Pieces, policy: Policy) -> None:
        """Start the first attempt from memory; when too much is held already, leave it to the queue at once.

        The pieces must not change until all recipients are settled.
        """
        cost = accepted.size + OVERHEAD_BYTES
        if self._is_closing or self._held_bytes + cost > self._memory_bytes:
            now = self.clock()
            self.settled([put_back(accepted, Due(recipient), "", now) for recipient in accepted.recipients])
            return
        self._held_bytes += cost
        self._at_work += 1
        job = (accepted, pieces, policy, cost)
        while self._resting:
            rest = self._resting.pop()
            if not rest.done():
                rest.set_result(job)
                return
        task = asyncio.get_running_loop().create_task(self._work(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, job: "_Job | None") -> None:
        """Make first attempts, one after the other: a new task for each message costs more than waking an old one."""
        loop = asyncio.get_running_loop()
        while job is not None:
            accepted, pieces, policy, cost = job
            try:
                await self.attempt(accepted, pieces, [Due(recipient) for recipient in accepted.recipients], policy)
            finally:
                self._held_bytes -= cost
                self._at_work -= 1
            if self._is_closing or len(self._resting) >= RESTING_TASKS:
                return
            del job, accepted, pieces  # a resting task must not keep a message
            rest: asyncio.Future[_Job | None] = loop.create_future()
            self._resting.append(rest)
            job = await rest

    @property
    def first_attempts(self) -> int:
        return self._at_work

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    async def close(self, seconds: float = 20.0) -> None:
        """Let the first attempts end, put them back into the queue after so long, and close all connections."""
        self._is_closing = True
        for rest in self._resting:
            if not rest.done():
                rest.set_result(None)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.pool.close()

    # -- one attempt

    async def attempt(self, accepted: Accepted, pieces: Pieces, due: Sequence[Due], policy: Policy) -> None:
        """Try once for all that is due. When this is cancelled, whoever is not settled yet goes back to the queue."""
        tours = self._tours(accepted, pieces, due, policy)
        try:
            if len(tours) == 1:
                await self._finish(tours[0])
            else:
                limit = asyncio.Semaphore(GROUPS_AT_ONCE)
                await asyncio.gather(*(self._finish(tour, limit) for tour in tours))
        except asyncio.CancelledError:
            for tour in tours:
                tour.put_back("broken off")
            raise

    def _tours(self, accepted: Accepted, pieces: Pieces, due: Sequence[Due], policy: Policy) -> "list[_Tour]":
        try:
            groups = self._routes.groups(accepted, due, policy)
            return [_Tour(self, accepted, pieces, route, group, policy) for route, group in groups]
        except Exception as error:  # border: a policy that makes no sense must not lose mail
            _log_error(accepted, error)
            now = self.clock()
            later = now + timedelta(seconds=self.back_off.steps[0])
            self.settled([put_back(accepted, one, str(OUR_ERROR), now, later) for one in due])
            return []

    async def _finish(self, tour: "_Tour", limit: asyncio.Semaphore | None = None) -> None:
        """Carry one tour to its end; whoever an error leaves open is tried again."""
        try:
            if limit is None:
                await tour.go()
            else:
                async with limit:
                    await tour.go()
        except Exception as error:  # border: one delivery
            _log_error(tour.accepted, error)
            tour.settle_rest(OUR_ERROR)


def _log_error(accepted: Accepted, error: Exception) -> None:
    log.error("delivery.error", ref=reference(accepted.id), error=f"{type(error).__name__}: {error}")


class _Tour:
    """One group of recipients on its way past the hosts of one route. `_open` are those who are not settled yet."""

    __slots__ = ("_delivery", "_open", "_pieces", "_route", "_warn_hours", "accepted")

    def __init__(
        self, delivery: Delivery, accepted: Accepted, pieces: Pieces, route: Route, due: Sequence[Due], policy: Policy
    ) -> None:
        self._delivery = delivery
        self.accepted = accepted
        self._pieces = pieces
        self._route = route
        self._open = dict(enumerate(due))
        self._warn_hours = policy.document.limits.warn_hours

    async def go(self) -> None:
        """Try one host after the other until everybody is settled or no host is left."""
        if not self._open:
            return
        delivery = self._delivery
        endpoints = delivery.hops.fixed(self._route) or await delivery.hops.endpoints(
            self._route, self._open[0].recipient.address
        )
        if isinstance(endpoints, HostReply):
            self.settle_rest(endpoints)
            return
        last = Failure(local_reply("4.4.1", "no host was reached"), "")
        is_hop_down = bool(self._route.hops)
        for endpoint in endpoints:
            failure, was_reached = await self._try(endpoint)
            if failure is None:
                return
            # What can be tried later outweighs what cannot: nothing is given up for one host's sake.
            if last.host == "" or last.reply.is_permanent:
                last = failure
            is_hop_down = is_hop_down and not was_reached
        self.settle_rest(last.reply, last.host, is_hop_down=is_hop_down)

    async def _try(self, endpoint: Endpoint) -> tuple[Failure | None, bool]:
        """Send to one host. Return why somebody is left for the next one, and whether this one was reached at all."""
        outages = self._delivery.outages
        blocked = outages.blocks(endpoint, time.monotonic()) if outages else None
        if blocked is not None:
            return Failure(blocked, str(endpoint)), False
        try:
            reply = await self._send(endpoint)
        except Crowded as error:
            return Failure(error.reply, str(endpoint)), True
        except Unreachable as error:
            outages.note_down(endpoint, error.reply, time.monotonic())
            return Failure(error.reply, str(endpoint)), False
        return (None if reply is None else Failure(reply, str(endpoint))), True

    async def _send(self, endpoint: Endpoint) -> HostReply | None:
        """Send what is open, in as many parcels as it takes; return the reply of those who may go elsewhere."""
        todo = list(self._open)
        while todo:
            part, todo = todo[:RECIPIENTS_PER_PARCEL], todo[RECIPIENTS_PER_PARCEL:]
            started = time.perf_counter()
            outcome = await self._delivery.pool.send(
                endpoint,
                self._parcel(part),
                source=self.accepted.source or self.accepted.peer_ip,
                max_connections=self._route.max_connections,
            )
            metrics.observe("delivery_seconds", time.perf_counter() - started)
            self._delivery.outages.note_up(endpoint)
            if outcome.elsewhere:
                self._take(endpoint, part, outcome)
                return outcome.replies[outcome.elsewhere[0]]
            todo = self._take(endpoint, part, outcome) + todo
        return None

    def _parcel(self, part: Sequence[int]) -> Parcel:
        accepted = self.accepted
        return Parcel(
            accepted.mail_from,
            tuple([self._open[key].recipient for key in part]),
            self._pieces,
            accepted.size,
            accepted.body,
            accepted.smtputf8,
            accepted.ret,
            accepted.envid,
            accepted.is_ascii,
            accepted.has_dots,
        )

    def _take(self, endpoint: Endpoint, part: Sequence[int], outcome: Outcome) -> list[int]:
        """Settle what the host decided; return those whom it had only no room for in this transaction."""
        replies = outcome.replies
        decided = list(zip(part, replies, strict=True))
        if outcome.elsewhere:
            decided = [one for position, one in enumerate(decided) if position not in outcome.elsewhere]
        again = []
        # RFC 5321 section 4.5.3.1.10: too many recipients; the rest at once, as long as that leads somewhere.
        if len(part) > 1 and any(reply.code < 300 for reply in replies):
            again = [key for key, reply in decided if reply.code == 452 and reply.enhanced in ("", "4.5.3")]
            decided = [one for one in decided if one[0] not in again]
        self._settle(decided, str(endpoint), tls=outcome.tls, passes_dsn=outcome.passes_dsn)
        return again

    def _settle(
        self,
        decided: Sequence[tuple[int, HostReply]],
        host: str,
        *,
        tls: str = "",
        passes_dsn: bool = False,
        is_hop_down: bool = False,
    ) -> None:
        met = Circumstances(
            now=self._delivery.clock(),
            host=host,
            tls=tls,
            passes_dsn=passes_dsn,
            is_hop_down=is_hop_down,
            warn_hours=self._warn_hours,
            chance=random.random(),
        )
        back_off = self._delivery.back_off
        self._hand_in([settle(self.accepted, self._open.pop(key), reply, met, back_off) for key, reply in decided])

    def settle_rest(self, reply: HostReply, host: str = "", *, is_hop_down: bool = False) -> None:
        """Settle everybody who is left with the same reply."""
        self._settle([(key, reply) for key in self._open], host, is_hop_down=is_hop_down)

    def put_back(self, why: str) -> None:
        """Return everybody who is left to the queue, as if this attempt had not been."""
        now = self._delivery.clock()
        self._hand_in([put_back(self.accepted, due, why, now) for due in self._open.values()])
        self._open.clear()

    def _hand_in(self, results: Sequence[Settled]) -> None:
        if not results:
            return
        self._delivery.settled(results)
        ref = reference(self.accepted.id)
        for result in results:
            write = log.info if result.state is State.DELIVERED else log.warning
            write(
                EVENTS[result.state],
                ref=ref,
                recipient=str(result.recipient),
                host=result.host,
                reply=result.reply,
                attempts=result.attempts,
            )


class _Routes:
    """Whom the policy sends where. Answers are remembered while the document is the same: most mail goes few ways."""

    def __init__(self) -> None:
        self._document: Document | None = None
        self._known: dict[tuple[str, Direction, str], NamedRoute] = {}

    def of(self, recipient: Recipient, wanted: str, policy: Policy) -> NamedRoute:
        """Return the route for a recipient; `wanted` is the verdict's."""
        if policy.document is not self._document or len(self._known) > MAX_ROUTES:
            self._document = policy.document
            self._known.clear()
        key = (recipient.address.domain, recipient.direction, wanted)
        route = self._known.get(key)
        if route is None:
            route = self._known[key] = route_for(recipient.address, recipient.direction, policy, wanted)
        return route

    def groups(self, accepted: Accepted, due: Sequence[Due], policy: Policy) -> list[tuple[Route, list[Due]]]:
        """Put together who goes to the same hosts: by route, and by domain where that leads to the domain's MX."""
        if len(due) == 1:  # most mail
            return [(self.of(due[0].recipient, accepted.route, policy).route, [due[0]])]
        groups: dict[tuple[str, str], tuple[Route, list[Due]]] = {}
        for one in due:
            route, name = self.of(one.recipient, accepted.route, policy)
            key = (name, "" if route.hops else one.recipient.address.ascii_domain)
            group = groups.get(key)
            if group is None:
                groups[key] = (route, [one])
            else:
                group[1].append(one)
        return list(groups.values())
