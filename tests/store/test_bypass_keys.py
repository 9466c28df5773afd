"""Bypass keys in the database: sealed, matched by a keyed hash, one for each month, every change and look audited."""

import multiprocessing
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from gateway.mail.errors import Conflict, Malformed, NotFound
from gateway.policy.keys import BypassKey, digest_of, is_key
from gateway.policy.ledger import Ledger
from gateway.store import audit, bypass_keys, ledger, revisions
from gateway.store.bypass_keys import KeySecrets
from gateway.store.database import Database

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MASTER = b"\x01" * 32
SEALING = KeySecrets(MASTER)
NOVEMBER = BypassKey(
    "", "files", "", 12, datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), period="2026-11"
)
DECEMBER = replace(NOVEMBER, valid_from=datetime(2026, 12, 1, tzinfo=UTC), expires_at=None, period="2026-12")
PERSONAL = replace(
    NOVEMBER,
    period="",
    uses=1,
    recipients=("bob@corp.example",),
    senders=("partner.example",),
    types=("xlsm",),
    owner="anna",
    reason="one offer",
)


def add(database: Database, entry: BypassKey = NOVEMBER, **options: Any) -> bypass_keys.Revealed:
    return bypass_keys.add(database, SEALING, entry, by="ada", now=NOW, **options)


def actions(database: Database) -> list[tuple[str, str]]:
    return [(one.action, one.by) for one in reversed(audit.entries(database, subject="bypass_key"))]


def dump(database: Database) -> bytes:
    """Everything in the tables that keys are written to, as the database gives it."""
    with database.reading() as connection:
        rows = [
            tuple(row)
            for table in ("bypass_keys", "audit_entries")
            for row in connection.execute(text(f"SELECT * FROM {table}"))
        ]
    return repr(rows).encode()


@pytest.mark.parametrize("entry", [NOVEMBER, PERSONAL])
def test_a_key_comes_with_the_ledger_as_its_hash_alone(database: Database, entry: BypassKey) -> None:
    made = add(database, entry)
    assert is_key(made.key)
    assert len(made.key) == 12
    (loaded,) = ledger.load(database).entries
    assert loaded == made.entry
    assert replace(made.entry, id="", digest="") == entry
    assert made.entry.digest == digest_of(SEALING.match_key, made.key)
    assert Ledger(1, (loaded,)).key(made.entry.digest) == loaded


def test_no_row_holds_the_key(database: Database) -> None:
    clear = "FF9A022BC918"
    made = add(database, clear=clear.lower())
    bypass_keys.reveal(database, SEALING, made.entry.id, by="sam", now=NOW)
    kept = dump(database).upper()
    assert made.key == clear
    assert clear.encode() not in kept
    assert clear.encode().hex().upper().encode() not in kept


def test_a_key_is_revealed_to_be_shown_and_that_is_audited(database: Database) -> None:
    made = add(database)
    assert bypass_keys.reveal(database, SEALING, made.entry.id, by="sam", now=NOW) == made
    assert actions(database) == [("add", "ada"), ("reveal", "sam")]


def test_another_master_key_opens_nothing_and_an_older_one_still_does(database: Database) -> None:
    made = add(database)
    other = KeySecrets(b"\x02" * 32)
    with pytest.raises(Malformed, match="sealed with the master key"):
        bypass_keys.reveal(database, other, made.entry.id, by="sam", now=NOW)
    older = KeySecrets(b"\x02" * 32, older=(MASTER,))
    assert bypass_keys.reveal(database, older, made.entry.id, by="sam", now=NOW).key == made.key
    assert other.match_key != SEALING.match_key


def test_a_cipher_text_of_another_row_is_not_taken_for_this_one() -> None:
    sealed = SEALING.seal("FF9A022BC918", "one")
    assert SEALING.open(sealed, "one") == "FF9A022BC918"
    for damaged, id in ((sealed, "two"), (sealed[:-1], "one"), (sealed[:-1] + b"\0", "one")):
        with pytest.raises(Malformed, match="damaged"):
            SEALING.open(damaged, id)


def test_a_month_of_a_class_has_one_key(database: Database) -> None:
    add(database)
    with pytest.raises(Conflict):
        add(database)
    add(database, DECEMBER)
    add(database, replace(NOVEMBER, key_class="other"))
    assert bypass_keys.has_month(database, "files", "2026-11")
    assert not bypass_keys.has_month(database, "files", "2027-01")
    assert revisions.current(database).ledger_revision == 3


