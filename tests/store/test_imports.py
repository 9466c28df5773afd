"""Importing what was accepted, refused and settled: once, whatever happens in between."""

import sqlite3
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from msgspec.structs import replace

from gateway.accepted import State
from gateway.inspection.facts import Facts
from gateway.mail.address import NULL_PATH, Address
from gateway.mail.envelope import Direction, Envelope, ListenerKind, Recipient, Session
from gateway.mail.reference import reference
from gateway.store import conversations, counters, held, messages, queue, revisions, traces, whitelist
from gateway.store.database import Database
from gateway.store.messages import ImportItem, NotImported
from gateway.verdict import Action, Case, Trace
from tests.store.make import ADA, BOB, NOW, OUTSIDER, accepted, item, location, settled, states, store
from tests.store.test_ledger import PARTNER

PARTNERS = Address("sales", "partner.example")


def test_a_message_is_found_by_id_and_by_reference(database: Database) -> None:
    one = accepted(ADA, BOB, subject="Offer", author="eve@sender.example", helo="mail.sender.example", size=70000)
    assert messages.import_batch(database, [item(one)]) == 1
    for name in (one.id, one.id.lower(), reference(one.id), reference(one.id).lower(), one.id[-8:]):
        (row,) = messages.find(database, name)
        assert row.id == one.id
    assert row.recipients == ("ada@corp.example", "bob@corp.example")
    assert (row.recipient_count, row.subject, row.size, row.accepted_at) == (2, "Offer", 70000, NOW)
    assert (row.direction, row.action, row.mail_from) == (Direction.INBOUND, Action.DELIVER, "eve@sender.example")
    assert messages.find(database, "0000-0000") == []
    assert messages.find(database, "no reference") == []


def test_what_is_not_settled_is_under_the_lease_of_who_accepted_it(database: Database) -> None:
    one = accepted(ADA, BOB)
    store(database, item(one, settled(one, State.DELIVERED)))
    assert states(database, one.id) == {"ada@corp.example": State.DELIVERED, "bob@corp.example": State.ACTIVE}
    assert queue.unsettled_segments(database, [location().segment]) == {location().segment}


def test_without_a_lease_mail_is_queued_and_due_at_once(database: Database) -> None:
    one = accepted()
    store(database, item(one, owner=""))
    (row,) = messages.outcomes(database, one.id)
    assert (row.state, row.due_at) == (State.QUEUED, NOW)


def test_mail_that_was_delivered_needs_its_bytes_no_more(database: Database) -> None:
    one = accepted()
    store(database, item(one, settled(one, State.DELIVERED)))
    assert queue.unsettled_segments(database, [location().segment]) == set()


def test_a_failure_keeps_its_bytes_until_the_sender_is_told(database: Database) -> None:
    one = accepted()
    failed = settled(one, State.FAILED, reply="550 5.1.1 no such user", notice_due="failed")
    store(database, item(one, failed))
    assert queue.unsettled_segments(database, [location().segment]) == {location().segment}
    (notice,) = queue.notices_due(database, 10)
    assert (notice.kind, notice.reply, notice.location) == ("failed", "550 5.1.1 no such user", location())


def test_importing_again_changes_nothing_even_when_more_is_known_by_then(database: Database) -> None:
    one = accepted()
    store(database, item(one, settled(one, State.DELIVERED)))
    before = counters.totals(database, "messages", since=NOW)
    assert messages.import_batch(database, [item(one)]) == 0
    assert messages.import_batch(database, [item(one, settled(one, State.FAILED))]) == 0
    assert states(database, one.id) == {"ada@corp.example": State.DELIVERED}
    assert counters.totals(database, "messages", since=NOW) == before == {"inbound:deliver": 1}


def test_a_record_that_comes_twice_in_one_batch_counts_once(database: Database) -> None:
    one = accepted()
    assert messages.import_batch(database, [item(one), item(one, place=location(7))]) == 1
    (row,) = messages.find(database, one.id)
    assert row.recipient_count == 1


@pytest.mark.parametrize("in_one_batch", [True, False])
def test_groups_of_a_message_are_one_message_with_its_worst_outcome(database: Database, in_one_batch: bool) -> None:
    first = accepted(ADA)
    second = replace(
        accepted(BOB), id=first.id, group=1, action="quarantine", reason="business_only:unknown", held="business_only"
    )
    if in_one_batch:
        assert messages.import_batch(database, [item(first), item(second)]) == 2
    else:
        assert messages.import_batch(database, [item(first)]) == 1
        assert messages.import_batch(database, [item(second)]) == 1
    assert messages.import_batch(database, [item(first), item(second)]) == 0
    (row,) = messages.find(database, first.id)
    assert row.recipients == ("ada@corp.example", "bob@corp.example")
    assert (row.recipient_count, row.action, row.reason) == (2, Action.QUARANTINE, "business_only:unknown")
    assert states(database, first.id) == {"ada@corp.example": State.ACTIVE, "bob@corp.example": State.HELD}
    assert counters.totals(database, "messages", since=NOW) == {"inbound:deliver": 1, "inbound:quarantine": 1}


