"""Databases for migration tests: empty ones, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.database import Database
from tests.postgres import PostgresServer, postgres_server

__all__ = ["empty", "postgres_server"]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without tables."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path}/gatepost.sqlite", data_dir=tmp_path)
        yield database
        database.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create(migrated=False)
    database = Database(server.url(name), data_dir=tmp_path)
    yield database
    database.close()
    server.drop(name)
