"""Keep the spool small and complete: unlink what is settled, copy out what waits, take over what the dead left.

Order is everything here. A segment goes only when each of its records is known to the database, none is still needed,
and the rows that say so would survive a power cut.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway import log
from gateway.mail.reference import reference
from gateway.relay.importer import LEASE_SECONDS, Importer
from gateway.spool import Adopted, Spool, SpoolFailed, SpoolFull, adopt
from gateway.spool.journal import read_results, remove_results
from gateway.store import messages, queue
from gateway.store.database import Database, DatabaseAway
from gateway.store.messages import ImportItem, NotImported

TIDY_SECONDS = 5.0
ADOPT_SECONDS = 1.0
COPY_AFTER_SECONDS = 600.0  # A closed segment that is still needed after so long has its waiting records copied out.
COPY_BATCH = 50
IMPORT_BATCH = 200


class SegmentKeeper:
    """Looks after the segments of one process: its own and, with `adopts`, those of dead owners."""

    def __init__(
        self, spool: Spool, database: Database, importer: Importer, *, root: Path, adopts: bool = False
    ) -> None:
        self._spool = spool
        self._database = database
        self._importer = importer
        self._root = root
        self._adopts = adopts
        self._adopted: list[Adopted] = []
        self._stuck: set[str] = set()  # adopted segments with a record that the database does not take
        self._closed_at: dict[str, float] = {}
        self.on_adopted: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        tidy_at = 0.0
        while True:
            try:
                if self._adopts:
                    await loop.run_in_executor(None, self.adopt_dead)
                if time.monotonic() >= tidy_at:
                    tidy_at = time.monotonic() + TIDY_SECONDS
                    await self.tidy()
            except DatabaseAway:
                pass  # Nothing is unlinked while nobody can say what is settled.
            except (OSError, SpoolFull, SpoolFailed) as error:
                log.error("spool.failed", error=str(error))
            await asyncio.sleep(ADOPT_SECONDS)

    async def tidy(self) -> None:
        """Unlink every closed segment that nobody needs; copy waiting records out of old ones."""
        loop = asyncio.get_running_loop()
        own = self._spool.rolled_segments()
        now = time.monotonic()
        # Asked before the database is: what is imported after this line is not in `needed` and must not be missed.
        unimported = self._importer.unimported_segments()
        candidates = [segment for segment in own if segment not in unimported]
        needed = await loop.run_in_executor(None, self._still_needed, candidates)
        for segment in candidates:
            if segment not in needed:
                self._spool.unlink(segment)
                self._closed_at.pop(segment, None)
        await loop.run_in_executor(None, self._tidy_adopted)
        for segment in [*self._spool.rolled_segments(), *self._adopted_segments()]:
            closed_at = self._closed_at.setdefault(segment, now)
            if now - closed_at > COPY_AFTER_SECONDS and segment not in unimported:
                await self._copy_out(segment)

    def _adopted_segments(self) -> list[str]:
        return [segment for adopted in self._adopted for segment in adopted.segments() if segment not in self._stuck]

    def _still_needed(self, segments: Sequence[str]) -> set[str]:
        if not segments:
            return set()
        needed = queue.unsettled_segments(self._database, segments)
        if len(needed) < len(set(segments)):
            # The rows that say "settled" must be on disk before the bytes go.
            self._database.make_durable()
        return needed

    async def _copy_out(self, segment: str) -> None:
        """Give the few that wait long a new place, so that the old segment can go."""
        loop = asyncio.get_running_loop()
        places = await loop.run_in_executor(None, queue.waiting_locations, self._database, segment)
        for at in range(0, len(places), COPY_BATCH):
            batch = places[at : at + COPY_BATCH]
            moved = await self._spool.copy_out(batch)
            # Durable in the new place before the row names it; the old copy goes with the segment, later.
            await loop.run_in_executor(None, queue.relocate, self._database, moved)
        if places:
            log.info("spool.copied", segment=segment, records=len(places))

    # -- dead owners

    def adopt_dead(self) -> None:
        """Take over the segments and leases of every owner whose lock is free.

        A folder that cannot be read is tried again, and holds up no other: nobody else ends their leases.
        """
        for adopted in adopt(self._root):
            try:
                count = self._import(adopted)
            except OSError as error:
                adopted.release()
                log.error("spool.failed", owner=adopted.owner, error=str(error))
                continue
            queue.release_owner(self._database, adopted.owner)
            self._adopted.append(adopted)
            log.info("spool.adopted", owner=adopted.owner, records=count)
            self.on_adopted()

    def _import(self, adopted: Adopted) -> int:
        """Import every record again: what the database knows is left as it is, and results beside the records count."""
        count = 0
        batch: list[ImportItem] = []
        until = datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS)
        for location, accepted in adopted.records():
            # Under the dead owner's name and with a lease, so that nobody tries them before the results beside them
            # count; releasing the owner afterwards makes all that is left due at once.
            batch.append(ImportItem(accepted, location, (), adopted.owner, until))
            if len(batch) >= IMPORT_BATCH:
                count += self._import_batch(batch)
                batch = []
        count += self._import_batch(batch)
        folder = self._root / adopted.owner
        results = read_results(folder)
        if results:
            queue.settle(self._database, results, owner=adopted.owner)
        if not any(segment.startswith(f"{adopted.owner}/") for segment in self._stuck):
            remove_results(folder)
        for damage in adopted.damaged:
            # A torn tail is what a crash leaves: nobody was promised anything about it.
            note = log.info if damage.is_torn else log.error
            note("spool.damaged", owner=adopted.owner, segment=damage.segment, offset=damage.offset, why=damage.why)
        return count

    def _import_batch(self, batch: Sequence[ImportItem]) -> int:
        try:
            return messages.import_batch(self._database, batch)
        except NotImported as error:
            # A mistake of ours must not hold up the others. The record stays where it is, for a release without it.
            for item, cause in error.failed:
                log.error("import.refused", ref=reference(item.accepted.id), error=f"{type(cause).__name__}: {cause}")
                if item.location is not None:
                    self._stuck.add(item.location.segment)
            return len(batch) - len(error.failed)

    def _tidy_adopted(self) -> None:
        for adopted in list(self._adopted):
            segments = [segment for segment in adopted.segments() if segment not in self._stuck]
            needed = self._still_needed(segments)
            for segment in segments:
                if segment not in needed:
                    adopted.unlink(segment)
            if not adopted.segments() and adopted.done():
                self._adopted.remove(adopted)
