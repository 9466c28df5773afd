"""Transactions, durability, one writer at a time, and one error for a database that is away."""

import fcntl
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, StatementError

from gateway.store import database as database_module
from gateway.store import leases, revisions, schema
from gateway.store.database import Database, DatabaseAway, is_away
from gateway.store.leases import leases as leases_table
from gateway.store.locking import WriteLock
from tests.postgres import PostgresServer
from tests.store.make import NOW


def names(database: Database) -> list[str]:
    with database.reading() as connection:
        return sorted(connection.execute(select(leases_table.c.name)).scalars())


def add(database: Database, name: str, at: datetime = NOW) -> None:
    with database.writing() as connection:
        connection.execute(leases_table.insert().values(name=name, owner="me", lease_until=at))


def test_a_transaction_is_committed_when_its_block_ends(database: Database) -> None:
    add(database, "one")
    assert names(database) == ["one"]


def test_a_transaction_is_undone_when_its_block_raises(database: Database) -> None:
    def fail() -> None:
        with database.writing() as connection:
            connection.execute(leases_table.insert().values(name="one", owner="me", lease_until=NOW))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert names(database) == []
    add(database, "two")
    assert names(database) == ["two"]


def test_what_is_written_while_reading_is_undone(database: Database) -> None:
    with database.reading() as connection:
        connection.execute(leases_table.insert().values(name="one", owner="me", lease_until=NOW))
    assert names(database) == []


def test_instants_come_back_in_utc(database: Database) -> None:
    add(database, "one", datetime(2026, 11, 24, 14, 0, 0, 5, tzinfo=timezone(timedelta(hours=2))))
    with database.reading() as connection:
        assert connection.execute(select(leases_table.c.lease_until)).scalar_one() == NOW.replace(
            year=2026, microsecond=5
        )


def test_an_instant_without_a_time_zone_is_a_mistake(database: Database) -> None:
    with pytest.raises(StatementError, match="time zone"):
        add(database, "one", datetime(2026, 11, 24))


def test_broken_constraints_and_wrong_statements_are_no_absence(database: Database) -> None:
    add(database, "one")
    with pytest.raises(IntegrityError):
        add(database, "one")
    with pytest.raises((OperationalError, ProgrammingError)) as failure, database.reading() as connection:
        connection.exec_driver_sql("SELECT * FROM no_such_table")
    assert not is_away(failure.value)


def test_foreign_keys_are_enforced(database: Database) -> None:
    with pytest.raises(IntegrityError), database.writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO held_items (message_id, group_number, kind, reason, state, held_at, vault_name, closed_by)"
            " VALUES ('none', 0, 'malware', '', 'held', '2026-11-24 12:00:00', '', '')"
        )


def test_the_write_ahead_log_is_synced_as_the_writer_needs_it(sqlite: Database) -> None:
    levels = []
    for durable in (False, True, False):
        with sqlite.writing(durable=durable) as connection:
            levels.append(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())
    assert levels == [1, 2, 1]  # NORMAL, FULL, NORMAL
    with sqlite.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"


def test_what_was_written_can_be_made_durable_at_any_time(database: Database) -> None:
    database.make_durable()
    add(database, "one")
    database.make_durable()
    assert names(database) == ["one"]


def test_the_log_is_moved_into_the_database_before_it_grows_large(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "CHECKPOINT_BYTES", 200_000)
    log = sqlite.data_dir / "gatepost.sqlite-wal"
    sizes = []
    for number in range(200):
        add(sqlite, f"{number}" + "x" * 8000)
        sizes.append(log.stat().st_size)
    assert max(sizes) < 400_000
    assert len(names(sqlite)) == 200


