"""Bring what was accepted, refused and settled into the database, after the reply and in batches.

The record in the spool is the commit, so the database may be slow or away: items wait here (bounded by
`max_unimported`, which the gate asks) and are imported when it is back. A message waits a moment for its first
attempt, so that most are imported as delivered and need no second write.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice

from gateway import log, metrics
from gateway.accepted import Accepted, Location, Settled
from gateway.mail.reference import reference
from gateway.spool.journal import Journal
from gateway.store import messages, queue, refused
from gateway.store.database import Database, DatabaseAway
from gateway.store.messages import ImportItem, NotImported
from gateway.store.refused import RefusedSession

BATCH = 300  # messages in one import
WAIT_SECONDS = 0.25  # how long an import waits for company and for first attempts
FULL_AT = 150  # messages that end the waiting
RETRY_SECONDS = 1.0  # while the database is away
LEASE_SECONDS = 300
MAX_REFUSED = 5000  # traces of refused mail and refused sessions that may wait; more are dropped and counted


Noted = tuple[int, Settled]  # a result, and the file of the journal that it is noted in


class _Waiting:
    """One accepted group that the database does not know yet."""

    __slots__ = ("accepted", "location", "open", "settled", "since")

    def __init__(self, accepted: Accepted, location: Location) -> None:
        self.accepted = accepted
        self.location = location
        self.settled: list[Noted] = []
        self.open = 0 if accepted.held else len(accepted.recipients)
        self.since = time.monotonic()


class Importer:
    """One for each process that accepts or settles. `settled` may come before or after a message's import."""

    def __init__(self, database: Database, owner: str, journal: Journal, *, max_unimported: int) -> None:
        self._database = database
        self._owner = owner
        self._journal = journal
        self._max_unimported = max_unimported
        self._waiting: dict[tuple[str, int], _Waiting] = {}
        self._importing: dict[tuple[str, int], _Waiting] = {}
        self._results: list[Noted] = []
        self._refused: list[ImportItem] = []
        self._sessions: list[RefusedSession] = []
        self._stuck: dict[tuple[str, int], str] = {}  # groups that the database does not take, and their segments
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="import")
        self._after_settle: list[Callable[[Sequence[Settled]], None]] = []
        self.is_away = False

    # -- what comes in, from the loop only

    def put(self, accepted: Accepted, location: Location) -> None:
        """Take a durable group; unless it is held, its recipients are being delivered from memory right now."""
        self._waiting[accepted.id, accepted.group] = _Waiting(accepted, location)
        if len(self._waiting) >= FULL_AT:
            self._full.set()
        self._wake.set()

    def settle(self, results: Sequence[Settled]) -> None:
        """Take results of attempts; they reach the database with the message, or right after it."""
        number = self._note(results)
        for result in results:
            metrics.count("deliveries", result.state)
            waiting = self._waiting.get((result.message_id, result.group))
            if waiting is None:
                self._results.append((number, result))
            else:
                waiting.settled.append((number, result))
                waiting.open -= 1
        self._wake.set()

    def _note(self, results: Sequence[Settled]) -> int:
        """Keep the results beside the segments until the database has them: a killed process repeats nothing."""
        if not self._journal.has_pending:
            asyncio.get_running_loop().call_soon(self._flush_journal)
        try:
            return self._journal.note(results)
        except OSError as error:
            log.error("spool.failed", error=str(error))
            return 0

    def _flush_journal(self) -> None:
        try:
            self._journal.flush()
        except OSError as error:
            # A full disk: after a crash these deliveries would be repeated, which is better than not settling them.
            log.error("spool.failed", error=str(error))

    def put_refused(self, accepted: Accepted) -> None:
        """Take a message that was refused or deferred at DATA: trace only, no bytes."""
        if len(self._refused) >= MAX_REFUSED:
            metrics.count("traces_dropped")
            return
        self._refused.append(ImportItem(accepted, None, (), "", accepted.accepted_at))
        self._wake.set()

    def put_session(self, session: RefusedSession) -> None:
        """Take a session of which something was refused before DATA."""
        if len(self._sessions) >= MAX_REFUSED:
            metrics.count("traces_dropped")
            return
        self._sessions.append(session)
        self._wake.set()

    def after_settle(self, tell: Callable[[Sequence[Settled]], None]) -> None:
        """Call `tell` in the loop with results once they are saved: state first, then its consequence."""
        self._after_settle.append(tell)

    # -- what others ask

    @property
    def unimported(self) -> int:
        return len(self._waiting) + len(self._importing)

    @property
    def is_full(self) -> bool:
        """True when no more mail may be accepted until the database takes some."""
        return self.unimported >= self._max_unimported

    def unimported_segments(self) -> set[str]:
        """Segments whose records the database does not know yet; they must not be unlinked."""
        waiting = [item.location.segment for batch in (self._waiting, self._importing) for item in batch.values()]
        return {*waiting, *self._stuck.values()}

    # -- the work

    async def run(self) -> None:
        """Import until cancelled; call `finish` afterwards."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._gather()
            if self._has_work() and not await self._import_once():
                await asyncio.sleep(RETRY_SECONDS)
            if self._waiting or self._has_work():
                self._wake.set()

    async def finish(self, seconds: float = 10.0) -> None:
        """Import what is left at an orderly end; what cannot be is imported from the spool by whoever adopts it."""
        deadline = time.monotonic() + seconds
        while (self._has_work() or self._waiting) and time.monotonic() < deadline:
            for item in self._waiting.values():
                item.open = 0
            if not await self._import_once():
                await asyncio.sleep(0.2)
        self._thread.shutdown(wait=False)
        self._journal.close()

    async def _gather(self) -> None:
        """Wait a little for company: until the batch is full, or the time is over."""
        if len(self._waiting) >= FULL_AT:
            return
        self._full.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                await self._full.wait()

    def _ready(self) -> Iterator[_Waiting]:
        """Give what need not wait for its first attempt any more, oldest first."""
        limit = time.monotonic() - WAIT_SECONDS
        return (item for item in self._waiting.values() if item.open <= 0 or item.since < limit)

    def _has_work(self) -> bool:
        if self._results or self._refused or self._sessions or self._importing:
            return True
        return next(self._ready(), None) is not None

    async def _import_once(self) -> bool:
        """Import one batch; return False when the database is away."""
        for item in list(islice(self._ready(), BATCH)) if not self._importing else ():
            key = (item.accepted.id, item.accepted.group)
            self._importing[key] = self._waiting.pop(key)
        refusals, self._refused = self._refused[:BATCH], self._refused[BATCH:]
        sessions, self._sessions = self._sessions[:BATCH], self._sessions[BATCH:]
        results, self._results = self._results, []
        batch = list(self._importing.values())
        loop = asyncio.get_running_loop()
        try:
            # A commit whose answer was lost may have imported the batch already, without what was settled since.
            again = [noted for item in batch for noted in item.settled] if self.is_away else []
            await loop.run_in_executor(self._thread, self._write, batch, refusals, sessions, [*results, *again])
        except DatabaseAway as error:
            self._refused[:0], self._sessions[:0], self._results[:0] = refusals, sessions, results
            self._note_away(error)
            return False
        self._importing.clear()
        self._note_back(len(batch))
        self._note_saved([*results, *(noted for item in batch for noted in item.settled)])
        return True

    def _note_saved(self, results: Sequence[Noted]) -> None:
        # What was delivered of a group without a row stays in the journal, or an adopter would deliver it again.
        saved = [noted for noted in results if (noted[1].message_id, noted[1].group) not in self._stuck]
        for number, count in Counter(number for number, _result in saved).items():
            if number:
                self._journal.forget(number, count)
        if saved:
            for tell in self._after_settle:
                tell([result for _number, result in saved])

    def _write(
        self,
        batch: Sequence[_Waiting],
        refusals: Sequence[ImportItem],
        sessions: Sequence[RefusedSession],
        results: Sequence[Noted],
    ) -> None:
        started = time.perf_counter()
        until = datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS)
        items = [
            ImportItem(w.accepted, w.location, tuple([r for _, r in w.settled]), self._owner, until) for w in batch
        ]
        if items or refusals:
            self._import([*items, *refusals])
        if sessions:
            refused.record(self._database, sessions)
        if results:
            queue.settle(self._database, [result for _number, result in results], owner=self._owner)
        metrics.observe("import_seconds", time.perf_counter() - started)

    def _import(self, items: Sequence[ImportItem]) -> None:
        try:
            messages.import_batch(self._database, items)
        except NotImported as error:
            # Nothing is lost: the segment stays, and an adopter tries again. Delivery from memory goes on.
            for item, cause in error.failed:
                log.error("import.refused", ref=reference(item.accepted.id), error=f"{type(cause).__name__}: {cause}")
                if item.location is not None:
                    self._stuck[item.accepted.id, item.accepted.group] = item.location.segment

    def _note_away(self, error: DatabaseAway) -> None:
        metrics.count("imports_failed")
        if not self.is_away:
            self.is_away = True
            log.warning("import.failed", error=str(error), unimported=self.unimported)

    def _note_back(self, count: int) -> None:
        if count:
            metrics.count("imported", amount=count)
        if self.is_away:
            self.is_away = False
            log.info("import.resumed", unimported=self.unimported)
