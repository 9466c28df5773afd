"""Databases for store tests: each test that asks for `database` runs on SQLite and on PostgreSQL."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store import schema
from gateway.store.database import Database
from tests.postgres import PostgresServer, postgres_server, postgres_url

__all__ = ["database", "migrated_file", "postgres_server", "postgres_url", "sqlite"]


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with all tables, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "gatepost.sqlite"
    database = Database(f"sqlite:///{path}", data_dir=path.parent)
    schema.upgrade(database)
    database.close()
    return path


@pytest.fixture
def sqlite(migrated_file: Path, tmp_path: Path) -> Iterator[Database]:
    path = tmp_path / "gatepost.sqlite"
    shutil.copy(migrated_file, path)
    database = Database(f"sqlite:///{path}", data_dir=tmp_path)
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite")
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create()
    database = Database(server.url(name), data_dir=tmp_path)
    yield database
    database.close()
    server.drop(name)
