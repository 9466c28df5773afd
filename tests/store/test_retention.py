"""What is older than the policy keeps it goes, in slices; what is still open stays."""

from datetime import timedelta

from msgspec.structs import replace

from gateway.accepted import State
from gateway.mail.address import Address
from gateway.mail.envelope import Direction
from gateway.policy.document import Retention
from gateway.store import audit, conversations, counters, held, jobs, messages, refused, replay_texts, retention, traces
from gateway.store.database import Database
from tests.store.make import ADA, NOW, accepted, item, settled, store
from tests.store.test_imports import kept
from tests.store.test_refused import ONE

KEEP = Retention(
    messages_days=10,
    traces_days=5,
    replay_text_days=2,
    refused_sessions_days=3,
    held_days=7,
    conversations_days=20,
    audit_days=30,
)


def days_ago(days: float) -> timedelta:
    return -timedelta(days=days)


def test_settled_messages_go_after_their_days_and_open_ones_stay(database: Database) -> None:
    old, queued, new = accepted(at=NOW + days_ago(11)), accepted(at=NOW + days_ago(11)), accepted(at=NOW + days_ago(9))
    store(database, item(old, settled(old, State.DELIVERED)), item(queued), item(new, settled(new, State.DELIVERED)))
    gone = retention.prune(database, KEEP, NOW, lambda: None)
    assert {row.id for row in messages.recent(database)} == {queued.id, new.id}
    assert messages.outcomes(database, old.id) == []
    assert (gone.rows["messages"], gone.rows["deliveries"]) == (1, 1)


def test_much_is_deleted_in_slices_with_pauses(database: Database) -> None:
    to = [Address(f"user{number}", "corp.example") for number in range(450)]
    old = accepted(*to, at=NOW + days_ago(11))
    store(database, item(old, *[settled(old, State.DELIVERED, to=one) for one in to]))
    pauses: list[int] = []
    gone = retention.prune(database, KEEP, NOW, lambda: pauses.append(1))
    assert gone.rows["deliveries"] == 450
    assert len(pauses) >= 2


def test_held_mail_expires_and_may_leave_the_vault(database: Database) -> None:
    one = accepted(held="malware", at=NOW + days_ago(8))
    store(database, item(one))
    held.set_vault_name(database, one.id, 0, "held/1")
    assert held.left_in_vault(database) == []
    assert retention.prune(database, KEEP, NOW, lambda: None).expired == 1
    assert held.list_items(database) == []
    assert held.left_in_vault(database) == [(one.id, 0, "held/1")]
    assert [row.id for row in messages.recent(database)] == [one.id]


def test_a_message_stays_as_long_as_the_vault_has_something_of_it(database: Database) -> None:
    one = accepted(held="malware", at=NOW + days_ago(20))
    store(database, item(one))
    held.set_vault_name(database, one.id, 0, "held/1")
    for _ in range(2):
        retention.prune(database, KEEP, NOW, lambda: None)
        assert [row.id for row in messages.recent(database)] == [one.id]
    held.forget_vault_names(database, held.left_in_vault(database))
    retention.prune(database, KEEP, NOW, lambda: None)
    assert messages.recent(database) == []


def test_traces_and_texts_go_by_whole_days(database: Database) -> None:
    ages = (1, 3, 6)
    old = [replace(accepted(at=NOW + days_ago(age)), trace=b"\x80") for age in ages]
    store(database, *map(item, old))
    replay_texts.put(database, [(one.id, "Dear Ada\0") for one in old])
    assert replay_texts.load(database, old[0].id) == "Dear Ada\ufffd"
    gone = retention.prune(database, KEEP, NOW, lambda: None)
    assert (gone.trace_days, gone.replay_days) == (1, 2)
    assert [kept(database, one.id) for one in old] == [True, True, False]
    assert [replay_texts.load(database, one.id) is not None for one in old] == [True, False, False]


def test_a_record_older_than_the_traces_are_kept_can_still_be_imported(database: Database) -> None:
    one = replace(accepted(at=NOW + days_ago(6)), trace=b"\x80")
    store(database, item(one))
    retention.prune(database, KEEP, NOW, lambda: None)
    again = replace(accepted(at=NOW + days_ago(6)), trace=b"\x80")
    store(database, item(again))
    assert kept(database, again.id)
    assert traces.drop_before(database, NOW.date()) == 1


def test_everything_else_goes_by_its_own_days(database: Database) -> None:
    at = NOW + days_ago(40)
    one = accepted(
        Address("a", "far.example"), direction=Direction.OUTBOUND, mail_from=ADA, at=at, message_id="<1@x.example>"
    )
    store(database, item(one, settled(one, State.DELIVERED, to=Address("a", "far.example"))))
    refused.record(database, [replace(ONE, started_at=at)])
    job = jobs.put(database, "look-up", None, by="ada", now=at)
    jobs.cancel(database, job, by="ada", now=at)
    with database.writing() as connection:
        audit.record(connection, at=at, by="ada", action="add", subject="test", subject_id="1")
    gone = retention.prune(database, KEEP, NOW, lambda: None)
    assert {name for name, count in gone.rows.items() if count} == {
        "messages",
        "deliveries",
        "refused_sessions",
        "sent_messages",
        "correspondents",
        "audit_entries",
        "jobs",
    }
    assert conversations.sent_with(database, ["<1@x.example>"]) == set()
    assert counters.totals(database, "messages", since=at) == {"outbound:deliver": 1}
