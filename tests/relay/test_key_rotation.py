"""The monthly change: made a week ahead, switched by the clock alone, caught up, and made once by whoever runs."""

import multiprocessing
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from gateway.masterkey import create_master_key
from gateway.policy.document import Document
from gateway.policy.keys import KeyState, state_of
from gateway.policy.periods import zone_of
from gateway.relay import key_rotation
from gateway.relay.key_rotation import due_periods, make_due
from gateway.relay.schedule_worker import TASKS, Schedule
from gateway.settings import Settings
from gateway.store import bypass_keys, policies
from gateway.store.bypass_keys import KeySecrets
from gateway.store.database import Database
from tests.postgres import PostgresServer
from tests.relay.conftest import Place

SEALING = KeySecrets(b"\x01" * 32)
NOW = datetime(2026, 11, 10, 12, 0, tzinfo=UTC)
MONTH = timedelta(days=31)


def document(**key_class: Any) -> Document:
    return Document.model_validate({"time_zone": "Europe/Zurich", "key_classes": {"files": key_class}})


def months(database: Database) -> list[str]:
    return [row.entry.period for row in bypass_keys.list_entries(database, with_ended=True)]


def live_at(database: Database, at: datetime, policy: Document) -> dict[str, str]:
    """Return the state of each month's key that opens something at a moment."""
    states = {
        row.entry.period: state_of(row.entry, policy.key_classes, at) for row in bypass_keys.list_entries(database)
    }
    return {period: state for period, state in states.items() if state in (KeyState.VALID, KeyState.GRACE)}


@pytest.mark.parametrize(
    ("now", "due"),
    [
        ("2026-11-10T12:00:00+00:00", ("2026-11",)),
        ("2026-11-23T22:59:59+00:00", ("2026-11",)),
        ("2026-11-23T23:00:00+00:00", ("2026-11", "2026-12")),
        ("2026-11-30T22:59:59+00:00", ("2026-11", "2026-12")),
        ("2026-11-30T23:00:00+00:00", ("2026-12",)),
        ("2026-12-28T12:00:00+00:00", ("2026-12", "2027-01")),
    ],
)
def test_the_next_key_is_due_seven_days_ahead_by_the_companys_clock(now: str, due: tuple[str, ...]) -> None:
    assert due_periods(datetime.fromisoformat(now), zone_of("Europe/Zurich")) == due


def test_keys_are_made_once_however_often_the_work_is_done(place: Place) -> None:
    assert [make_due(place.database, SEALING, document(), NOW) for _ in range(3)] == [1, 0, 0]
    late = NOW + timedelta(days=15)
    assert [make_due(place.database, SEALING, document(), late) for _ in range(2)] == [1, 0]
    assert months(place.database) == ["2026-11", "2026-12"]


def test_at_the_first_instant_of_the_month_the_keys_change_without_anybody(place: Place) -> None:
    policy = document(grace_days=5)
    make_due(place.database, SEALING, policy, NOW + timedelta(days=15))
    change = datetime(2026, 11, 30, 23, 0, tzinfo=UTC)  # 1 December, 0:00 in Zurich
    second = timedelta(seconds=1)
    assert live_at(place.database, change - second, policy) == {"2026-11": "valid"}
    assert live_at(place.database, change, policy) == {"2026-11": "grace", "2026-12": "valid"}
    assert live_at(place.database, change + timedelta(days=5), policy) == {"2026-12": "valid"}
    assert live_at(place.database, change, document(grace_days=0)) == {"2026-12": "valid"}


def test_what_was_missed_is_caught_up(place: Place) -> None:
    make_due(place.database, SEALING, document(), NOW)
    make_due(place.database, SEALING, document(), NOW + 4 * MONTH)  # nobody worked for months
    assert months(place.database) == ["2026-11", "2027-03"]


@pytest.mark.parametrize("jump", [MONTH, -MONTH])
def test_a_clock_that_jumped_a_month_leaves_no_mess(place: Place, jump: timedelta) -> None:
    policy = document()
    make_due(place.database, SEALING, policy, NOW)
    (before,) = bypass_keys.list_entries(place.database)
    make_due(place.database, SEALING, policy, NOW + jump)
    make_due(place.database, SEALING, policy, NOW)
    assert live_at(place.database, NOW, policy)["2026-11"] == "valid"
    assert bypass_keys.reveal(place.database, SEALING, before.entry.id, by="sam", now=NOW).entry == before.entry
    after = NOW + MONTH
    make_due(place.database, SEALING, policy, after)
    assert live_at(place.database, after, policy) == {"2026-12": "valid"}
    assert len(months(place.database)) == len(set(months(place.database)))


def test_a_revoked_key_of_the_month_is_made_anew(place: Place) -> None:
    make_due(place.database, SEALING, document(), NOW)
    (row,) = bypass_keys.list_entries(place.database)
    bypass_keys.revoke(place.database, row.entry.id, by="bea", now=NOW)
    assert make_due(place.database, SEALING, document(), NOW) == 1


def test_a_class_without_a_monthly_key_gets_none(place: Place) -> None:
    assert make_due(place.database, SEALING, document(monthly=False), NOW) == 0


def work(url: str, folder: str, barrier: Barrier) -> None:
    database = Database(url, data_dir=Path(folder))
    barrier.wait(30)
    for number in range(6):
        make_due(database, SEALING, document(), NOW + number * MONTH)
    database.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_of_two_processes_at_once_one_makes_each_key(
    kind: str, place: Place, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    database = place.database
    if kind == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        database = Database(server.url(server.create()), data_dir=tmp_path)
    url = database._engine.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    workers = [context.Process(target=work, args=(url, str(tmp_path), barrier)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(months(database)) == sorted(set(months(database)))
    assert {"2026-11", "2027-04"} <= set(months(database))
    database.close()


def test_the_scheduled_task_makes_the_keys_of_the_published_policy(place: Place, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    settings.data_dir.mkdir()
    create_master_key(settings.master_key)
    settings.database_file.write_bytes((tmp_path / "db" / "gatepost.db").read_bytes())
    schedule = Schedule(settings)
    policies.publish(schedule.database, document(), by="ann", comment="", now=datetime.now(UTC))
    (task,) = [task for task in TASKS if task.name == "key rotation"]
    assert task.every_seconds == key_rotation.EVERY_SECONDS
    schedule.run_due(task)
    assert months(schedule.database)
    schedule.database.close()
