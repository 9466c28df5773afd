"""The queue as people see it, and their orders."""

from datetime import timedelta

import pytest

from gateway.accepted import State
from gateway.mail.address import NULL_PATH, Address
from gateway.mail.errors import Malformed
from gateway.store import audit, held, messages, queue
from gateway.store.database import Database
from gateway.store.queue import DeliveryKey
from tests.store.make import ADA, BOB, NOW, OWNER, accepted, item, location, settled, states, store

FAR = Address("zoe", "far.example")


def queued(database: Database, *to: Address, **changes: object) -> list[DeliveryKey]:
    one = accepted(*to, **changes)  # type: ignore[arg-type]
    later = NOW + timedelta(hours=1)
    store(database, item(one, *[settled(one, State.QUEUED, to=name, due_at=later, reply="451 later") for name in to]))
    return [DeliveryKey(one.id, 0, name) for name in to]


def test_the_depth_counts_what_waits_and_what_is_held(database: Database) -> None:
    assert queue.depth(database, now=NOW).oldest_at is None
    queued(database, ADA, BOB)
    store(database, item(accepted(at=NOW - timedelta(hours=2))), item(accepted(held="malware")))
    depth = queue.depth(database, now=NOW)
    assert (depth.queued, depth.active, depth.held, depth.waiting) == (2, 1, 1, 3)
    assert depth.oldest_at == NOW - timedelta(hours=2)
    assert depth.oldest_seconds == 7200


def test_the_depth_by_destination_names_domain_and_source(database: Database) -> None:
    queued(database, ADA, BOB)
    queued(database, FAR, source="S1")
    queued(database, FAR, source="S2", at=NOW - timedelta(hours=1))
    found = queue.depth_by_destination(database)
    assert [(one.domain, one.source, one.waiting) for one in found] == [
        ("corp.example", "", 2),
        ("far.example", "S1", 1),
        ("far.example", "S2", 1),
    ]
    assert found[2].oldest_at == NOW - timedelta(hours=1)


def test_the_list_shows_message_and_last_reply_and_is_paged(database: Database) -> None:
    keys = queued(database, ADA, BOB, subject="Offer") + queued(database, FAR, source="S1")
    first, second = queue.list_waiting(database, limit=2)
    assert (first.subject, first.last_reply, first.state, first.attempts) == ("Offer", "451 later", State.QUEUED, 1)
    assert [row.key for row in queue.list_waiting(database, after=second.key)] == keys[2:]
    assert [row.key for row in queue.list_waiting(database, domain="FAR.example")] == keys[2:]
    assert [row.key for row in queue.list_waiting(database, source="")] == keys[:2]
    assert queue.list_waiting(database, states=[State.HELD]) == []


def test_a_retry_makes_deliveries_due_now(database: Database) -> None:
    keys = queued(database, ADA)
    assert queue.retry(database, keys, by="ada", now=NOW, reason="their server is back") == 1
    (row,) = messages.outcomes(database, keys[0].message_id)
    assert row.due_at == NOW
    (entry,) = audit.entries(database, subject="delivery")
    assert (entry.action, entry.by, entry.subject_id, entry.comment) == (
        "retry",
        "ada",
        keys[0].message_id,
        "their server is back",
    )


def test_a_held_delivery_is_not_tried_until_it_is_released(database: Database) -> None:
    keys = queued(database, ADA, BOB)
    assert queue.hold(database, keys[:1], by="ada", now=NOW, reason="looks odd") == 1
    (waiting,) = held.list_items(database)
    assert (waiting.kind, waiting.reason, waiting.recipients) == ("operator", "looks odd", (ADA,))
    leaving = [held.Leaving(waiting.recipients, location())]
    held.release(database, keys[0].message_id, 0, by="bob", now=NOW, reason="it is fine", leaving=leaving)
    assert states(database, keys[0].message_id)["ada@corp.example"] == State.QUEUED
    assert held.list_items(database) == []


def test_a_deleted_delivery_is_over_and_its_bytes_are_not_needed(database: Database) -> None:
    keys = queued(database, ADA)
    assert queue.delete(database, keys, by="ada", now=NOW, reason="a test") == 1
    assert queue.delete(database, keys, by="ada", now=NOW, reason="a test") == 0
    assert states(database, keys[0].message_id) == {"ada@corp.example": State.DELETED}
    assert queue.unsettled_segments(database, [location().segment]) == set()
    assert queue.notices_due(database, 10) == []
    assert len(audit.entries(database)) == 1


def test_deleting_the_last_held_delivery_closes_the_item(database: Database) -> None:
    one = accepted(ADA, BOB, held="malware")
    store(database, item(one))
    queue.delete(database, [DeliveryKey(one.id, 0, ADA)], by="ada", now=NOW, reason="spam")
    assert [waiting.recipients for waiting in held.list_items(database)] == [(BOB,)]
    queue.delete(database, [DeliveryKey(one.id, 0, BOB)], by="ada", now=NOW, reason="spam")
    assert held.list_items(database) == []


def test_a_redirection_delivers_to_somebody_else_and_is_shown_at_the_first(database: Database) -> None:
    keys = queued(database, FAR, source="S1")
    assert queue.redirect(database, keys, ADA, by="bob", now=NOW, reason="bogus domain") == 1
    assert queue.redirect(database, keys, ADA, by="bob", now=NOW, reason="bogus domain") == 0
    there, was = sorted(messages.outcomes(database, keys[0].message_id), key=lambda row: str(row.recipient))
    assert (there.recipient, there.state, there.attempts, there.due_at) == (ADA, State.QUEUED, 0, NOW)
    assert (was.recipient, was.state, was.last_reply) == (FAR, State.DELETED, "redirected to ada@corp.example")
    assert [row.domain for row in queue.list_waiting(database)] == ["corp.example"]


def test_what_is_redirected_to_a_recipient_of_the_message_is_not_delivered_twice(database: Database) -> None:
    one = accepted(FAR, ADA)
    store(database, item(one, settled(one, State.DELIVERED), settled(one, State.QUEUED, to=FAR)))
    assert queue.redirect(database, [DeliveryKey(one.id, 0, FAR)], ADA, by="bob", now=NOW, reason="") == 1
    assert states(database, one.id) == {"ada@corp.example": State.DELIVERED, "zoe@far.example": State.DELETED}


def test_what_is_being_delivered_right_now_is_not_redirected(database: Database) -> None:
    one = accepted(FAR)
    store(database, item(one))
    assert queue.redirect(database, [DeliveryKey(one.id, 0, FAR)], ADA, by="bob", now=NOW, reason="") == 0
    assert queue.settle(database, [settled(one, State.DELIVERED, to=FAR)], owner=OWNER) == 1


def test_nothing_is_redirected_to_nobody(sqlite: Database) -> None:
    with pytest.raises(Malformed):
        queue.redirect(sqlite, [], NULL_PATH, by="bob", now=NOW, reason="")
