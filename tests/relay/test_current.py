"""The policy in force: followed by revision, never replaced by a bad one, kept on disk for days without database."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway.policy.document import Document
from gateway.relay.current import CurrentPolicy, NoPolicy
from gateway.store import bypass_keys, policies, whitelist
from gateway.store.bypass_keys import KeySecrets
from gateway.store.database import Database
from tests import make
from tests.relay.conftest import Logged, Place

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def current(place: Place, database: Database | None = None, **options: Any) -> CurrentPolicy:
    file = place.data_dir / "policy-last-good.json"
    return CurrentPolicy(database or place.database, file, hop_key=b"k" * 32, hostname="mx.corp.example", **options)


def publish(place: Place, **document: Any) -> int:
    return policies.publish(place.database, Document.model_validate(document), by="ann", comment="", now=NOW)


def slip_in(place: Place, document: str) -> int:
    """Put a document in force as a hand in the database would: unchecked."""
    version = publish(place)
    with place.database.writing() as connection:
        connection.execute(
            text("UPDATE policy_versions SET document = :document WHERE version = :version"),
            {"document": document, "version": version},
        )
    return version


async def look(policy: CurrentPolicy) -> None:
    await policy.refresh(asyncio.get_running_loop())


async def test_a_published_document_comes_into_force(place: Place, logged: Logged) -> None:
    publish(place, company="One")
    policy = current(place)
    told: list[int] = []
    policy.on_change.append(lambda new: told.append(new.version))
    policy.start()
    assert (policy.policy.version, policy.policy.document.company) == (1, "One")
    await look(policy)
    assert told == []
    publish(place, company="Two")
    await look(policy)
    assert (policy.policy.version, policy.policy.document.company) == (2, "Two")
    assert told == [2]
    assert [event["version"] for event in logged("policy.loaded")] == [1, 2]


async def test_a_ledger_entry_comes_and_goes_without_a_new_compilation(place: Place, logged: Logged) -> None:
    publish(place)
    policy = current(place)
    policy.start()
    document = policy.policy.document
    entry = whitelist.add(place.database, make.partner(id=""), by="ann", now=NOW)
    await look(policy)
    [author] = make.addresses("nora@partner.example")
    assert [one.id for one in policy.policy.ledger.whitelisted(author, author, NOW)] == [entry.id]
    whitelist.end(place.database, entry.id, by="ann", now=NOW)
    await look(policy)
    assert policy.policy.ledger.whitelisted(author, author, NOW) == ()
    assert policy.policy.document is document
    assert len(logged("policy.loaded")) == 1


async def test_a_bypass_key_comes_as_its_hash_and_the_copy_on_disk_has_no_more(place: Place) -> None:
    publish(place, key_classes={"files": {"opens": ["business"]}})
    policy = current(place, saves=True, match_key=make.MATCH_KEY)
    policy.start()
    sealing = KeySecrets(b"\x01" * 32)
    made = bypass_keys.add(place.database, sealing, make.bypass_key(id=""), by="ann", now=NOW, clear=make.KEY)
    await look(policy)
    assert policy.policy.ledger.key(made.entry.digest) == made.entry
    current(place, saves=True).start()
    copy = (place.data_dir / "policy-last-good.json").read_text()
    assert made.entry.digest in copy
    assert make.KEY not in copy.upper()
    place.lose_database()
    other = current(place)
    other.start()
    assert other.policy.ledger.key(made.entry.digest) == made.entry
    place.bring_database_back()
    bypass_keys.revoke(place.database, made.entry.id, by="ann", now=NOW)
    await look(policy)
    assert policy.policy.ledger.key(made.entry.digest) is None


async def test_a_message_keeps_the_policy_that_it_began_with(place: Place) -> None:
    publish(place, company="One")
    policy = current(place)
    policy.start()
    pinned = policy.policy
    publish(place, company="Two")
    await look(policy)
    assert (pinned.document.company, policy.policy.document.company) == ("One", "Two")


@pytest.mark.parametrize(
    "bad",
    ["", "{ not JSON", '{"domains": 3}', '{"filters": {"no_such_filter": {}}}', '{"inbound_route": "nowhere"}'],
)
async def test_a_bad_document_never_replaces_a_good_one(place: Place, logged: Logged, bad: str) -> None:
    publish(place, company="Good")
    policy = current(place, saves=True)
    policy.start()
    version = slip_in(place, bad)
    for _ in range(3):
        await look(policy)
    assert policy.policy.document.company == "Good"
    assert [event["version"] for event in logged("policy.refused")] == [version]
    # Its ledger goes on, and the next good document is taken.
    whitelist.add(place.database, make.partner(id=""), by="ann", now=NOW)
    await look(policy)
    [author] = make.addresses("nora@partner.example")
    assert policy.policy.ledger.whitelisted(author, author, NOW)
    publish(place, company="Better")
    await look(policy)
    assert policy.policy.document.company == "Better"


async def test_a_start_with_a_bad_document_goes_on_with_the_last_good_one(place: Place, logged: Logged) -> None:
    publish(place, company="Good")
    current(place, saves=True).start()
    slip_in(place, "{ not JSON")
    whitelist.add(place.database, make.partner(id=""), by="ann", now=NOW)
    policy = current(place)
    policy.start()
    assert (policy.policy.document.company, policy.policy.version) == ("Good", 1)
    [author] = make.addresses("nora@partner.example")
    assert policy.policy.ledger.whitelisted(author, author, NOW)
    assert len(logged("policy.last_good")) == 1
    assert not policy.is_database_away


async def test_the_last_good_policy_goes_on_while_the_database_is_away(place: Place, logged: Logged) -> None:
    publish(place, company="One")
    policy = current(place)
    policy.start()
    place.lose_database()
    for _ in range(3):
        await look(policy)
    assert policy.is_database_away
    assert policy.policy.document.company == "One"
    place.bring_database_back()
    publish(place, company="Two")
    await look(policy)
    assert not policy.is_database_away
    assert policy.policy.document.company == "Two"
    assert len(logged("database.away")) == 1
    assert len(logged("database.back")) == 1


async def test_a_start_without_the_database_uses_the_copy_on_disk(place: Place, logged: Logged) -> None:
    publish(place, company="One")
    entry = whitelist.add(place.database, make.partner(id=""), by="ann", now=NOW)
    current(place, saves=True).start()
    place.lose_database()
    policy = current(place)
    policy.start()
    assert (policy.policy.version, policy.policy.document.company) == (1, "One")
    [author] = make.addresses("nora@partner.example")
    assert [one.id for one in policy.policy.ledger.whitelisted(author, author, NOW)] == [entry.id]
    assert policy.is_database_away
    [said] = logged("policy.last_good")
    assert said["version"] == 1
    place.bring_database_back()
    publish(place, company="Two")
    await look(policy)
    assert (policy.policy.document.company, policy.is_database_away) == ("Two", False)


def test_one_process_of_a_group_keeps_the_copy_and_the_others_make_it_where_there_is_none(place: Place) -> None:
    file = place.data_dir / "policy-last-good.json"
    first = publish(place, company="One")
    current(place).start()
    slip_in(place, "{ not JSON")
    late = current(place, saves=True)  # the others were quicker, and so it has something to go on with
    late.start()
    assert late.policy.version == first
    copy = file.read_bytes()
    publish(place, company="Three")
    current(place).start()
    assert file.read_bytes() == copy
    current(place, saves=True).start()
    assert file.read_bytes() != copy


async def test_the_copy_follows_the_document(place: Place) -> None:
    publish(place, company="One")
    policy = current(place, saves=True)
    policy.start()
    publish(place, company="Two")
    await look(policy)
    place.lose_database()
    other = current(place)
    other.start()
    assert other.policy.document.company == "Two"
    place.bring_database_back()


def test_a_copy_that_cannot_be_written_stops_nothing(place: Place, logged: Logged) -> None:
    publish(place, company="One")
    policy = CurrentPolicy(
        place.database, place.data_dir / "nowhere/copy.json", hop_key=b"k" * 32, hostname="mx.corp.example", saves=True
    )
    policy.start()
    assert policy.policy.document.company == "One"
    assert len(logged("policy.last_good")) == 1


@pytest.mark.parametrize(
    "copy", [None, b"", b'{"version": 1}', b'{"version":1,"revision":0,"document":"{","entries":[]}']
)
def test_without_database_and_copy_there_is_no_start(place: Place, copy: bytes | None) -> None:
    if copy is not None:
        (place.data_dir / "policy-last-good.json").write_bytes(copy)
    place.lose_database()
    with pytest.raises(NoPolicy, match=r"the database cannot be used .* no last good policy in .*last-good\.json"):
        current(place).start()
    place.bring_database_back()


def test_a_database_without_a_policy_says_what_to_do(place: Place) -> None:
    with pytest.raises(NoPolicy, match="gatepost migrate"):
        current(place).start()


def test_a_database_without_tables_is_no_reason_to_stop(place: Place, tmp_path: Path) -> None:
    publish(place, company="One")
    current(place, saves=True).start()
    empty = Database(f"sqlite:///{tmp_path / 'empty.db'}", data_dir=tmp_path)
    policy = current(place, empty)
    policy.start()
    assert policy.policy.document.company == "One"
    empty.close()


def test_there_is_no_policy_before_the_start(place: Place) -> None:
    with pytest.raises(NoPolicy):
        _ = current(place).policy
