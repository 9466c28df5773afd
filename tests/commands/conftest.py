"""The command line in this process: settings from variables, a database of its own, output and status to look at."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway import log
from gateway.commands import cli
from gateway.masterkey import create_master_key
from gateway.policy.document import Document
from gateway.settings import Settings
from gateway.store import policies
from gateway.store.database import Database
from tests.store.conftest import migrated_file

__all__ = ["migrated_file"]

Run = Callable[..., Result]


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings but a data directory that is not there yet."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"GATEPOST_{name.upper()}", raising=False)
    monkeypatch.delenv("GATEPOST_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEPOST_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("USER", "ann")
    return tmp_path / "data"


@pytest.fixture
def settings(empty: Path, migrated_file: Path) -> Settings:
    """A data directory with an empty database and a master key."""
    empty.mkdir()
    settings = Settings()
    settings.database_file.write_bytes(migrated_file.read_bytes())
    create_master_key(settings.master_key)
    return settings


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.url, data_dir=settings.data_dir, creates=False)
    document = Document.model_validate({"domains": {"corp.example": {}}})
    policies.publish(database, document, by="ann", comment="at first", now=datetime.now(UTC))
    yield database
    database.close()


@pytest.fixture
def run(empty: Path) -> Iterator[Run]:
    """Return what runs a command; the status is checked unless `status` is None."""

    def run(*arguments: object, status: int | None = 0, **options: Any) -> Result:
        result = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False, **options)
        assert status in (None, result.exit_code), f"{result.exit_code}: {result.stdout}{result.stderr}"
        return result

    yield run
    log.configure()


@pytest.fixture
def ask(run: Run) -> Callable[..., Any]:
    """Return what runs a command with --json and reads its answer."""

    def ask(*arguments: object, **options: Any) -> Any:
        return json.loads(run(*arguments, "--json", **options).stdout)

    return ask
