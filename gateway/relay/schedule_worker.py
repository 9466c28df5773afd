"""Scheduled work: retention, held mail into the vault, expiry. Each task is leased by name, so once in a cluster."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec import Struct

from gateway import log, metrics
from gateway.masterkey import load_master_key
from gateway.relay import key_rotation, release_jobs
from gateway.relay.held_mail import clear_vault, move_to_vault
from gateway.relay.runtime import write_snapshots
from gateway.relay.stopping import run_loop, until_signal
from gateway.settings import Settings
from gateway.store import leases, policies, queue, retention
from gateway.store.database import Database, DatabaseAway
from gateway.store.waiting import Depth
from gateway.vault import Vault

TICK_SECONDS = 5.0


class Task(Struct, frozen=True):
    """One piece of work: done every so often, by whoever takes its lease."""

    name: str
    every_seconds: float
    work: Callable[["Schedule"], None]


class Schedule:
    """The scheduled work of one process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.url, data_dir=settings.data_dir, creates=False)
        self.vault = Vault(settings.vault, load_master_key(settings.master_key))
        self.owner = f"{socket.gethostname()}-{os.getpid()}"
        self.depth: Depth | None = None

    def run_due(self, task: Task) -> None:
        """Do a task if its turn has come and nobody else has it."""
        try:
            now = datetime.now(UTC)
            if leases.take(self.database, task.name, self.owner, task.every_seconds, now):
                task.work(self)
                log.debug("job.done", name=task.name)
        except DatabaseAway:
            pass  # Its turn comes again; what the database's absence means is told by those who need it for mail.
        except Exception as error:  # border: one task must not end the others
            log.error("job.failed", name=task.name, error=f"{type(error).__name__}: {error}")

    def answer_jobs(self) -> None:
        """Do what the web asked for. Jobs have leases of their own, so each is for whoever comes first."""
        try:
            release_jobs.answer(self.settings, self.database, self.owner)
        except DatabaseAway:
            pass
        except Exception as error:  # border: as above
            log.error("job.failed", name="release", error=f"{type(error).__name__}: {error}")


def prune(schedule: Schedule) -> None:
    """Delete what is past its retention, in slices that hold nobody up."""
    _version, document = policies.load(schedule.database)
    pruned = retention.prune(schedule.database, document.retention, datetime.now(UTC))
    rows = {table: count for table, count in pruned.rows.items() if count}
    if rows or pruned.trace_days or pruned.expired:
        log.info("retention.pruned", rows=rows, trace_days=pruned.trace_days, held=pruned.expired)


def keep_held(schedule: Schedule) -> None:
    """Remove from the vault what is held no more, and move the bytes of what is held into it.

    In this order: on a full disk the one makes room, and the other fails.
    """
    removed = clear_vault(schedule.database, schedule.vault)
    moved = move_to_vault(schedule.settings, schedule.database, schedule.vault)
    if moved or removed:
        log.info("job.done", name="held to vault", moved=moved, removed=removed)


def make_keys(schedule: Schedule) -> None:
    """Make the bypass keys of this month and, in its last week, of the next one, where they are missing."""
    key_rotation.rotate_due(schedule.settings, schedule.database)


TASKS = (
    Task("key rotation", key_rotation.EVERY_SECONDS, make_keys),
    Task("retention", 3600.0, prune),
    Task("held to vault", 30.0, keep_held),
)


def run(settings: Settings) -> None:
    """Work until SIGTERM."""
    run_loop(_serve(settings), settings.loop)


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stop = until_signal(loop)
    schedule = Schedule(settings)
    beat = asyncio.ensure_future(write_snapshots(settings.run_dir, "schedule"))
    _watch_queue(schedule)
    due = {task.name: 0.0 for task in TASKS}
    while not stop.is_set():
        await loop.run_in_executor(None, _look_at_queue, schedule)
        await loop.run_in_executor(None, schedule.answer_jobs)
        for task in TASKS:
            if loop.time() >= due[task.name]:
                due[task.name] = loop.time() + task.every_seconds
                await loop.run_in_executor(None, schedule.run_due, task)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_SECONDS):
                await stop.wait()
    beat.cancel()
    await asyncio.gather(beat, return_exceptions=True)
    metrics.remove_snapshot(settings.run_dir, "schedule")
    schedule.database.close()


def _look_at_queue(schedule: Schedule) -> None:
    with contextlib.suppress(DatabaseAway):
        schedule.depth = queue.depth(schedule.database)


def _watch_queue(schedule: Schedule) -> None:
    """The queue's figures are the database's, so one process tells them for all."""
    metrics.watch("queue_depth", lambda: schedule.depth.waiting if schedule.depth else 0)
    metrics.watch("queue_held", lambda: schedule.depth.held if schedule.depth else 0)
    metrics.watch("queue_oldest_seconds", lambda: schedule.depth.oldest_seconds if schedule.depth else 0)
