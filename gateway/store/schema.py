"""The schema's state: bring the database to a revision of `migrations/`, say at which one it is.

alembic is driven from here, on our own connection: with the lock that all writers of a SQLite database hold, and on
PostgreSQL with an advisory lock, so that two hosts that start at once do not migrate at once.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from gateway.mail.errors import NotFound
from gateway.store.database import Database

ADVISORY_LOCK = 4_703_118  # Any number, the same in every process of a cluster.


def upgrade(db: Database, revision: str = "head") -> None:
    """Bring the schema up to `revision`, or leave it as it was. An empty database gets all tables.

    Raises NotFound for a revision that this release does not know.
    """
    _run(db, lambda config: command.upgrade(config, revision))


def downgrade(db: Database, revision: str) -> None:
    """Take the schema down to `revision` ("base": no tables), or leave it as it was. Data of newer tables are lost.

    Raises NotFound for a revision that this release does not know.
    """
    _run(db, lambda config: command.downgrade(config, revision))


def current(db: Database) -> str:
    """Return the revision of the schema, "" for an empty database."""
    with db.reading() as connection:
        return MigrationContext.configure(connection).get_current_revision() or ""


@cache
def head() -> str:
    """Return the newest revision that this release knows."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def is_current(db: Database) -> bool:
    """Tell whether the schema is what this release needs."""
    return current(db) == head()


def _run(db: Database, step: Callable[[Config], None]) -> None:
    with db.writing(durable=True) as connection:
        if not db.is_sqlite:
            _wait_alone(connection)
        config = _config()
        config.attributes["connection"] = connection
        try:
            step(config)
        except CommandError as error:
            raise NotFound(f"the database cannot be brought there: {error}") from error


def _wait_alone(connection: Connection) -> None:
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")  # A migration takes the time that its rows need.
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
    return config


@cache
def _migrations() -> Path:
    """Find the migrations: beside `gateway`, in a checkout as in an installation, or as a package."""
    beside = Path(__file__).resolve().parents[2] / "migrations"
    if (beside / "env.py").is_file():
        return beside
    spec = find_spec("migrations")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise FileNotFoundError("the migrations are not installed")
    return Path(places[0])
