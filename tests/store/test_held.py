"""What is held for a person."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.accepted import Location, Objection, State
from gateway.mail.address import NULL_PATH, Address
from gateway.mail.envelope import Direction
from gateway.mail.errors import Conflict, NotAllowed, NotFound
from gateway.policy.ledger import Waiver
from gateway.store import audit, conversations, held, queue, waivers
from gateway.store.database import Database
from gateway.store.mail_tables import DeliveryKey
from tests.store.make import ADA, BOB, NOW, accepted, item, location, settled, states, store

LATER = NOW + timedelta(days=3)
ANN = Address("ann", "partner.example")
PAT = Address("pat", "partner.example")
IDS = ["<in@corp.example>", "<out@corp.example>"]


def hold(database: Database, *to: Address, kind: str = "malware", **changes: Any) -> str:
    one = accepted(*to, held=kind, action="quarantine", **changes)
    store(database, item(one))
    return one.id


def the(database: Database, id: str) -> held.HeldItem:
    """Return the item that waits."""
    found = held.find(database, id, 0)
    assert found is not None
    return found


def release(
    database: Database,
    id: str,
    *to: Address,
    place: Location | None = None,
    now: datetime = LATER,
    **changes: Any,
) -> int:
    """Release for all who wait or for these, from a record (else from the one that it has)."""
    one = the(database, id)
    leaving = changes.pop("leaving", None) or [held.Leaving(to or one.recipients, place or one.location or location())]
    return held.release(database, id, 0, by="ada", now=now, reason="known", leaving=leaving, **changes)


def test_people_see_what_is_held_for_them(database: Database) -> None:
    hers = hold(database, ADA)
    both = hold(database, ADA, BOB, kind="business_only", at=NOW + timedelta(minutes=1))
    assert [one.message_id for one in held.list_items(database, recipient="ada@corp.example")] == [both, hers]
    assert [one.message_id for one in held.list_items(database, recipient="bob@corp.example")] == [both]
    assert [one.message_id for one in held.list_items(database, kind="malware")] == [hers]
    assert [one.message_id for one in held.list_items(database, before=both)] == [hers]
    assert the(database, hers).recipients == (ADA,)


def test_what_is_released_for_one_recipient_waits_for_the_other(database: Database) -> None:
    id = hold(database, ADA, BOB)
    assert release(database, id, ADA) == 1
    assert states(database, id) == {"ada@corp.example": State.QUEUED, "bob@corp.example": State.HELD}
    assert the(database, id).recipients == (BOB,)
    assert release(database, id) == 1
    assert held.find(database, id, 0) is None
    with pytest.raises(Conflict, match="held no more: released by ada"):
        held.release(database, id, 0, by="ada", now=NOW, reason="again", leaving=[])
    with pytest.raises(NotFound):
        held.get(database, id, 1)
    assert [entry.action for entry in audit.entries(database, subject="held item")] == ["release", "release"]


def test_what_went_to_the_vault_needs_a_record_in_the_spool_to_leave(database: Database) -> None:
    id = hold(database, ADA, kind="undeliverable")
    assert [one.message_id for one in held.outside_vault(database)] == [id]
    held.set_vault_name(database, id, 0, "held/1")
    assert held.outside_vault(database) == []
    assert (the(database, id).vault_name, the(database, id).location) == ("held/1", None)
    with pytest.raises(Conflict):
        queue.redirect(database, [DeliveryKey(id, 0, ADA)], BOB, by="ada", now=NOW, reason="known")
    assert states(database, id) == {"ada@corp.example": State.HELD}
    assert release(database, id, place=location(9), now=NOW) == 1
    (claimed,) = queue.claim(database, owner="me", now=NOW, limit=1, lease_seconds=60)
    assert claimed.location == location(9)


def test_what_is_to_be_moved_comes_page_by_page_and_once(database: Database) -> None:
    ids = sorted(hold(database, ADA, BOB) for _ in range(5))
    held.set_vault_name(database, ids[1], 0, "held/1")
    pages, after = [], None
    while page := held.outside_vault(database, after=after, limit=2):
        pages.append([one.message_id for one in page])
        after = page[-1]
    assert pages == [[ids[0], ids[2]], [ids[3], ids[4]]]


def test_what_is_left_in_the_vault_comes_page_by_page(database: Database) -> None:
    ids = sorted(hold(database, ADA) for _ in range(3))
    for number, id in enumerate(ids):
        held.set_vault_name(database, id, 0, f"held/{number}")
        held.delete(database, id, 0, by="ada", now=NOW, reason="unwanted")
    first = held.left_in_vault(database, limit=2)
    assert first == [(ids[0], 0, "held/0"), (ids[1], 0, "held/1")]
    assert held.left_in_vault(database, after="held/1") == [(ids[2], 0, "held/2")]
    held.forget_vault_names(database, first)
    assert held.left_in_vault(database) == [(ids[2], 0, "held/2")]


def test_what_is_deleted_is_over(database: Database) -> None:
    id = hold(database, ADA, BOB)
    assert held.delete(database, id, 0, by="ada", now=NOW, reason="spam") == 2
    assert set(states(database, id).values()) == {State.DELETED}
    assert queue.unsettled_segments(database, [location().segment]) == set()


def test_what_is_held_too_long_expires(database: Database) -> None:
    old = hold(database, ADA, at=NOW - timedelta(days=31))
    new = hold(database, ADA)
    assert [held.expire(database, before=NOW - timedelta(days=30), now=NOW) for _ in range(2)] == [1, 0]
    assert states(database, old) == {"ada@corp.example": State.DELETED}
    assert states(database, new) == {"ada@corp.example": State.HELD}


# -- what leaves after all is remembered as what leaves at once


def hold_outgoing(database: Database, *to: Address, **changes: object) -> str:
    ids = dict(zip(("message_id", "sent_message_id"), IDS, strict=True))
    return hold(database, *to, **{"direction": Direction.OUTBOUND, "mail_from": ADA, **ids, **changes})


def sent(database: Database) -> set[str]:
    return conversations.sent_with(database, IDS)


def written_to(database: Database) -> list[tuple[str, int, int]]:
    found = conversations.partners(database, NOW - timedelta(days=1))
    return [(one.domain, one.addresses, one.messages) for one in found]


def test_outgoing_mail_is_known_as_sent_from_its_release_on(database: Database) -> None:
    id = hold_outgoing(database, ANN)
    assert (sent(database), written_to(database)) == (set(), [])
    release(database, id)
    assert (sent(database), written_to(database)) == (set(IDS), [("partner.example", 1, 1)])
    assert conversations.wrote_to(database, "ann@partner.example", ours="ada@corp.example") == LATER


def test_only_those_who_get_it_have_been_written_to(database: Database) -> None:
    id = hold_outgoing(database, ANN, PAT)
    release(database, id, ANN)
    assert conversations.wrote_to(database, "ann@partner.example") == LATER
    assert conversations.wrote_to(database, "pat@partner.example") is None
    release(database, id)
    assert conversations.wrote_to(database, "pat@partner.example") == LATER
    assert (sent(database), written_to(database)) == (set(IDS), [("partner.example", 2, 2)])


def test_it_is_known_when_its_bytes_were_in_the_vault(database: Database) -> None:
    id = hold_outgoing(database, ANN)
    held.set_vault_name(database, id, 0, "held/1")
    release(database, id, place=location(9))
    assert sent(database) == set(IDS)


def test_the_message_id_that_the_release_gave_it_is_known_as_sent(database: Database) -> None:
    id = hold_outgoing(database, ANN, sent_message_id=IDS[0])
    release(database, id, leaving=[held.Leaving((ANN,), location(9), sent_message_id=IDS[1])])
    assert sent(database) == set(IDS)


def test_what_is_given_up_was_never_sent(database: Database) -> None:
    deleted, _ = hold_outgoing(database, ANN), hold_outgoing(database, PAT)
    held.delete(database, deleted, 0, by="ada", now=LATER, reason="secret")
    held.expire(database, before=LATER, now=LATER)
    assert (sent(database), written_to(database)) == (set(), [])


def test_incoming_mail_that_is_released_is_not_sent(database: Database) -> None:
    release(database, hold(database, ADA, message_id=IDS[0], sent_message_id=IDS[1]))
    assert (sent(database), written_to(database)) == (set(), [])


def test_a_released_notice_is_known_by_its_id_alone(database: Database) -> None:
    release(database, hold_outgoing(database, ANN, mail_from=NULL_PATH))
    assert (sent(database), written_to(database)) == (set(IDS), [])


def test_what_was_on_its_way_before_it_was_held_is_counted_once(database: Database) -> None:
    changes = {"direction": Direction.OUTBOUND, "mail_from": ADA}
    stopped, failed = accepted(ANN, message_id=IDS[0], **changes), accepted(PAT, message_id=IDS[1], **changes)
    store(database, item(stopped, owner=""), item(failed, settled(failed, State.HELD, to=PAT)))
    queue.hold(database, [DeliveryKey(stopped.id, 0, ANN)], by="bob", now=NOW, reason="wait")
    assert [release(database, one.id) for one in (stopped, failed)] == [1, 1]
    assert (sent(database), written_to(database)) == (set(IDS), [("partner.example", 2, 2)])
    assert conversations.wrote_to(database, "partner.example") == NOW


def test_what_a_judgement_holds_is_not_redirected(database: Database) -> None:
    id = hold_outgoing(database, ANN)
    with pytest.raises(NotAllowed, match="release it first"):
        queue.redirect(database, [DeliveryKey(id, 0, ANN)], PAT, by="bob", now=LATER, reason="left")
    assert states(database, id) == {"ann@partner.example": State.HELD}
    assert sent(database) == set()


# -- releases


WAIVED = ("business_only:unknown-sender",)


def waive(database: Database, *to: Address, sha256: str = "ab" * 32) -> Waiver:
    entry = Waiver("", sha256, WAIVED, tuple(one.key for one in to or (ADA,)), LATER)
    return waivers.add(database, entry, by="ada", now=NOW)


def test_a_waiver_is_used_up_by_its_release_and_the_audit_names_it(database: Database) -> None:
    id, other = hold(database, ADA), hold(database, ADA)
    waiver = waive(database)
    release(database, id, waiver=waiver, policy_version=3)
    assert waivers.list_entries(database) == []
    [entry] = audit.entries(database, subject="held item")
    assert (entry.by, entry.comment) == ("ada", "known")
    assert entry.after == {"waiver": waiver.id, "waived": list(WAIVED), "policy_version": 3}
    with pytest.raises(Conflict, match="has been used"):
        release(database, other, waiver=waiver)
    assert states(database, other) == {"ada@corp.example": State.HELD}


def test_a_waiver_that_nobody_used_is_closed_once(database: Database) -> None:
    waiver = waive(database)
    for _ in range(2):
        waivers.close(database, waiver.id, by="ada", now=LATER)
    [listed] = waivers.list_entries(database, with_ended=True)
    assert listed.ended_at == LATER


def test_a_release_of_which_a_share_went_meanwhile_is_a_conflict_and_changes_nothing(database: Database) -> None:
    id = hold(database, ADA, BOB)
    release(database, id, ADA)
    with pytest.raises(Conflict, match="held no more"):
        release(database, id, BOB, ADA)
    assert states(database, id) == {"ada@corp.example": State.QUEUED, "bob@corp.example": State.HELD}


def test_of_two_who_release_at_once_one_does(database: Database) -> None:
    id = hold(database, ADA, BOB)
    barrier = threading.Barrier(2)

    def order(number: int) -> object:
        leaving = [held.Leaving((ADA, BOB), location(number))]
        barrier.wait()
        try:
            return held.release(database, id, 0, by=f"p{number}", now=NOW, reason="known", leaving=leaving)
        except Conflict as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(order, (8, 9)))
    assert sorted(type(one).__name__ for one in done) == ["Conflict", "int"]
    [entry] = audit.entries(database, subject="held item")
    [claimed] = queue.claim(database, owner="me", now=NOW, limit=9, lease_seconds=60)
    assert entry.by == f"p{claimed.location.offset // 5000}"


def test_recipients_of_one_group_may_leave_with_records_of_their_own(database: Database) -> None:
    id = hold(database, ADA, BOB)
    shares: Sequence[held.Leaving] = [
        held.Leaving((ADA,), location(8), "first"),
        held.Leaving((BOB,), location(9), "second"),
    ]
    assert release(database, id, leaving=shares, now=NOW) == 2
    claims = queue.claim(database, owner="me", now=NOW, limit=9, lease_seconds=60)
    assert {(str(claim.recipients[0].address), claim.location) for claim in claims} == {
        ("ada@corp.example", location(8)),
        ("bob@corp.example", location(9)),
    }


def test_who_comes_back_waits_with_the_bytes_of_those_who_wait_still(database: Database) -> None:
    id = hold(database, ADA, BOB)
    release(database, id, ADA, place=location(9))
    queue.hold(database, [DeliveryKey(id, 0, ADA)], by="bob", now=LATER, reason="wait")
    back = the(database, id)
    assert (back.kind, back.recipients, back.location) == ("malware", (ADA, BOB), location())
    assert queue.waiting_locations(database, location().segment) == [location()]


def test_who_comes_back_waits_for_the_vault_as_well(database: Database) -> None:
    id = hold(database, ADA, BOB)
    release(database, id, ADA, place=location(9))
    held.set_vault_name(database, id, 0, "held/1")
    queue.hold(database, [DeliveryKey(id, 0, ADA)], by="bob", now=LATER, reason="wait")
    assert (the(database, id).recipients, the(database, id).location) == ((ADA, BOB), None)


def test_all_that_objected_is_kept_and_replaced_when_it_is_judged_again(database: Database) -> None:
    id = hold(database, ADA)
    assert the(database, id).objections == ()
    found = (Objection("loop:hops", "101 hops\0", is_floor=True), Objection(WAIVED[0], "nobody knows them"))
    held.judged_again(
        database, id, 0, by="ada", now=LATER, reason="look", objections=found, decisive="loop:hops", after={"x": 1}
    )
    assert the(database, id).reason == "loop:hops"
    assert the(database, id).objections == (Objection("loop:hops", "101 hops\ufffd", is_floor=True), found[1])
    [past] = held.history(database, id)
    assert (past.state, past.objections) == ("held", the(database, id).objections)


def test_kinds_have_retentions_of_their_own(database: Database) -> None:
    kinds = {kind: hold(database, ADA, kind=kind, at=NOW - timedelta(days=10)) for kind in ("malware", "loop", "other")}
    by_kind = {"malware": NOW - timedelta(days=3), "loop": NOW - timedelta(days=90)}
    assert held.expire(database, before=NOW - timedelta(days=30), now=NOW, by_kind=by_kind) == 1
    assert held.find(database, kinds["malware"], 0) is None
    assert held.expire(database, before=NOW - timedelta(days=9), now=NOW, by_kind=by_kind) == 1
    assert held.find(database, kinds["other"], 0) is None
    assert the(database, kinds["loop"]).kind == "loop"
