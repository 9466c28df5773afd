"""`gatepost check`: each check in a line, what to do below it, and a status for scripts."""

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gateway import metrics
from gateway.inspection.box import sandbox
from gateway.settings import Settings
from gateway.store.database import Database
from tests.commands.conftest import Run

Ask = Callable[..., Any]


@pytest.fixture
def alive(settings: Settings, database: Database) -> None:
    settings.run_dir.mkdir()
    for process in ("smtp-1", "deliver", "schedule"):
        shot = metrics.Snapshot(process, 1, time.time(), time.time(), {}, {"policy_version": 1.0}, {})
        (settings.run_dir / f"{process}.json").write_bytes(msgspec.json.encode(shot))


def test_when_all_is_well_the_status_is_0(run: Run, ask: Ask, alive: None) -> None:
    lines = run("check").stdout.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("ok ") for line in lines)
    assert ask("check")["ok"] is True


def test_what_fails_stands_first_with_what_to_do(run: Run, ask: Ask, settings: Settings, alive: None) -> None:
    metrics.remove_snapshot(settings.run_dir, "deliver")
    first, second, *_ = run("check", status=1).stdout.splitlines()
    assert first == "FAILING  deliver     no deliver process runs here: what waits is not tried again"
    assert second.strip() == "Start `gatepost run` or `gatepost deliver`."
    assert ask("check", status=1)["checks"][0]["name"] == "deliver"


def test_a_database_that_goes_away_is_a_failing_check(run: Run, monkeypatch: pytest.MonkeyPatch, alive: None) -> None:
    monkeypatch.setenv("GATEPOST_DATABASE_URL", "postgresql+psycopg://127.0.0.1:1/gatepost")
    assert "FAILING  database    cannot be used: " in run("check", status=1).stdout


def test_the_layers_that_hold_hostile_files_are_named(run: Run, monkeypatch: pytest.MonkeyPatch, alive: None) -> None:
    assert "ok       box         held by limits, no new privileges" in run("check").stdout
    monkeypatch.setattr(sandbox, "layers", lambda: ("limits",))
    assert "FAILING  box         held by limits; not here: no new privileges" in run("check", status=1).stdout
