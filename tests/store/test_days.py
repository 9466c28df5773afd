"""What is kept by day: found by a message's id, dropped whole."""

import sqlite3
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mail.errors import Malformed
from gateway.mail.reference import new_id
from gateway.store import days
from gateway.store.database import DatabaseAway
from gateway.store.day_files import DayFiles

DAY = date(2026, 11, 24)
INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))


@given(INSTANTS)
def test_an_id_tells_its_day(at: datetime) -> None:
    id = new_id(int(at.timestamp() * 1000))
    assert days.day_of(id) == at.date()


@given(INSTANTS, INSTANTS)
def test_the_lowest_id_of_an_instant_divides_earlier_ids_from_later_ones(at: datetime, other: datetime) -> None:
    at_ms, other_ms = int(at.timestamp() * 1000), int(other.timestamp() * 1000)
    assert (new_id(other_ms) >= days.lowest_id(at)) == (other_ms >= at_ms)


@pytest.mark.parametrize("text", ["", "!", "ÄÖÜ", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"])
def test_what_is_no_id_has_no_day(text: str) -> None:
    with pytest.raises(Malformed):
        days.day_of(text)


def test_contents_are_found_until_their_day_is_dropped(tmp_path: Path) -> None:
    files = DayFiles(tmp_path)
    for offset in range(3):
        files.write("traces", DAY + timedelta(days=offset), [(f"id{offset}", b"content")])
    assert files.read("traces", DAY, "id0") == b"content"
    assert files.read("traces", DAY, "id1") is None
    assert files.read("texts", DAY, "id0") is None
    assert files.days("traces") == [DAY + timedelta(days=offset) for offset in range(3)]
    assert files.drop_before("traces", DAY + timedelta(days=2)) == 2
    assert files.days("traces") == [DAY + timedelta(days=2)]
    assert files.read("traces", DAY, "id0") is None
    files.close()
    assert sorted(path.name for path in (tmp_path / "traces").iterdir() if "sqlite" in path.name) == [
        "2026-11-26.sqlite"
    ]


def test_what_is_there_already_stays_as_it_is(tmp_path: Path) -> None:
    files = DayFiles(tmp_path)
    files.write("traces", DAY, [("id", b"first")])
    files.write("traces", DAY, [("id", b"second"), ("other", b"third")])
    assert files.read("traces", DAY, "id") == b"first"
    assert files.read("traces", DAY, "other") == b"third"
    files.close()


def test_two_processes_write_into_one_day(tmp_path: Path) -> None:
    mine, yours = DayFiles(tmp_path), DayFiles(tmp_path)
    for files, id in ((mine, "a"), (yours, "b"), (mine, "c")):
        files.write("traces", DAY, [(id, id.encode())])
    assert [mine.read("traces", DAY, id) for id in "abc"] == [b"a", b"b", b"c"]
    mine.make_durable()
    mine.close()
    yours.close()


def test_many_days_at_once_are_written_with_few_files_open(tmp_path: Path) -> None:
    files = DayFiles(tmp_path)
    for _ in range(2):
        for offset in range(10):
            files.write("traces", DAY + timedelta(days=offset), [(f"{offset}", b"x")])
    assert all(files.read("traces", DAY + timedelta(days=offset), f"{offset}") for offset in range(10))
    files.make_durable()
    files.close()


def test_a_locked_day_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.day_files.BUSY_SECONDS", 0.05)
    files = DayFiles(tmp_path)
    files.write("traces", DAY, [("a", b"a")])
    other = sqlite3.connect(tmp_path / "traces" / "2026-11-24.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseAway):
        files.write("traces", DAY, [("b", b"b")])
    other.execute("ROLLBACK")
    other.close()
    files.write("traces", DAY, [("b", b"b")])
    files.close()


def test_a_folder_that_cannot_be_made_is_away(tmp_path: Path) -> None:
    (tmp_path / "traces").write_text("a file where the folder should be")
    files = DayFiles(tmp_path)
    with pytest.raises(DatabaseAway):
        files.write("traces", DAY, [("a", b"a")])
    files.close()