def test_a_held_group_waits_for_a_person(database: Database) -> None:
    one = accepted(ADA, BOB, held="malware", held_reason="antivirus:found", action="quarantine", subject="Invoice")
    store(database, item(one))
    (waiting,) = held.list_items(database)
    assert (waiting.message_id, waiting.kind, waiting.reason, waiting.subject) == (
        one.id,
        "malware",
        "antivirus:found",
        "Invoice",
    )
    assert waiting.recipients == (ADA, BOB)
    assert waiting.location == location()


@pytest.mark.parametrize("action", ["reject", "defer"])
def test_refused_mail_has_a_row_and_no_deliveries(database: Database, action: str) -> None:
    one = accepted(ADA, action=action, reason="loop:hops", used_entries=("E1",))
    refused = ImportItem(one, None, (), "", NOW)
    assert messages.import_batch(database, [refused]) == 1
    assert messages.import_batch(database, [refused]) == 0
    (row,) = messages.find(database, one.id)
    assert (row.action, row.reason, row.recipients) == (action, "loop:hops", ("ada@corp.example",))
    assert messages.outcomes(database, one.id) == []
    assert counters.totals(database, "reasons", since=NOW) == {"loop:hops": 1}


def test_discarded_mail_has_deliveries_that_are_over(database: Database) -> None:
    one = accepted(action="discard")
    store(database, ImportItem(one, None, (), "", NOW))
    assert states(database, one.id) == {"ada@corp.example": State.DISCARDED}


def test_a_message_to_very_many_is_imported_whole(database: Database) -> None:
    many = [Address(f"user{number}", "corp.example") for number in range(1234)]
    one, other = accepted(*many), accepted()
    assert messages.import_batch(database, [item(one), item(other)]) == 2
    assert len(messages.outcomes(database, one.id)) == 1234
    (row,) = messages.find(database, one.id)
    assert row.recipient_count == 1234
    assert len("\n".join(row.recipients)) <= 4000


def test_recipients_that_a_crash_left_out_are_imported_by_the_next_try(database: Database) -> None:
    one = accepted(ADA, BOB)
    store(database, item(replace(one, recipients=one.recipients[:1])))
    store(database, item(one))
    assert set(states(database, one.id)) == {"ada@corp.example", "bob@corp.example"}


def test_what_no_database_can_store_is_replaced(database: Database) -> None:
    one = accepted(subject="a\0b \ud800 c", author="x" * 5000, helo="\0")
    store(database, item(one))
    (row,) = messages.find(database, one.id)
    assert row.subject == "a\ufffdb ? c"
    assert len(row.author) == 1000


def test_one_bad_item_does_not_keep_the_others_out(database: Database) -> None:
    good = [accepted(subject=str(number)) for number in range(20)]
    bad = replace(accepted(), size=1 << 70)  # no column holds it
    with pytest.raises(NotImported) as failure:
        store(database, *[item(one) for one in good[:10]], item(bad), *[item(one) for one in good[10:]])
    assert [failed.accepted for failed, _ in failure.value.failed] == [bad]
    assert len(messages.recent(database)) == 20


def test_a_trace_is_kept_and_read_again(database: Database) -> None:
    session = Session("S1", ListenerKind.INBOUND, "192.0.2.1", "", "mail.sender.example", None, "", NOW)
    envelope = Envelope(OUTSIDER, (Recipient(ADA, Direction.INBOUND),))
    one = accepted()
    trace = Trace(one.id, reference(one.id), Case(session, envelope, Facts((), 0, 0), NOW), (), (), ())
    store(database, item(replace(one, trace=msgspec.msgpack.encode(trace))))
    assert traces.load(database, one.id) == trace
    assert traces.load(database, accepted().id) is None
    assert traces.load(database, accepted(at=NOW - timedelta(days=400)).id) is None


def test_messages_around_midnight_have_their_traces_in_their_days(database: Database) -> None:
    late = datetime(2026, 11, 24, 23, 59, 59, 999000, tzinfo=UTC)
    both = [replace(accepted(at=at), trace=b"\x80") for at in (late, late + timedelta(milliseconds=1))]
    store(database, *map(item, both))
    assert traces.drop_before(database, (late + timedelta(days=1)).date()) == 1
    assert [kept(database, one.id) for one in both] == [False, True]


