"""Rows in bulk: few statements, no row twice, and plain values as the tables' types would store them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from gateway.accepted import State
from gateway.store import counters, messages
from gateway.store.database import Database
from gateway.store.metadata import all_storable
from gateway.store.statements import MAX_REPEATED, in_parts, instant_writer
from tests.store.make import NOW, accepted, item, settled, store


@pytest.mark.parametrize("number", [0, 1, 2, 3, 7, 59, 64, 150, 187, 255, 300, 1000])
def test_parts_hold_every_row_in_order_and_repeat_only_the_last(number: int) -> None:
    rows = [(n,) for n in range(number)]
    assert [row for part in in_parts(rows) for row in part] == rows
    repeating = [row for part in in_parts(rows, may_repeat=True) for row in part]
    assert repeating[:number] == rows
    assert len(repeating) - number <= MAX_REPEATED
    assert set(repeating[number:]) <= set(rows[-1:])
    assert len(list(in_parts(rows, may_repeat=True))) <= len(list(in_parts(rows)))


@pytest.mark.parametrize("number", [1, 7, 59])
def test_an_import_has_as_many_rows_as_messages_and_counts_each_once(database: Database, number: int) -> None:
    batch = [accepted() for _ in range(number)]
    assert messages.import_batch(database, [item(one, settled(one, State.DELIVERED)) for one in batch]) == number
    assert {row.id for row in messages.recent(database, 1000)} == {one.id for one in batch}
    assert counters.totals(database, "deliveries", since=NOW) == {"delivered": number}


def test_what_is_older_than_the_newest_is_imported_once(database: Database) -> None:
    early, late, later = accepted(), accepted(), accepted()
    store(database, item(late))
    assert messages.import_batch(database, [item(early), item(late), item(later)]) == 2
    assert messages.import_batch(database, [item(early), item(late), item(later)]) == 0
    assert counters.totals(database, "messages", since=NOW) == {"inbound:deliver": 3}


def test_one_hostile_text_does_not_change_those_beside_it() -> None:
    assert all_storable(("plain", "nul\0", "\ud800", "Größe", "x" * 2000)) == [
        "plain",
        "nul\ufffd",
        "?",
        "Größe",
        "x" * 1000,
    ]
    assert all_storable(("plain", "")) == ("plain", "")


def test_instants_are_written_with_six_digits_in_utc() -> None:
    write = instant_writer(is_sqlite=True)
    at = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    assert write(at) == "2026-11-24 12:00:00.000000"
    assert write(at.replace(microsecond=70)) == "2026-11-24 12:00:00.000070"
    assert write(at.astimezone(timezone(timedelta(hours=2)))) == "2026-11-24 12:00:00.000000"