def test_personal_keys_are_as_many_as_one_likes_but_never_the_same(database: Database) -> None:
    add(database, PERSONAL, clear="FF9A022BC918")
    add(database, PERSONAL)
    with pytest.raises(Conflict):
        add(database, PERSONAL, clear="FF9A022BC918")


@pytest.mark.parametrize("clear", ["FF9A", "123456789012", "deadbeefcafe", "FF9A-022B-C918", "FF9A022BC91G", "A1" * 17])
def test_what_could_not_be_recognised_is_no_key(database: Database, clear: str) -> None:
    with pytest.raises(Malformed):
        add(database, clear=clear)
    assert ledger.load(database).entries == ()


def test_a_key_that_ends_before_it_begins_makes_no_sense(database: Database) -> None:
    with pytest.raises(Malformed):
        add(database, replace(NOVEMBER, expires_at=NOVEMBER.valid_from))


def test_a_revoked_key_is_gone_from_the_ledger_and_its_row_stays(database: Database) -> None:
    made = add(database)
    before = ledger.load(database)
    bypass_keys.revoke(database, made.entry.id, by="bea", now=NOW, comment="leaked")
    delta = ledger.changes(database, before.revision)
    assert (delta.added, delta.ended) == ((), (made.entry.id,))
    after = Ledger(before.revision, before.entries).changed(delta)
    assert after.key(made.entry.digest) is None
    assert not after.key_lengths
    (kept,) = bypass_keys.list_entries(database, with_ended=True)
    assert (kept.ended_at, kept.ended_by) == (NOW, "bea")
    with pytest.raises(NotFound):
        bypass_keys.reveal(database, SEALING, made.entry.id, by="sam", now=NOW)
    with pytest.raises(NotFound):
        bypass_keys.revoke(database, made.entry.id, by="bea", now=NOW)
    assert actions(database) == [("add", "ada"), ("revoke", "bea")]


def test_an_emergency_ends_the_months_keys_and_those_to_come_but_no_personal_one(database: Database) -> None:
    old = [add(database), add(database, DECEMBER)]
    kept = [add(database, PERSONAL), add(database, replace(NOVEMBER, key_class="other"))]
    entry = replace(NOVEMBER, valid_from=NOW)
    made = bypass_keys.rotate(database, SEALING, entry, by="bea", now=NOW, comment="forwarded to a list")
    current = {one.id for one in ledger.load(database).entries}
    assert current == {made.entry.id, *(one.entry.id for one in kept)}
    assert made.key not in {one.key for one in old}
    assert actions(database)[-4:] == [("end", "bea"), ("end", "bea"), ("add", "bea"), ("rotate", "bea")]


def test_the_deltas_of_a_rotation_lead_to_what_a_load_finds(database: Database) -> None:
    add(database)
    before = ledger.load(database)
    bypass_keys.rotate(database, SEALING, replace(NOVEMBER, valid_from=NOW), by="bea", now=NOW)
    after = Ledger(before.revision, before.entries).changed(ledger.changes(database, before.revision))
    whole = ledger.load(database)
    assert list(after.entries()) == list(whole.entries)
    assert (after.revision, after.key_lengths) == (whole.revision, frozenset({12}))


def make_november(url: str, folder: str, barrier: Barrier) -> None:
    database = Database(url, data_dir=Path(folder))
    barrier.wait(30)
    for period in range(1, 6):
        entry = replace(NOVEMBER, period=f"2026-{period:02d}")
        try:
            bypass_keys.add(database, SEALING, entry, by="a process", now=NOW)
        except Conflict:
            continue
    database.close()


def test_of_two_processes_that_make_a_months_key_at_once_one_does(database: Database, tmp_path: Path) -> None:
    url = database._engine.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    workers = [context.Process(target=make_november, args=(url, str(tmp_path), barrier)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    rows = bypass_keys.list_entries(database, with_ended=True)
    assert sorted(row.entry.period for row in rows) == [f"2026-{period:02d}" for period in range(1, 6)]
    assert actions(database) == [("add", "a process")] * 5


def test_new_keys_can_be_recognised_whatever_their_length() -> None:
    for length in range(8, 33):
        key = bypass_keys.new_key(length)
        assert len(key) == length
        assert is_key(key)


def test_ends_are_kept_to_the_second(database: Database) -> None:
    made = add(database, replace(PERSONAL, expires_at=NOW + timedelta(seconds=90)))
    assert bypass_keys.list_entries(database)[0].entry.expires_at == NOW + timedelta(seconds=90)
    assert [one.entry.id for one in bypass_keys.list_entries(database, key_class="files")] == [made.entry.id]
    assert bypass_keys.list_entries(database, key_class="other") == []
