"""The queue's engine: claim what is due, read it from the spool, try to deliver it, send the notices that are due.

It holds a bounded number of groups and octets at once. Results go the way of all results, by `Delivery.settled`; leases
are renewed by the process as a whole. While the database is away nothing is claimed, and what is under way goes on.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from gateway import log
from gateway.accepted import Accepted, Settled, State
from gateway.mail.envelope import Recipient
from gateway.mail.errors import Malformed, NotFound
from gateway.mail.reference import reference
from gateway.policy.compile import Policy
from gateway.relay.delivery import Delivery
from gateway.relay.notices import Notices
from gateway.relay.settlement import Due
from gateway.spool import is_alive, read
from gateway.store import queue
from gateway.store.database import Database, DatabaseAway
from gateway.store.queue import Claim

LOST_AFTER = 5  # attempts to find a record; it may have been copied out just when it was claimed


class QueueSettings(Struct, frozen=True):
    """Limits of one queue runner. `host`: take only records of this host's spool ("": of all)."""

    poll_seconds: float = 1.0
    lease_seconds: float = 300.0
    groups_at_once: int = 200
    memory_bytes: int = 128 << 20
    host: str = ""


class QueueRunner:
    """One for each process that delivers from the queue."""

    def __init__(
        self,
        database: Database,
        spool_root: Path,
        owner: str,
        delivery: Delivery,
        policy: Callable[[], Policy],
        notices: Notices,
        settings: QueueSettings = QueueSettings(),  # noqa: B008 (frozen)
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._spool_root = spool_root
        self._owner = owner
        self._delivery = delivery
        self._policy = policy
        self._notices = notices
        self._settings = settings
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._memory = _Memory(settings.memory_bytes)
        self._wake = asyncio.Event()

    @property
    def under_way(self) -> int:
        return len(self._tasks)

    def wake(self) -> None:
        """Look at the queue now: somebody knows that something is due."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled; call `close` afterwards."""
        while True:
            self._wake.clear()
            has_more = False
            try:
                has_more = await self._claim()
                await self._notices.send_due()
            except DatabaseAway:
                pass  # Said by whoever watches the policy; here it only means to wait.
            if not has_more:
                await self._wait()

    async def close(self, seconds: float = 20.0) -> None:
        """Let what is under way end, and after so long put it back into the queue."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._settings.poll_seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    # -- claims

    async def _claim(self) -> bool:
        """Take what is due as far as there is room; return whether there may be more."""
        room = self._settings.groups_at_once - len(self._tasks)
        if room < max(1, self._settings.groups_at_once // 10):
            return False  # woken when there is more
        loop = asyncio.get_running_loop()
        claims = await loop.run_in_executor(None, self._claim_now, room)
        for claim in claims:
            task = loop.create_task(self._deliver(claim))
            self._tasks.add(task)
            task.add_done_callback(self._on_done)
        return len(claims) == room

    def _claim_now(self, limit: int) -> list[Claim]:
        return queue.claim(
            self._database,
            owner=self._owner,
            now=self._clock(),
            limit=limit,
            lease_seconds=self._settings.lease_seconds,
            is_dead=self._is_dead,
            host=self._settings.host,
        )

    def _is_dead(self, owner: str) -> bool | None:
        if not (self._spool_root / owner).exists():
            return None  # of another host, or gone without a trace: its lease ends by time
        return not is_alive(self._spool_root, owner)

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if len(self._tasks) <= self._settings.groups_at_once // 2:
            self._wake.set()

    # -- one claim

    async def _deliver(self, claim: Claim) -> None:
        length = claim.location.length
        await self._memory.take(length)
        try:
            loop = asyncio.get_running_loop()
            try:
                accepted, body = await loop.run_in_executor(None, read, self._spool_root, claim.location)
            except (NotFound, Malformed, OSError) as error:
                self._settle_unreadable(claim, error)
                return
            await self._delivery.attempt(accepted, (body,), due_of(claim, accepted), self._policy())
        finally:
            self._memory.give_back(length)

    def _settle_unreadable(self, claim: Claim, error: Exception) -> None:
        """Hold what is damaged or gone for a person; wait for what the system cannot read now."""
        log.error("delivery.error", ref=reference(claim.message_id), error=f"the spool's record: {error}")
        now = self._clock()
        results = []
        for one in claim.recipients:
            attempts = one.attempts + 1
            is_lost = isinstance(error, Malformed) or (isinstance(error, NotFound) and attempts >= LOST_AFTER)
            results.append(
                Settled(
                    message_id=claim.message_id,
                    group=claim.group,
                    recipient=one.address,
                    state=State.HELD if is_lost else State.QUEUED,
                    reply=f"{'5' if is_lost else '4'}.3.0 the message cannot be read from the spool",
                    host="",
                    at=now,
                    attempts=attempts,
                    due_at=None if is_lost else self._delivery.back_off.due_at(attempts, now, chance=0.5),
                )
            )
        self._delivery.settled(results)


def due_of(claim: Claim, accepted: Accepted) -> Sequence[Due]:
    """Return whom to try, with what the record says about them; a redirected recipient is not in the record."""
    known = {str(recipient.address): recipient for recipient in accepted.recipients}
    return [
        Due(
            known.get(str(one.address)) or Recipient(one.address, one.direction),
            one.attempts,
            one.is_delay_told,
        )
        for one in claim.recipients
    ]


class _Memory:
    """Octets that may be held at once. A message bigger than all of it goes alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._freed = asyncio.Condition()

    async def take(self, amount: int) -> None:
        async with self._freed:
            await self._freed.wait_for(lambda: not self._held or self._held + amount <= self._limit)
            self._held += amount

    def give_back(self, amount: int) -> None:
        self._held -= amount
        task = asyncio.ensure_future(self._tell())
        task.add_done_callback(lambda _: None)

    async def _tell(self) -> None:
        async with self._freed:
            self._freed.notify_all()