def kept(database: Database, id: str) -> bool:
    try:
        return traces.load(database, id) is not None
    except msgspec.ValidationError:  # the test's trace is an empty map
        return True


def test_outgoing_mail_is_remembered_for_the_conversation(database: Database) -> None:
    one = accepted(
        PARTNERS,
        direction=Direction.OUTBOUND,
        mail_from=ADA,
        message_id="<in@corp.example>",
        sent_message_id="<out@corp.example>",
    )
    notice = accepted(OUTSIDER, direction=Direction.OUTBOUND, mail_from=NULL_PATH, is_notice=True)
    refused = ImportItem(
        accepted(OUTSIDER, direction=Direction.OUTBOUND, mail_from=ADA, action="reject"), None, (), "", NOW
    )
    store(database, item(one), item(notice), refused)
    asked = ["<in@corp.example>", " <out@corp.example> ", "<never@corp.example>"]
    assert conversations.sent_with(database, asked) == {"<in@corp.example>", "<out@corp.example>"}
    assert conversations.wrote_to(database, "sales@partner.example") == NOW
    assert conversations.wrote_to(database, "partner.example", ours="ada@corp.example") == NOW
    assert conversations.wrote_to(database, "partner.example", ours="bob@corp.example") is None
    assert conversations.wrote_to(database, "partner.example", since=NOW + timedelta(days=1)) is None
    assert conversations.wrote_to(database, "sender.example") is None


def test_partners_are_listed_by_how_much_is_written_to_them(database: Database) -> None:
    def mail(to: str, at: datetime = NOW) -> ImportItem:
        address = Address(*to.split("@"))
        return item(accepted(address, direction=Direction.OUTBOUND, mail_from=ADA, at=at))

    later = NOW + timedelta(hours=1)
    store(
        database, mail("a@few.example"), mail("a@many.example"), mail("b@many.example"), mail("a@many.example", later)
    )
    store(database, mail("b@many.example"), mail("a@past.example", NOW - timedelta(days=100)))
    found = conversations.partners(database, NOW - timedelta(days=30))
    assert [(one.domain, one.addresses, one.messages, one.last_at) for one in found] == [
        ("many.example", 2, 4, later),
        ("few.example", 1, 1, NOW),
    ]


def test_the_use_of_ledger_entries_is_counted_once_and_bumps_no_revision(database: Database) -> None:
    entry = whitelist.add(database, PARTNER, by="ada", now=NOW)
    later = NOW + timedelta(minutes=1)
    uses = [item(accepted(used_entries=(entry.id,), at=at)) for at in (NOW, later, NOW)]
    store(database, *uses)
    store(database, *uses)
    (listed,) = whitelist.list_entries(database)
    assert (listed.use_count, listed.last_used_at) == (3, later)
    assert whitelist.add(database, replace(PARTNER, value="b.example"), by="ada", now=NOW)
    assert revisions.current(database).ledger_revision == 2


def test_messages_are_counted_by_hour(database: Database) -> None:
    at = datetime(2026, 11, 24, 12, 59, 59, tzinfo=UTC)
    one = accepted(at=at, source="S1", size=100)
    two = accepted(at=at + timedelta(seconds=1), size=20)
    store(database, item(one, settled(one, State.DELIVERED)), item(two))
    assert [(row.hour.hour, row.key, row.value) for row in counters.hours(database, "bytes", since=at)] == [
        (12, "inbound", 100),
        (13, "inbound", 20),
    ]
    assert counters.totals(database, "sources", since=at) == {"S1": 1}
    assert counters.totals(database, "deliveries", since=at) == {"delivered": 1}
    assert counters.totals(database, "bytes", since=at, until=at) == {"inbound": 100}


def test_a_damaged_day_of_traces_is_set_aside_and_the_mail_goes_on(sqlite: Database) -> None:
    one, two = (replace(accepted(), trace=b"\x80") for _ in range(2))
    store(sqlite, item(one))
    sqlite.day_files.close()
    (file,) = (sqlite.data_dir / "traces").glob("*.sqlite")
    file.write_bytes(b"this is no database" * 1000)
    again = Database(f"sqlite:///{sqlite.data_dir}/gatepost.sqlite", data_dir=sqlite.data_dir)
    store(again, item(two))
    assert kept(again, two.id)
    assert not kept(again, one.id)
    assert file.with_name(f"{file.name}.damaged").exists()
    again.close()


def test_the_imported_rows_are_as_sqlalchemy_would_have_written_them(sqlite: Database) -> None:
    store(sqlite, item(accepted(at=NOW.replace(microsecond=0))))
    with sqlite3.connect(sqlite.data_dir / "gatepost.sqlite") as connection:
        assert connection.execute("SELECT accepted_at FROM messages").fetchone() == ("2020-11-24 12:00:00.000000",)
    connection.close()
