"""Results of attempts: what counts depends on who has the lease; a delivery always counts."""

from datetime import timedelta

import pytest

from gateway.accepted import Settled, State
from gateway.mail.address import Address
from gateway.store import counters, held, messages, queue
from gateway.store.database import Database
from gateway.store.queue import DeliveryKey
from tests.store.make import ADA, BOB, NOW, OWNER, accepted, item, location, settled, states, store

LATER = NOW + timedelta(minutes=5)


def test_a_result_says_what_happened(database: Database) -> None:
    one = accepted(ADA, BOB)
    store(database, item(one))
    results = [
        settled(one, State.DELIVERED, reply="250 2.0.0 queued as 7", tls="TLSv1.3"),
        settled(one, State.QUEUED, to=BOB, reply="451 4.7.1 try later", due_at=LATER, attempts=2),
    ]
    assert queue.settle(database, results, owner=OWNER) == 2
    ada, bob = messages.outcomes(database, one.id)
    assert (ada.state, ada.last_reply, ada.tls, ada.last_host) == (
        State.DELIVERED,
        "250 2.0.0 queued as 7",
        "TLSv1.3",
        "next.example:25",
    )
    assert (bob.state, bob.last_reply, bob.due_at, bob.attempts) == (State.QUEUED, "451 4.7.1 try later", LATER, 2)
    assert counters.totals(database, "deliveries", since=NOW) == {"delivered": 1, "queued": 1}


def test_a_result_counts_once(database: Database) -> None:
    one = accepted()
    store(database, item(one))
    result = settled(one, State.DELIVERED)
    assert queue.settle(database, [result, result], owner=OWNER) == 1
    assert queue.settle(database, [result], owner=OWNER) == 0
    assert counters.totals(database, "deliveries", since=NOW) == {"delivered": 1}


@pytest.mark.parametrize("state", [State.QUEUED, State.FAILED, State.HELD])
def test_a_result_of_who_has_not_the_lease_does_not_count(database: Database, state: State) -> None:
    one = accepted()
    store(database, item(one))
    assert queue.settle(database, [settled(one, state)], owner="somebody else") == 0
    assert states(database, one.id) == {"ada@corp.example": State.ACTIVE}
    assert held.list_items(database) == []


def test_a_delivery_counts_whoever_has_the_lease_by_now(database: Database) -> None:
    one = accepted()
    store(database, item(one))
    queue.hold(database, [DeliveryKey(one.id, 0, ADA)], by="ada", now=NOW, reason="wait")
    assert queue.settle(database, [settled(one, State.DELIVERED)], owner="somebody else") == 1
    assert states(database, one.id) == {"ada@corp.example": State.DELIVERED}


def test_what_was_delivered_never_goes_back(database: Database) -> None:
    one = accepted()
    store(database, item(one, settled(one, State.DELIVERED)))
    for state in (State.QUEUED, State.FAILED, State.HELD):
        assert queue.settle(database, [settled(one, state)], owner=OWNER) == 0
    assert states(database, one.id) == {"ada@corp.example": State.DELIVERED}


def test_undeliverable_mail_from_outside_is_held_for_a_person(database: Database) -> None:
    one = accepted(ADA, BOB)
    store(database, item(one))
    results = [
        settled(one, State.HELD, reply="550 5.1.1 no such user"),
        settled(one, State.DELIVERED, to=BOB),
    ]
    assert queue.settle(database, results, owner=OWNER) == 2
    (waiting,) = held.list_items(database)
    assert (waiting.kind, waiting.reason, waiting.recipients) == ("undeliverable", "550 5.1.1 no such user", (ADA,))
    assert waiting.location == location()


def test_a_result_for_a_message_that_is_not_imported_is_no_error(database: Database) -> None:
    one = accepted()
    assert queue.settle(database, [settled(one, State.DELIVERED)], owner=OWNER) == 0
    assert queue.settle(database, [settled(one, State.HELD)], owner=OWNER) == 0
    assert held.list_items(database) == []


def test_many_results_are_saved_in_slices(database: Database) -> None:
    many = [Address(f"user{number}", "corp.example") for number in range(450)]
    one = accepted(*many)
    store(database, item(one))
    results: list[Settled] = [settled(one, State.DELIVERED, to=to) for to in many]
    assert queue.settle(database, results, owner=OWNER) == 450
    assert set(states(database, one.id).values()) == {State.DELIVERED}
    assert queue.unsettled_segments(database, [location().segment]) == set()
