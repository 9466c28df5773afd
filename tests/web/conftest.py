"""The web application on a real database, asked as a browser on this machine asks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from gateway.settings import Settings
from gateway.store.database import Database
from tests.store.conftest import migrated_file
from webui.app import create_app

__all__ = ["migrated_file"]

LOCAL = "http://127.0.0.1:8080"


@pytest.fixture
def settings(tmp_path: Path, migrated_file: Path) -> Settings:
    (tmp_path / "gatepost.db").write_bytes(migrated_file.read_bytes())
    return Settings(data_dir=tmp_path)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.url, data_dir=settings.data_dir, creates=False)
    yield database
    database.close()


@pytest.fixture
def client(settings: Settings, database: Database) -> Iterator[TestClient]:
    app = create_app(settings, database)
    with TestClient(app, LOCAL, client=("127.0.0.1", 50000), raise_server_exceptions=False) as client:
        yield client
