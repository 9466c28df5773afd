"""Which records in the spool are still needed."""

from gateway.accepted import State
from gateway.store import held, queue
from gateway.store.database import Database
from gateway.store.queue import DeliveryKey
from tests.store.make import ADA, BOB, NOW, OWNER, accepted, item, location, settled, store

FIRST, SECOND = f"{OWNER}/00000001.seg", f"{OWNER}/00000002.seg"


def test_a_segment_is_needed_while_one_delivery_of_it_is_open(database: Database) -> None:
    one = accepted(ADA, BOB)
    store(database, item(one, settled(one, State.DELIVERED)))
    assert queue.unsettled_segments(database, [FIRST, SECOND]) == {FIRST}
    queue.settle(database, [settled(one, State.DELIVERED, to=BOB)], owner=OWNER)
    assert queue.unsettled_segments(database, [FIRST, SECOND]) == set()


def test_a_held_message_needs_its_segment_until_it_is_in_the_vault(database: Database) -> None:
    one = accepted(held="malware")
    store(database, item(one))
    assert queue.unsettled_segments(database, [FIRST]) == {FIRST}
    held.set_vault_name(database, one.id, 0, "held/1")
    assert queue.unsettled_segments(database, [FIRST]) == set()


def test_a_failure_needs_its_segment_until_the_notice_is_in_the_spool(database: Database) -> None:
    one = accepted()
    store(database, item(one))
    queue.settle(database, [settled(one, State.FAILED, notice_due="failed")], owner=OWNER)
    assert queue.unsettled_segments(database, [FIRST]) == {FIRST}
    queue.notice_sent(database, [DeliveryKey(one.id, 0, ADA)], now=NOW)
    assert queue.notices_due(database, 10) == []
    assert queue.unsettled_segments(database, [FIRST]) == set()


def test_a_delay_notice_leaves_the_record_where_it_is_needed(database: Database) -> None:
    one = accepted()
    store(database, item(one))
    queue.settle(database, [settled(one, State.QUEUED, notice_due="delayed")], owner=OWNER)
    queue.notice_sent(database, [DeliveryKey(one.id, 0, ADA)], now=NOW)
    assert queue.unsettled_segments(database, [FIRST]) == {FIRST}


def test_records_that_were_copied_out_are_found_in_their_new_place(database: Database) -> None:
    both = [accepted(ADA, BOB), accepted()]
    store(database, *[item(one, place=location(number)) for number, one in enumerate(both)])
    assert queue.waiting_locations(database, FIRST) == [location(0), location(1)]
    queue.relocate(database, [(location(number), location(number + 5, SECOND)) for number in range(2)])
    assert queue.waiting_locations(database, FIRST) == []
    assert queue.waiting_locations(database, SECOND) == [location(5, SECOND), location(6, SECOND)]
    queue.relocate(database, [])
    assert queue.unsettled_segments(database, []) == set()
