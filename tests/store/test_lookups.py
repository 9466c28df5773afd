"""What pages look up by id: the states of many messages at once, and a ledger entry of any kind."""

from datetime import UTC, datetime

from gateway.accepted import State
from gateway.store import ledger, messages, relay_sources, whitelist
from gateway.store.database import Database
from tests.store.make import ADA, BOB, accepted, item, settled, store
from tests.store.test_ledger import PARTNER, SCANNER

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def test_the_states_of_many_messages_come_at_once(database: Database) -> None:
    both, waits, refused = accepted(ADA, BOB), accepted(), accepted(action="reject")
    done = settled(both, State.DELIVERED), settled(both, State.QUEUED, to=BOB)
    store(database, item(both, *done), item(waits, owner=""), item(refused))
    assert messages.states(database, [both.id, waits.id, refused.id]) == {
        both.id: [State.DELIVERED, State.QUEUED],
        waits.id: [State.QUEUED],
    }
    assert messages.states(database, []) == {}


def test_a_ledger_entry_is_found_by_its_id_whatever_its_kind(database: Database) -> None:
    partner = whitelist.add(database, PARTNER, by="ada", now=NOW)
    scanner = relay_sources.add(database, SCANNER, by="ada", now=NOW)
    for entry in (partner, scanner):
        found = ledger.find(database, entry.id)
        assert found is not None
        assert found.entry == entry
    assert ledger.find(database, "01AAAAAAAAAAAAAAAAAAAAAAAA") is None


def test_an_entry_that_has_ended_is_found_as_it_was_last(database: Database) -> None:
    partner = whitelist.add(database, PARTNER, by="ada", now=NOW)
    renewed = whitelist.renew(database, partner.id, by="ada", now=NOW, expires_at=NOW)
    whitelist.end(database, partner.id, by="bob", now=NOW)
    found = ledger.find(database, partner.id)
    assert found is not None
    assert (found.entry, found.ended_by) == (renewed, "bob")
