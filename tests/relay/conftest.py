"""A process's parts for tests: a real SQLite database that can go away, a real spool and journal, the log's lines."""

import asyncio
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import log
from gateway.accepted import Accepted, Location, State
from gateway.relay.importer import Importer
from gateway.spool import Spool, new_owner
from gateway.spool.journal import Journal
from gateway.store.database import Database
from tests.postgres import postgres_server, postgres_url
from tests.store import make
from tests.store.conftest import migrated_file

__all__ = ["migrated_file", "postgres_server", "postgres_url"]

RAW = b"From: <eve@sender.example>\r\nSubject: Offer\r\n\r\nHello\r\n"

Logged = Callable[..., list[dict[str, Any]]]


class Place:
    """Where one process works: database, spool, journal and importer of one owner."""

    def __init__(self, folder: Path, migrated: Path) -> None:
        self.data_dir = folder
        self.root = folder / "spool"
        self._db = folder / "db"
        self._away = folder / "db.away"
        self._db.mkdir()
        (self._db / "gatepost.db").write_bytes(migrated.read_bytes())
        self.database = self.connect()
        self.spool = Spool(self.root, new_owner("test"))
        self.journal = Journal(self.root / self.spool.owner)
        self.importer = Importer(self.database, self.spool.owner, self.journal, max_unimported=1000)

    def connect(self) -> Database:
        """Return another connection, as another process has it."""
        return Database(f"sqlite:///{self._db / 'gatepost.db'}", data_dir=self.data_dir)

    def lose_database(self) -> None:
        """Take the database away: its folder is gone, like a disk that was unmounted."""
        self.database.close()  # who is connected could go on with the file that he has open
        self._db.rename(self._away)

    def bring_database_back(self) -> None:
        self._away.rename(self._db)

    async def accept(self, *to: Any, **changes: Any) -> tuple[Accepted, Location]:
        """Append a message as intake does, and hand it to the importer; who delivers it settles it."""
        one = make.accepted(*to, **changes)
        [location] = await self.spool.append([(one, (RAW,))])
        self.importer.put(one, location)
        return one, location

    def states(self, one: Accepted) -> list[State]:
        return list(make.states(self.database, one.id).values())

    def results(self) -> list[str]:
        """Return the files of the journal."""
        return sorted(path.name for path in (self.root / self.spool.owner).glob("results-*"))

    def close(self) -> None:
        self.spool.close()
        self.journal.close()
        self.database.close()


@pytest.fixture
def place(tmp_path: Path, migrated_file: Path) -> Iterator[Place]:
    place = Place(tmp_path, migrated_file)
    yield place
    place.close()


@pytest.fixture
def logged() -> Iterator[Logged]:
    """Return what gives the log's events of a name."""
    lines = io.StringIO()
    log.configure("debug", "test", lines)

    def events(name: str) -> list[dict[str, Any]]:
        return [event for event in map(json.loads, lines.getvalue().splitlines()) if event["event"] == name]

    yield events
    log.configure()


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait until something is so; fail when it does not become so in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)
