"""Migrations run up and down on both databases, with rows in every table, and make what the store's tables say."""

import ast
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, inspect

from gateway import store
from gateway.store import schema
from gateway.store.database import Database, DatabaseAway
from gateway.store.metadata import DAY_METADATA, METADATA
from gateway.store.revisions import Revisions, current
from tests.migrations.rows import ROWS, fill

for module in pkgutil.iter_modules(store.__path__):
    import_module(f"gateway.store.{module.name}")  # each brings its tables

FOLDER = Path(schema._migrations())
REVISIONS = sorted(script.revision for script in ScriptDirectory(str(FOLDER)).walk_revisions())


def table_names(database: Database) -> set[str]:
    with database.reading() as connection:
        return set(inspect(connection).get_table_names()) - {"alembic_version"}


def expected(database: Database) -> list[MetaData]:
    return [METADATA] if database.is_sqlite else [METADATA, DAY_METADATA]


def test_an_empty_database_gets_all_tables(empty: Database) -> None:
    assert schema.current(empty) == ""
    assert not schema.is_current(empty)
    schema.upgrade(empty)
    assert schema.is_current(empty)
    assert schema.current(empty) == schema.head() == REVISIONS[-1]
    assert table_names(empty) == {name for metadata in expected(empty) for name in metadata.tables}
    assert current(empty) == Revisions(0, 0)


def test_upgrading_again_changes_nothing(empty: Database) -> None:
    schema.upgrade(empty)
    schema.upgrade(empty)
    assert schema.is_current(empty)


def test_the_tables_are_those_that_the_store_expects(empty: Database) -> None:
    schema.upgrade(empty)
    with empty.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        for metadata in expected(empty):
            differences = compare_metadata(context, metadata)
            # With one of the two only in sight, the tables of the other one seem to be too many.
            assert [one for one in differences if not is_of_another(one, metadata)] == []


def is_of_another(difference: object, metadata: MetaData) -> bool:
    match difference:
        case ("remove_table", Table(name=name)):
            return name not in metadata.tables
        case ("remove_index", index):
            return index.table.name not in metadata.tables
    return False


def test_constraints_and_partial_indexes_are_those_that_the_store_expects(empty: Database) -> None:
    """What alembic does not compare: checks, conditions of indexes, tables without rowid."""
    schema.upgrade(empty)
    with empty.reading() as connection:
        migrated = definitions(connection)
    schema.downgrade(empty, "base")
    with empty.writing() as connection:
        for metadata in expected(empty):
            metadata.create_all(connection)
    with empty.reading() as connection:
        assert definitions(connection) == migrated


def definitions(connection: Connection) -> dict[str, object]:
    """What the database itself says of all its tables."""
    if connection.dialect.name == "sqlite":
        found = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: parts(sql) for name, sql in found if name != "alembic_version"}
    checks = connection.exec_driver_sql(
        "SELECT conrelid::regclass || ' ' || conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace"
    )
    indexes = connection.exec_driver_sql("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
    both = [*checks, *indexes]
    return {name: definition for name, definition in both if "alembic_version" not in name}


def parts(sql: str) -> set[str]:
    """The parts of a definition, in whatever order. A column that was added stands in the line of the one before."""
    return {re.sub(r"[\s\"]+", " ", part).strip(" ,") for part in re.split(r"\n|, ", sql)} - {""}


@pytest.mark.parametrize("revision", ["base", *REVISIONS[:-1]])
def test_with_rows_in_every_table_one_can_go_down_and_up_again(empty: Database, revision: str) -> None:
    schema.upgrade(empty)
    fill(empty)
    schema.downgrade(empty, revision)
    assert schema.current(empty) == ("" if revision == "base" else revision)
    left = table_names(empty)
    with empty.reading() as connection:
        counts = {name: connection.exec_driver_sql(f"SELECT COUNT(*) FROM {name}").scalar_one() for name in left}
    assert all(counts.values())  # what the older schema has too is still there
    schema.upgrade(empty)
    assert schema.is_current(empty)


def test_there_is_a_row_for_every_table(empty: Database) -> None:
    assert {*ROWS, *(() if empty.is_sqlite else ("traces", "replay_texts"))} == {
        name for metadata in expected(empty) for name in metadata.tables
    }


def test_a_migration_that_fails_leaves_the_schema_as_it_was(empty: Database) -> None:
    schema.upgrade(empty, "0002")
    with empty.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE jobs (id INTEGER)")  # in the way of a later migration
    with pytest.raises(Exception, match="jobs"):
        schema.upgrade(empty)
    assert schema.current(empty) == "0002"
    assert "messages" not in table_names(empty)


def test_an_unknown_schema_is_not_current(empty: Database) -> None:
    schema.upgrade(empty)
    with empty.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert not schema.is_current(empty)


def test_a_database_that_is_away_is_told_as_such(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/none/gatepost.sqlite", data_dir=tmp_path)
    for call in (schema.upgrade, schema.is_current):
        with pytest.raises(DatabaseAway):
            call(database)
    database.close()


def test_migrations_import_sqlalchemy_and_alembic_only() -> None:
    for path in FOLDER.glob("versions/0*.py"):
        tree = ast.parse(path.read_text())
        imported = {
            (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        assert imported <= {"sqlalchemy", "alembic", "typing"}, path.name
        assert ast.get_docstring(tree), path.name
