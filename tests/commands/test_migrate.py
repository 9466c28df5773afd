"""`gatepost migrate`: from nothing to a database with a policy, up and down, and safe to repeat."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings
from gateway.store import policies, schema
from gateway.store.database import Database
from tests.commands.conftest import Run

Ask = Callable[..., Any]


def test_an_empty_folder_becomes_ready(run: Run, empty: Path) -> None:
    assert run("migrate").stdout == f"Database at revision {schema.head()}; policy version 1.\n"
    assert stat.S_IMODE((empty / "master.key").stat().st_mode) == 0o600
    settings = Settings()
    database = Database(settings.url, data_dir=empty)
    version, document = policies.load(database)
    database.close()
    assert (version, document.observe) == (1, True)


def test_it_may_be_repeated(run: Run, ask: Ask, empty: Path) -> None:
    run("migrate")
    key = (empty / "master.key").read_text()
    assert ask("migrate") == {"revision": schema.head(), "policy_version": 1}
    assert (empty / "master.key").read_text() == key


def test_down_and_up_again(run: Run, ask: Ask) -> None:
    run("migrate")
    assert ask("migrate", "--to", "0003") == {"revision": "0003", "policy_version": 0}
    assert ask("migrate", "--to", "0005") == {"revision": "0005", "policy_version": 0}
    assert ask("migrate")["policy_version"] == 1


def test_base_removes_all_tables(run: Run, ask: Ask) -> None:
    assert ask("migrate", "--to", "base")["revision"] == ""
    run("migrate")
    assert run("migrate", "--to", "base").stdout == "Database at revision base; policy version 0.\n"
    assert ask("migrate") == {"revision": schema.head(), "policy_version": 1}


@pytest.mark.parametrize("revision", ["9999", "0000", "nonsense"])
def test_an_unknown_revision_is_named(run: Run, revision: str) -> None:
    run("migrate")
    result = run("migrate", "--to", revision, status=1)
    assert result.stderr.startswith(f"gatepost: --to {revision}: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_data_directory_that_cannot_be_made_is_named(run: Run, empty: Path) -> None:
    empty.touch()
    result = run("migrate", status=1)
    assert result.stderr == f"gatepost: GATEPOST_DATA_DIR: {empty} cannot be made: File exists\n"


def test_a_master_key_that_others_can_read_stops_the_start(run: Run, empty: Path) -> None:
    run("migrate")
    (empty / "master.key").chmod(0o644)
    for command in ("migrate", "smtp", "deliver"):
        result = run(command, status=1)
        assert result.stderr.startswith("gatepost: GATEPOST_MASTER_KEY_FILE: ")
        assert "open to others" in result.stderr


def test_a_master_key_that_is_none_stops_the_start(run: Run, empty: Path) -> None:
    run("migrate")
    (empty / "master.key").write_text("no key\n")
    assert "does not hold hexadecimal digits" in run("migrate", status=1).stderr


def test_a_database_that_is_away_is_told(run: Run, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEPOST_DATABASE_URL", f"sqlite:///{empty}/nowhere/gatepost.db")
    assert run("migrate", status=1).stderr.startswith("gatepost: the database cannot be used: ")
