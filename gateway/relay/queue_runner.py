"""The queue's engine: claim what is due, read it from the spool, try to deliver it, send the notices that are due.

It holds a bounded number of groups and octets at once. Results go the way of all results, by `Delivery.settled`; leases
are renewed by the process as a whole. While the database is away nothing is claimed, and what is under way goes on.
"""

import asyncio
from collections import deque
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
from gateway.relay.notices import LOOKED_AT, Notices
from gateway.relay.settlement import Due
from gateway.spool import is_here, read
from gateway.store import queue
from gateway.store.database import Database, DatabaseAway
from gateway.store.queue import Claim

Key = tuple[str, int, str]  # message, group, recipient

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
        after_settle: Callable[[Callable[[Sequence[Settled]], None]], None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`owner` is whom the leases are for. `after_settle` takes whom to tell of results that have been saved."""
        self._database = database
        self._spool_root = spool_root
        self._owner = owner
        self._delivery = delivery
        self._policy = policy
        self._notices = notices
        self._settings = settings
        self._in_hand: set[Key] = set()  # claimed, and no result of it saved yet
        self._clock = clock
        self.may_hold_more = False  # leases that we do not know of: a claim's answer was lost
        self._tasks: set[asyncio.Task[None]] = set()
        self._memory = _Memory(settings.memory_bytes)
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        after_settle(self._note_saved)

    @property
    def under_way(self) -> int:
        return len(self._tasks)

    def wake(self) -> None:
        """Look at the queue now: somebody knows that something is due. May be called from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Work until cancelled; call `close` afterwards."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            has_more = False
            try:
                has_more = await self._claim()
                has_more = await self._notices.send_due() >= LOOKED_AT or has_more
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
        if self.may_hold_more and not await self._release_unknown():
            return False
        try:
            claims = await loop.run_in_executor(None, self._claim_now, room)
        except DatabaseAway:
            self.may_hold_more = True
            raise
        for claim in claims:
            self._in_hand.update((claim.message_id, claim.group, str(one.address)) for one in claim.recipients)
            task = loop.create_task(self._deliver(claim))
            self._tasks.add(task)
            task.add_done_callback(self._on_done)
        return len(claims) == room

    async def _release_unknown(self) -> bool:
        """After a claim whose answer was lost, give back all leases of ours, once nothing is in hand any more."""
        if self._in_hand or self._delivery.first_attempts:
            return False
        now = self._clock()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: queue.release_owner(self._database, self._owner, now=now))
        self.may_hold_more = False
        return True

    def _claim_now(self, limit: int) -> list[Claim]:
        return queue.claim(
            self._database,
            owner=self._owner,
            now=self._clock(),
            limit=limit,
            lease_seconds=self._settings.lease_seconds,
            is_here=lambda owner: is_here(self._spool_root, owner),
            host=self._settings.host,
        )

    def _note_saved(self, results: Sequence[Settled]) -> None:
        """State first, then its consequence: what was saved may call for a notice."""
        for result in results:
            self._in_hand.discard((result.message_id, result.group, str(result.recipient)))
            if result.notice_due:
                self._wake.set()

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
            accepted, body = await loop.run_in_executor(None, read, self._spool_root, claim.location)
            await self._delivery.attempt(accepted, (body,), due_of(claim, accepted), self._policy())
        except Exception as error:  # border: one claim
            self._settle_unreadable(claim, error)
        finally:
            self._memory.give_back(length)

    def _settle_unreadable(self, claim: Claim, error: Exception) -> None:
        """Hold what is damaged or gone for a person; try again later what cannot be read now."""
        log.error("delivery.error", ref=reference(claim.message_id), error=f"{type(error).__name__}: {error}")
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
    """Octets that may be held at once, given in the order of asking. A message bigger than all of it goes alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, amount: int) -> None:
        if not self._waiting and self._fits(amount):
            self._held += amount
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(amount)
            raise

    def give_back(self, amount: int) -> None:
        self._held -= amount
        while self._waiting and (self._waiting[0][1].done() or self._fits(self._waiting[0][0])):
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self._held += wanted
                turn.set_result(None)

    def _fits(self, amount: int) -> bool:
        return not self._held or self._held + amount <= self._limit
