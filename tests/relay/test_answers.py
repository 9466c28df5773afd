"""What was sent is known from the first moment on; what cannot be told is never "not sent"."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.mail.envelope import Direction
from gateway.relay import answers
from gateway.relay.answers import StoreAnswers
from gateway.spool.sent import SentIds
from gateway.store.database import Database
from gateway.verdict import Answer, DnsQuestion, SentMessageQuestion, Unknown
from tests.relay.conftest import Place, until
from tests.store import make
from tests.store.make import OUTSIDER

ID = "<offer@corp.example>"
NEVER = "<never@corp.example>"


def engine(place: Place, database: Database | None = None, *, is_away: bool = False) -> StoreAnswers:
    """The answers of another process on the same spool."""
    return StoreAnswers(database or place.database, SentIds(place.root), lambda: is_away)


async def ask(engine: StoreAnswers, message_id: str) -> Answer:
    question = SentMessageQuestion((message_id,))
    return (await engine.answer([question]))[question]


async def send(place: Place, message_id: str = ID) -> None:
    await place.accept(OUTSIDER, direction=Direction.OUTBOUND, message_id=message_id)


@contextlib.contextmanager
def importing(place: Place) -> Iterator[None]:
    task = asyncio.ensure_future(place.importer.run())
    try:
        yield
    finally:
        task.cancel()


async def test_what_is_not_imported_yet_was_sent(place: Place) -> None:
    one = engine(place)
    assert await ask(one, ID) == ()
    await send(place)
    assert await ask(one, ID) == (ID,)
    assert await ask(one, NEVER) == ()


async def test_what_is_imported_was_sent_when_its_segment_is_gone(place: Place) -> None:
    one = engine(place)
    await send(place)
    with importing(place):
        await until(lambda: place.importer.unimported == 0)
    for segment in (place.root / place.spool.owner).glob("*.seg"):
        segment.unlink()
    assert await ask(one, ID) == (ID,)


async def test_what_is_imported_and_unlinked_between_the_two_looks_was_sent(place: Place) -> None:
    await send(place)

    class Gone(SentIds):
        def find(self, message_ids: object) -> set[str]:
            """The spool as it is when the import came right before."""
            make.store(place.database, make.item(one))
            return set()

    one = make.accepted(OUTSIDER, direction=Direction.OUTBOUND, message_id="<late@corp.example>")
    assert await ask(StoreAnswers(place.database, Gone(place.root), bool), "<late@corp.example>") == (
        "<late@corp.example>",
    )


async def test_while_the_database_takes_no_writes_the_spool_tells(place: Place, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "db" / "gatepost.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with importing(place):
            await send(place)
            assert await ask(engine(place), ID) == (ID,)
            assert await ask(engine(place), NEVER) == ()
    finally:
        other.execute("ROLLBACK")
        other.close()


async def test_while_the_database_is_gone_only_what_the_spool_has_is_known(place: Place) -> None:
    one = engine(place)
    await send(place)
    place.lose_database()
    assert await ask(one, ID) == (ID,)
    assert await ask(one, NEVER) == Unknown("database away")
    place.bring_database_back()
    assert await ask(one, NEVER) == ()


async def test_a_spool_that_cannot_be_read_to_its_end_leaves_it_unknown(place: Place) -> None:
    await send(place)
    [segment] = (place.root / place.spool.owner).glob("*.seg")
    segment.write_bytes(b"x" * 100)
    assert await ask(engine(place), ID) == Unknown("spool is damaged")


async def test_a_bounce_that_names_more_than_is_looked_up_is_answered_alike_by_both(place: Place) -> None:
    await send(place)
    question = SentMessageQuestion((*(f"<{number}@x.example>" for number in range(100)), ID))
    assert (await engine(place).answer([question]))[question] == ()


async def test_nobody_answers_the_rest(place: Place) -> None:
    question = DnsQuestion("corp.example", "MX")
    assert await engine(place).answer([question]) == {question: Unknown("no engine answers this")}


# -- on a server, where other hosts may have taken the message


@pytest.fixture
def server(postgres_url: str, tmp_path: Path) -> Iterator[Database]:
    database = Database(postgres_url, data_dir=tmp_path)
    yield database
    database.close()


async def test_another_host_has_a_moment_to_import(
    place: Place, server: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "ELSEWHERE_SECONDS", 0.01)
    imports = iter([make.item(make.accepted(OUTSIDER, direction=Direction.OUTBOUND, message_id=ID))])

    def is_away() -> bool:
        """The moment after the last look, when the other host imports what it has."""
        make.store(server, *imports)
        return False

    one = StoreAnswers(server, SentIds(place.root), is_away)
    assert await ask(one, ID) == (ID,)
    assert await ask(one, NEVER) == ()


async def test_while_a_server_takes_no_writes_what_other_hosts_sent_is_unknown(place: Place, server: Database) -> None:
    await send(place)
    one = engine(place, server, is_away=True)
    assert await ask(one, ID) == (ID,)
    assert await ask(one, NEVER) == Unknown("database takes no writes")