def test_a_locked_database_is_away(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.05)
    mine = Database(f"sqlite:///{sqlite.data_dir}/gatepost.sqlite", data_dir=sqlite.data_dir)
    other = sqlite3.connect(sqlite.data_dir / "gatepost.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseAway, match="locked"):
        add(mine, "one")
    other.execute("ROLLBACK")
    other.close()
    add(mine, "one")
    mine.close()


@pytest.mark.parametrize(
    "break_it",
    [
        lambda path: path.write_bytes(b"this is no database" * 100),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_a_file_that_is_no_database_is_away(tmp_path: Path, break_it: object) -> None:
    path = tmp_path / "gatepost.sqlite"
    path.touch()
    break_it(path)  # type: ignore[operator]
    database = Database(f"sqlite:///{path}", data_dir=tmp_path)
    with pytest.raises(DatabaseAway):
        revisions.current(database)
    with pytest.raises(DatabaseAway):
        add(database, "one")
    database.close()


def test_a_folder_that_is_not_there_is_away(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/none/gatepost.sqlite", data_dir=tmp_path)
    with pytest.raises(DatabaseAway):
        revisions.current(database)
    with pytest.raises(DatabaseAway, match="cannot lock"):
        add(database, "one")
    database.close()


def test_a_server_that_is_not_there_is_away_and_the_password_is_not_told(tmp_path: Path) -> None:
    database = Database(f"postgresql+psycopg://ada:secret@/none?host={tmp_path}", data_dir=tmp_path)
    with pytest.raises(DatabaseAway) as failure:
        revisions.current(database)
    assert "secret" not in str(failure.value)
    database.close()


def test_a_connection_that_the_server_ended_is_away_once_and_then_made_anew(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    database = Database(postgres_url, data_dir=tmp_path)
    with pytest.raises(DatabaseAway):
        end_my_own_connection(database)
    add(database, "one")
    assert names(database) == ["one"]
    database.close()


def end_my_own_connection(database: Database) -> None:
    with database.writing() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with database.writing() as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 5000)")
        connection.exec_driver_sql("SELECT 1")


def test_a_database_in_memory_is_refused_since_processes_cannot_share_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a file"):
        Database("sqlite://", data_dir=tmp_path)


def test_threads_write_one_after_the_other(sqlite: Database) -> None:
    def write(number: int) -> None:
        for step in range(20):
            add(sqlite, f"{number}-{step}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(sqlite)) == 80


HOLDS = """
import sys, time
from pathlib import Path
from gateway.store.locking import WriteLock
lock = WriteLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


def test_the_turn_of_a_process_that_dies_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, cwd=Path.cwd())
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    lock, got = WriteLock(path), threading.Event()

    def wait() -> None:
        lock.acquire()
        got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not got.wait(0.1)
    holder.kill()
    assert got.wait(10)
    thread.join()
    lock.release()
    lock.close()
    holder.communicate()


def test_who_waits_for_the_turn_gets_it_before_who_takes_it_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    busy, waiting = WriteLock(path), WriteLock(path)  # as two processes have them
    order: list[str] = []

    def wait() -> None:
        waiting.acquire()
        order.append("the one who waited")
        waiting.release()

    for _ in range(20):
        busy.acquire()
        thread = threading.Thread(target=wait)
        thread.start()
        wait_until(lambda: is_locked(Path(f"{path}-gate")))
        busy.release()
        busy.acquire()
        order.append("the one who had it")
        busy.release()
        thread.join()
    assert order == ["the one who waited", "the one who had it"] * 20
    busy.close()
    waiting.close()


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_child_has_locks_of_its_own(tmp_path: Path) -> None:
    lock = WriteLock(tmp_path / "lock")
    lock.acquire()
    lock.release()
    reader, writer = os.pipe()
    lock.acquire()
    child = os.fork()
    if child == 0:
        os.close(reader)
        mine = WriteLock(tmp_path / "lock")
        mine.acquire()  # waits for the parent
        os.write(writer, b"child")
        os._exit(0)
    os.close(writer)
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 10)
    lock.release()
    os.set_blocking(reader, True)
    assert os.read(reader, 10) == b"child"
    os.waitpid(child, 0)
    os.close(reader)
    lock.close()


def test_revisions_are_read_while_somebody_writes(sqlite: Database) -> None:
    with sqlite.writing():
        assert revisions.current(sqlite).policy_version == 0
        assert schema.is_current(sqlite)
    assert leases.take(sqlite, "one", "me", 1, datetime.now(UTC))
