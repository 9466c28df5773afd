"""Is each part well? Each check fails for its own reason, says what is so, and what to do next."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from gateway import health, metrics
from gateway.health import Check
from gateway.policy.document import Document
from gateway.settings import Settings
from gateway.store import policies, schema
from gateway.store.database import Database
from tests.store.conftest import migrated_file
from tests.store.make import accepted, item, store

__all__ = ["migrated_file"]

NOW = datetime.now(UTC)
PROCESSES = ("smtp-1", "smtp-2", "deliver", "schedule", "web")


@pytest.fixture
def settings(tmp_path: Path, migrated_file: Path) -> Settings:
    (tmp_path / "gatepost.db").write_bytes(migrated_file.read_bytes())
    return Settings(data_dir=tmp_path, min_free_mb=64)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.url, data_dir=settings.data_dir, creates=False)
    policies.publish(database, Document(), by="ann", comment="", now=NOW - timedelta(minutes=5))
    for process in PROCESSES:
        alive(settings, process)
    yield database
    database.close()


def alive(settings: Settings, process: str, *, seconds_ago: float = 0.0, **gauges: float) -> None:
    """Let a process give its sign of life."""
    usual = {"policy_version": 1.0} if process.startswith(("smtp", "deliver")) else {}
    shot = metrics.Snapshot(process, 1, time.time() - seconds_ago, NOW.timestamp(), {}, {**usual, **gauges}, {})
    settings.run_dir.mkdir(exist_ok=True)
    (settings.run_dir / f"{process}.json").write_bytes(msgspec.json.encode(shot))


def failing(settings: Settings, database: Database) -> list[Check]:
    report = health.report(settings, database)
    wrong = [check for check in report.checks if not check.ok]
    assert report.ok is not bool(wrong)
    assert list(report.checks[: len(wrong)]) == wrong, "failing first"
    assert all(check.advice for check in wrong)
    return wrong


def only(checks: list[Check]) -> Check:
    [check] = checks
    return check


def test_all_is_well(settings: Settings, database: Database) -> None:
    assert failing(settings, database) == []
    names = [check.name for check in health.report(settings, database).checks]
    assert names == ["processes", "disk", "database", "policy", "queue", "imports", "spool"]


def test_a_silent_process_is_named_with_how_long(settings: Settings, database: Database) -> None:
    alive(settings, "smtp-2", seconds_ago=45)
    alive(settings, "deliver", seconds_ago=7300)
    check = only(failing(settings, database))
    assert (check.name, check.says) == ("processes", "no sign of life from deliver for 2 h, smtp-2 for 45 s")


def test_a_process_that_died_long_ago_is_not_forgotten(settings: Settings, database: Database) -> None:
    alive(settings, "smtp-2", seconds_ago=86400 * 3)
    assert only(failing(settings, database)).name == "processes"


@pytest.mark.parametrize(
    ("role", "consequence"),
    [("deliver", "what waits is not tried again"), ("schedule", "nothing expires"), ("smtp", "no mail is taken")],
)
def test_a_role_that_nobody_has_is_missed(settings: Settings, database: Database, role: str, consequence: str) -> None:
    for process in PROCESSES:
        if process.startswith(role):
            metrics.remove_snapshot(settings.run_dir, process)
    check = only(failing(settings, database))
    assert check.name == role
    assert consequence in check.says
    assert f"gatepost {role}" in check.advice


def test_a_full_disk_is_told_with_what_it_means(settings: Settings, database: Database) -> None:
    full = settings.model_copy(update={"min_free_mb": 1 << 40})
    check = only(failing(full, database))
    assert check.name == "disk"
    assert "mail is refused with 452" in check.says


def test_a_data_directory_that_is_gone_is_told(settings: Settings, database: Database) -> None:
    gone = settings.model_copy(update={"data_dir": settings.data_dir / "nowhere"})
    assert "disk" in [check.name for check in failing(gone, database)]


def test_a_database_that_is_away_is_told_with_the_policy_that_goes_on(settings: Settings, database: Database) -> None:
    settings.database_file.rename(settings.data_dir / "elsewhere")
    check = only(failing(settings, database))
    assert check.name == "database"
    report = health.report(settings, database)
    assert "goes on with version 1" in [one.says for one in report.checks if one.name == "policy"]


def test_a_database_that_only_the_others_miss_is_told(settings: Settings, database: Database) -> None:
    alive(settings, "smtp-1", database_away=1.0)
    assert only(failing(settings, database)).says == "cannot be used by smtp-1"


def test_tables_of_another_release_are_told(settings: Settings, database: Database) -> None:
    schema.downgrade(database, "0001")
    check = only(failing(settings, database))
    assert (check.name, check.advice) == ("database", "Run `gatepost migrate`.")


def test_a_database_without_a_policy_is_told(settings: Settings, database: Database) -> None:
    with database.writing() as connection:
        connection.execute(text("DELETE FROM policy_versions"))
    check = only(failing(settings, database))
    assert (check.name, check.says) == ("policy", "policy version 1; goes on with version 1")


def test_a_policy_that_cannot_be_read_is_told(settings: Settings, database: Database) -> None:
    with database.writing() as connection:
        connection.execute(text("UPDATE policy_versions SET document = '{'"))
    check = only(failing(settings, database))
    assert check.says == "the published policy cannot be read by this release; goes on with version 1"
    assert "rollback" in check.advice


def test_a_process_behind_the_published_policy_is_told_after_a_moment(settings: Settings, database: Database) -> None:
    policies.publish(database, Document(), by="ann", comment="", now=datetime.now(UTC))
    report = health.report(settings, database)
    assert report.ok
    assert "version 2 is being taken up" in [check.says for check in report.checks]
    alive(settings, "smtp-1", policy_version=3.0)
    alive(settings, "smtp-2", policy_version=3.0)
    policies.publish(database, Document(), by="ann", comment="", now=NOW - timedelta(minutes=1))
    check = only(failing(settings, database))
    assert (check.name, check.says) == ("policy", "deliver do not use version 3")


def test_a_queue_that_waits_too_long_is_told(settings: Settings, database: Database) -> None:
    store(database, item(accepted(at=NOW - timedelta(hours=5)), owner=""))
    check = only(failing(settings, database))
    assert (check.name, check.says) == ("queue", "1 waiting, the oldest for 5.0 h")
    assert "gatepost queue list" in check.advice


def test_a_short_queue_is_no_trouble(settings: Settings, database: Database) -> None:
    store(database, item(accepted(at=NOW - timedelta(minutes=5)), owner=""))
    assert failing(settings, database) == []


def test_mail_that_waits_for_the_database_is_told_before_it_is_too_much(settings: Settings, database: Database) -> None:
    alive(settings, "smtp-1", unimported=settings.max_unimported * 0.3)
    assert failing(settings, database) == []
    alive(settings, "smtp-2", unimported=settings.max_unimported * 0.3)
    assert only(failing(settings, database)).name == "imports"


def test_what_lies_in_the_spool_is_added_up(settings: Settings, database: Database) -> None:
    alive(settings, "smtp-1", spool_bytes=1_500_000, spool_segments=2)
    alive(settings, "deliver", spool_bytes=500_000, spool_segments=1)
    assert "2.0 MB in 3 segments" in [check.says for check in health.report(settings, database).checks]
