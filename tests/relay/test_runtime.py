"""The parts of one process put together: started, followed by figures, stopped so that nothing is left behind."""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway import metrics
from gateway.accepted import State
from gateway.commands.migrate import prepare
from gateway.policy.document import Document
from gateway.relay import importer as importing
from gateway.relay.current import NoPolicy
from gateway.relay.runtime import Runtime
from gateway.settings import Settings
from gateway.store import messages, policies
from gateway.store.database import Database
from tests.relay.conftest import RAW, Logged, until
from tests.store.make import accepted, settled

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory as `gatepost migrate` makes it."""
    folder = tmp_path_factory.mktemp("data")
    prepare(Settings(data_dir=folder))
    return folder


@pytest.fixture
def settings(tmp_path: Path, prepared: Path) -> Settings:
    for name in ("gatepost.db", "master.key"):
        (tmp_path / name).write_bytes((prepared / name).read_bytes())
    (tmp_path / "master.key").chmod(0o600)
    return Settings(data_dir=tmp_path)


@asynccontextmanager
async def running(settings: Settings, role: str = "test-1") -> AsyncIterator[Runtime]:
    metrics.reset()
    runtime = Runtime(settings, role, adopts=True, saves_policy=True)
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.stop()


def database(settings: Settings) -> Database:
    return Database(settings.url, data_dir=settings.data_dir)


async def test_a_process_starts_with_the_published_policy_and_follows_it(settings: Settings) -> None:
    async with running(settings) as runtime:
        assert runtime.current.policy.version == 1
        other = database(settings)
        policies.publish(other, Document(company="Two"), by="ann", comment="", now=datetime.now(UTC))
        other.close()
        await until(lambda: runtime.current.policy.document.company == "Two", 5)


async def test_what_was_accepted_is_imported_at_the_end_and_the_folder_goes(settings: Settings) -> None:
    async with running(settings) as runtime:
        one = accepted()
        [location] = await runtime.spool.append([(one, (RAW,))])
        runtime.importer.put(one, location)
        runtime.importer.settle([settled(one, State.DELIVERED)])
    other = database(settings)
    [row] = messages.outcomes(other, one.id)
    other.close()
    assert row.state is State.DELIVERED
    assert list(settings.spool.iterdir()) == []


async def test_what_waits_at_the_end_is_due_for_whoever_comes_next(settings: Settings) -> None:
    async with running(settings) as runtime:
        one = accepted()
        [location] = await runtime.spool.append([(one, (RAW,))])
        runtime.importer.put(one, location)
    other = database(settings)
    assert [row.state for row in messages.outcomes(other, one.id)] == [State.QUEUED]
    other.close()
    async with running(settings, "test-2") as runtime:
        assert runtime.spool.read(location)[0].id == one.id


async def test_figures_are_written_as_a_sign_of_life(settings: Settings) -> None:
    async with running(settings):
        await until(lambda: metrics.read_snapshots(settings.run_dir))
        [shot] = metrics.read_snapshots(settings.run_dir)
        assert (shot.process, shot.gauges["policy_version"], shot.gauges["database_away"]) == ("test-1", 1.0, 0.0)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc gives memory back, others need not")
async def test_memory_left_free_between_what_is_in_use_goes_back_to_the_system(settings: Settings) -> None:
    async with running(settings):
        pieces = [bytearray(100_000) for _ in range(600)]
        last = pieces[-1]  # above the others, so that glibc does not give them back by itself
        full = resident_octets()
        del pieces
        await until(lambda: resident_octets() < full - 40_000_000)
    assert len(last) == 100_000


def resident_octets() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_the_database_may_be_away_at_the_start_and_come_back(
    settings: Settings, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "RETRY_SECONDS", 0.05)
    async with running(settings):
        pass  # leaves the last good policy
    file, elsewhere = settings.data_dir / "gatepost.db", settings.data_dir / "elsewhere.db"
    file.rename(elsewhere)
    file.mkdir()  # what SQLite cannot open
    async with running(settings) as runtime:
        assert runtime.current.policy.version == 1
        one = accepted()
        [location] = await runtime.spool.append([(one, (RAW,))])
        runtime.importer.put(one, location)
        runtime.importer.settle([settled(one, State.DELIVERED)])
        await until(lambda: runtime.importer.is_away)
        assert metrics.snapshot("test-1").gauges["database_away"] == 1.0
        file.rmdir()
        elsewhere.rename(file)
        await until(lambda: messages.outcomes(runtime.database, one.id))
        await until(lambda: not runtime.current.is_database_away)
    assert len(logged("policy.last_good")) == 1


async def test_without_database_and_last_good_policy_nothing_starts(settings: Settings) -> None:
    (settings.data_dir / "gatepost.db").unlink()
    (settings.data_dir / "gatepost.db").mkdir()
    runtime = Runtime(settings, "test-1")
    with pytest.raises(NoPolicy):
        await runtime.start()
    await runtime.stop()


def test_a_part_that_fails_ends_the_whole_process(settings: Settings) -> None:
    """Half a process would be worse: it would accept mail and deliver none."""
    code = """
import asyncio, sys
from pathlib import Path
from gateway.relay.runtime import Runtime
from gateway.settings import Settings

async def fail():
    raise RuntimeError("a mistake of ours")

async def main():
    runtime = Runtime(Settings(data_dir=Path(sys.argv[1])), "test-1")
    await runtime.start()
    runtime.run(fail())
    await asyncio.sleep(60)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code, settings.data_dir], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    events = [json.loads(line) for line in done.stderr.splitlines()]
    [failed] = [event for event in events if event["event"] == "process.failed"]
    assert failed["error"] == "RuntimeError: a mistake of ours"
    assert failed["where"].startswith("fail:")
