"""The ledger: entries begin and end at revisions, nothing is deleted, everything is audited."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from gateway.mail.errors import Conflict, Malformed, NotFound
from gateway.policy.ledger import (
    Identity,
    LedgerEntry,
    Proof,
    RecipientEntry,
    RelaySource,
    SendsAsUs,
    Waiver,
    WhitelistEntry,
)
from gateway.store import audit, ledger, recipients, relay_sources, revisions, sends_as_us, waivers, whitelist
from gateway.store.database import Database
from gateway.store.ledger import LedgerDelta

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=90)

PARTNER = WhitelistEntry(
    id="",
    identity=Identity.AUTHOR_DOMAIN,
    value="partner.example",
    subdomains=True,
    proof=Proof.NONE,
    networks=(),
    owner="ada@corp.example",
    reason="our printer of brochures",
    expires_at=LATER,
    review_at=None,
)
SCANNER = RelaySource(
    id="",
    network="192.0.2.0/24",
    owner="ada@corp.example",
    purpose="scan to mail",
    kind="device",
    allowed_domains=("corp.example",),
    any_sender=False,
    max_per_hour=100,
    expires_at=None,
    review_at=LATER,
)
NEWSLETTER = SendsAsUs("", "corp.example", ("198.51.100.0/24", "2001:db8::/32"), "bob@corp.example", "newsletter", None)
SALES = RecipientEntry("", "sales", "corp.example", "ada@corp.example")
ONCE = Waiver("", "ab" * 32, ("attachments:macro",), ("ada@corp.example",), LATER)

ADDS: list[tuple[Callable[[Database], LedgerEntry], LedgerEntry]] = [
    (lambda db: whitelist.add(db, PARTNER, by="ada", now=NOW), PARTNER),
    (lambda db: relay_sources.add(db, SCANNER, by="ada", now=NOW, reason="ticket 7"), SCANNER),
    (lambda db: sends_as_us.add(db, NEWSLETTER, by="ada", now=NOW), NEWSLETTER),
    (lambda db: recipients.add(db, SALES, by="ada", now=NOW), SALES),
    (lambda db: waivers.add(db, ONCE, by="ada", now=NOW), ONCE),
]


@pytest.mark.parametrize(("add", "entry"), ADDS)
def test_an_added_entry_is_loaded_as_it_was_given(
    database: Database, add: Callable[[Database], LedgerEntry], entry: LedgerEntry
) -> None:
    added = add(database)
    assert len(added.id) == 26
    assert replace(added, id="") == entry
    loaded = ledger.load(database)
    assert (loaded.revision, loaded.entries) == (1, (added,))


@pytest.mark.parametrize(("add", "entry"), ADDS[:4])
def test_a_second_current_entry_for_the_same_is_a_conflict(
    database: Database, add: Callable[[Database], LedgerEntry], entry: LedgerEntry
) -> None:
    add(database)
    with pytest.raises(Conflict):
        add(database)
    assert revisions.current(database).ledger_revision == 1
    assert len(audit.entries(database)) == 1


def test_an_ended_entry_may_be_added_again(database: Database) -> None:
    first = whitelist.add(database, PARTNER, by="ada", now=NOW)
    whitelist.end(database, first.id, by="bob", now=LATER, comment="contract ended")
    second = whitelist.add(database, PARTNER, by="ada", now=LATER)
    assert ledger.load(database).entries == (second,)
    ended, current = whitelist.list_entries(database, with_ended=True)
    assert (ended.entry, ended.ended_at, ended.ended_by, ended.created_by) == (first, LATER, "bob", "ada")
    assert (current.entry, current.ended_at) == (second, None)


def test_ending_what_is_not_current_is_not_found(database: Database) -> None:
    first = recipients.add(database, SALES, by="ada", now=NOW)
    recipients.remove(database, first.id, by="ada", now=NOW)
    with pytest.raises(NotFound):
        recipients.remove(database, first.id, by="ada", now=NOW)
    assert revisions.current(database).ledger_revision == 2


def test_a_renewal_keeps_the_id_and_the_history(database: Database) -> None:
    first = whitelist.add(database, PARTNER, by="ada", now=NOW)
    renewed = whitelist.renew(database, first.id, by="bob", now=LATER, expires_at=LATER + timedelta(days=90))
    assert renewed == replace(first, expires_at=LATER + timedelta(days=90))
    assert ledger.load(database).entries == (renewed,)
    assert [one.entry for one in whitelist.list_entries(database, with_ended=True)] == [first, renewed]


def test_changes_lead_from_one_revision_to_the_next(database: Database) -> None:
    partner = whitelist.add(database, PARTNER, by="ada", now=NOW)
    scanner = relay_sources.add(database, SCANNER, by="ada", now=NOW)
    since = ledger.load(database).revision
    assert ledger.changes(database, since) == LedgerDelta(2, (), ())
    sales = recipients.add(database, SALES, by="ada", now=NOW)
    relay_sources.end(database, scanner.id, by="ada", now=NOW)
    renewed = whitelist.renew(database, partner.id, by="ada", now=NOW, expires_at=None)
    delta = ledger.changes(database, since)
    assert delta.revision == 5
    assert set(delta.added) == {sales, renewed}
    assert delta.ended == (scanner.id,)


def test_an_entry_that_came_and_went_between_two_looks_is_not_added(database: Database) -> None:
    sales = recipients.add(database, SALES, by="ada", now=NOW)
    recipients.remove(database, sales.id, by="ada", now=NOW)
    assert ledger.changes(database, 0) == LedgerDelta(2, (), (sales.id,))


def test_expired_entries_are_loaded_since_expiry_is_looked_at_in_use(database: Database) -> None:
    expired = whitelist.add(database, replace(PARTNER, expires_at=NOW - timedelta(days=1)), by="ada", now=NOW)
    assert ledger.load(database).entries == (expired,)


def test_changes_are_audited_with_before_and_after(database: Database) -> None:
    partner = whitelist.add(database, PARTNER, by="ada", now=NOW)
    whitelist.end(database, partner.id, by="bob", now=LATER, comment="contract ended")
    ended, added = audit.entries(database, subject="whitelist", subject_id=partner.id)
    assert (added.action, added.by, added.at, added.before) == ("add", "ada", NOW, None)
    assert added.after["value"] == "partner.example"
    assert (ended.action, ended.by, ended.comment, ended.after) == ("end", "bob", "contract ended", None)
    assert ended.before["reason"] == "our printer of brochures"


def test_values_are_normalised(database: Database) -> None:
    assert (
        whitelist.add(database, replace(PARTNER, value=" Partner.Example "), by="a", now=NOW).value == "partner.example"
    )
    assert relay_sources.add(database, replace(SCANNER, network="192.0.2.7"), by="a", now=NOW).network == "192.0.2.7/32"
    assert recipients.add(database, replace(SALES, local="Sales"), by="a", now=NOW).local == "sales"


@pytest.mark.parametrize(
    "add",
    [
        lambda db: whitelist.add(db, replace(PARTNER, value="a@partner.example"), by="a", now=NOW),
        lambda db: whitelist.add(db, replace(PARTNER, identity=Identity.AUTHOR_ADDRESS), by="a", now=NOW),
        lambda db: whitelist.add(db, replace(PARTNER, proof=Proof.PINNED_ADDRESS), by="a", now=NOW),
        lambda db: relay_sources.add(db, replace(SCANNER, network="192.0.2.7/24"), by="a", now=NOW),
        lambda db: relay_sources.add(db, replace(SCANNER, network="printer"), by="a", now=NOW),
        lambda db: relay_sources.add(db, replace(SCANNER, network="fe80::1%eth0"), by="a", now=NOW),
        lambda db: relay_sources.add(db, replace(SCANNER, network="18::1d%2b/128"), by="a", now=NOW),
        lambda db: sends_as_us.add(db, replace(NEWSLETTER, networks=()), by="a", now=NOW),
        lambda db: sends_as_us.add(db, replace(NEWSLETTER, networks=("fe80::1%eth0",)), by="a", now=NOW),
        lambda db: recipients.add(db, replace(SALES, local=""), by="a", now=NOW),
        lambda db: recipients.add(db, replace(SALES, target="ada"), by="a", now=NOW),
        lambda db: waivers.add(db, replace(ONCE, reasons=()), by="a", now=NOW),
    ],
)
def test_values_that_make_no_sense_are_refused(sqlite: Database, add: Callable[[Database], LedgerEntry]) -> None:
    with pytest.raises(Malformed):
        add(sqlite)
    assert revisions.current(sqlite).ledger_revision == 0


def test_a_long_list_is_imported_without_what_exists_already(database: Database) -> None:
    recipients.add(database, RecipientEntry("", "user7", "corp.example", ""), by="ada", now=NOW)
    new = [RecipientEntry("", f"User{number}", "corp.example", "") for number in range(1200)]
    assert recipients.import_many(database, [*new, new[0]], by="ada", now=NOW) == 1199
    assert recipients.import_many(database, new, by="ada", now=NOW) == 0
    assert len(ledger.load(database).entries) == 1200


def test_lists_are_searched_and_paged(database: Database) -> None:
    new = [replace(PARTNER, value=f"p{number}.example") for number in range(5)]
    assert whitelist.import_many(database, new, by="ada", now=NOW) == 5
    assert [one.entry.value for one in whitelist.list_entries(database, search="P3")] == ["p3.example"]
    pages, after = [], ""
    while page := whitelist.list_entries(database, after_id=after, limit=2):
        pages.append(len(page))
        after = page[-1].entry.id
    assert pages == [2, 2, 1]
    recipients.add(database, SALES, by="ada", now=NOW)
    assert [one.entry.local for one in recipients.list_entries(database, search="ales@CORP")] == ["sales"]
    assert recipients.list_entries(database, search="%") == []
