"""What every process that takes or delivers mail is made of: database, policy, spool, importer, segments, figures.

Made after the fork, in the process that uses it. `start` before mail, `stop` in the reverse order, so that what was
accepted is imported and what was settled is saved.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import traceback
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway import log, metrics
from gateway.masterkey import load_master_key, purpose_key
from gateway.relay.current import CurrentPolicy
from gateway.relay.importer import LEASE_SECONDS, Importer
from gateway.relay.segments import SegmentKeeper
from gateway.settings import Settings
from gateway.spool import Spool, SpoolFailed, SpoolFull, new_owner
from gateway.spool.journal import Journal
from gateway.store import queue
from gateway.store.bypass_keys import match_key
from gateway.store.database import Database, DatabaseAway

MIB = 1 << 20
SNAPSHOT_SECONDS = 1.0
TRIM_SECONDS = 1.0


class Runtime:
    """The parts of one process, by role (`smtp-1`, `deliver`)."""

    def __init__(self, settings: Settings, role: str, *, adopts: bool = False, saves_policy: bool = False) -> None:
        self.settings = settings
        self.role = role
        self.owner = new_owner(role)
        self.database = Database(settings.url, data_dir=settings.data_dir, creates=False)
        self.master_key = load_master_key(settings.master_key)
        self.current = CurrentPolicy(
            self.database,
            settings.policy_file,
            hop_key=purpose_key(self.master_key, "hop"),
            match_key=match_key(self.master_key),
            hostname=settings.own_name,
            saves=saves_policy,
        )
        self.spool = Spool(
            settings.spool,
            self.owner,
            min_free=settings.min_free_mb * MIB,
            reserve=settings.reserve_mb * MIB,
        )
        journal = Journal(settings.spool / self.owner)
        self.importer = Importer(self.database, self.owner, journal, max_unimported=settings.max_unimported)
        self.keeper = SegmentKeeper(self.spool, self.database, self.importer, root=settings.spool, adopts=adopts)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Load the policy and begin the background work. Raises NoPolicy."""
        self.current.start()
        log.gather(asyncio.get_running_loop())
        self._watch_figures()
        self.run(self.current.follow())
        self.run(self.importer.run())
        self.run(self.keeper.run())
        self.run(self._renew_leases())
        self.run(_give_memory_back())
        self.run(write_snapshots(self.settings.run_dir, self.role))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something until `stop`."""
        task = asyncio.ensure_future(work)
        self.watch_over(task)
        self._tasks.append(task)

    def watch_over(self, task: "asyncio.Task[None]") -> None:
        """End the process when the task ends by an error: its parent restarts it, and nothing hangs half alive."""
        task.add_done_callback(_end_process_on_failure)

    async def stop(self) -> None:
        """End the background work, import what is left and close everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.importer.finish()
        with contextlib.suppress(DatabaseAway, SpoolFull, SpoolFailed):
            await self.spool.roll()  # the last segment can go as well
            await self.keeper.tidy()
        await asyncio.get_running_loop().run_in_executor(None, self.spool.close)
        with contextlib.suppress(DatabaseAway):
            queue.release_owner(self.database, self.owner)
        self.database.close()
        metrics.remove_snapshot(self.settings.run_dir, self.role)
        log.flush()

    async def _renew_leases(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LEASE_SECONDS / 5)
            until = datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS)
            with contextlib.suppress(DatabaseAway):
                await loop.run_in_executor(None, queue.renew, self.database, self.owner, until)

    def _watch_figures(self) -> None:
        metrics.watch("policy_version", lambda: self.current.policy.version)
        metrics.watch("ledger_revision", lambda: self.current.policy.revision)
        metrics.watch("unimported", lambda: self.importer.unimported)
        metrics.watch("database_away", lambda: float(self.current.is_database_away or self.importer.is_away))
        metrics.watch("spool_bytes", lambda: self.spool.usage().bytes)
        metrics.watch("spool_segments", lambda: self.spool.usage().segments)
        metrics.watch("spool_free_bytes", lambda: free_bytes(self.settings.spool))


def free_bytes(folder: Path) -> float:
    """Return how much is free where a folder lies, 0 when that cannot be told."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free
    return 0


async def write_snapshots(folder: Path, role: str) -> None:
    """Write this process's figures once a second, until cancelled: they are its sign of life as well."""
    loop = asyncio.get_running_loop()
    while True:
        if lost := log.take_lost():
            metrics.count("log_lines_lost", amount=lost)
        await loop.run_in_executor(None, metrics.write_snapshot, folder, role)
        await asyncio.sleep(SNAPSHOT_SECONDS)


async def _give_memory_back() -> None:
    """Return to the system what large messages have left free, once a second (malloc_trim(3), under 1 ms).

    glibc keeps it, and each worker would stay as large as its greatest moment. Where there is no glibc nothing is done.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    loop = asyncio.get_running_loop()
    while trim is not None:
        await asyncio.sleep(TRIM_SECONDS)
        await loop.run_in_executor(None, trim, 0)


def _end_process_on_failure(task: "asyncio.Task[None]") -> None:
    if task.cancelled() or task.exception() is None:
        return
    error = task.exception()
    where = traceback.extract_tb(error.__traceback__)[-1] if error else None
    log.error(
        "process.failed",
        error=f"{type(error).__name__}: {error}",
        where=f"{where.name}:{where.lineno}" if where else "",
    )
    # Not sys.exit: a task's exception would be swallowed by the loop. What was accepted is in the spool.
    os.kill(os.getpid(), signal.SIGKILL)
