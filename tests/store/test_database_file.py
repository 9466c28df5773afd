"""SQLite's file may go and come back, or be put there anew, while processes use it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store import revisions
from gateway.store.database import Database, DatabaseAway
from gateway.store.revisions import Revisions


@pytest.fixture
def in_use(sqlite: Database) -> Iterator[Database]:
    """A database that connections are open to."""
    assert revisions.current(sqlite) == Revisions(0, 0)
    return sqlite


def move(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for file in source.glob("gatepost.sqlite*"):
        file.rename(target / file.name)


def test_a_file_that_was_moved_away_is_a_database_that_is_away(in_use: Database, tmp_path: Path) -> None:
    move(tmp_path, tmp_path / "away")
    for _ in range(2):
        with pytest.raises(DatabaseAway):
            revisions.current(in_use)
    with pytest.raises(DatabaseAway), in_use.writing():
        pass
    assert not (tmp_path / "gatepost.sqlite").exists(), "no empty one was made in its place"
    move(tmp_path / "away", tmp_path)
    assert revisions.current(in_use) == Revisions(0, 0)


def test_a_file_put_in_its_place_is_taken_up(in_use: Database, tmp_path: Path) -> None:
    backup = tmp_path / "backup.sqlite"
    shutil.copy(tmp_path / "gatepost.sqlite", backup)
    with in_use.writing() as connection:
        assert revisions.next_policy_version(connection) == 1
    move(tmp_path, tmp_path / "away")
    backup.rename(tmp_path / "gatepost.sqlite")
    assert revisions.current(in_use) == Revisions(0, 0), "as the backup has it"


def test_who_may_not_create_a_database_leaves_no_file(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/none.sqlite", data_dir=tmp_path, creates=False)
    with pytest.raises(DatabaseAway):
        revisions.current(database)
    database.close()
    assert not (tmp_path / "none.sqlite").exists()
