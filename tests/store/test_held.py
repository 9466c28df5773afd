"""What is held for a person."""

from datetime import timedelta

import pytest

from gateway.accepted import State
from gateway.mail.address import NULL_PATH, Address
from gateway.mail.envelope import Direction
from gateway.mail.errors import Conflict, NotFound
from gateway.store import audit, conversations, held, queue
from gateway.store.database import Database
from gateway.store.mail_tables import DeliveryKey
from tests.store.make import ADA, BOB, NOW, accepted, item, location, settled, states, store

LATER = NOW + timedelta(days=3)
ANN = Address("ann", "partner.example")
PAT = Address("pat", "partner.example")
IDS = ["<in@corp.example>", "<out@corp.example>"]


def hold(database: Database, *to: object, kind: str = "malware", **changes: object) -> str:
    one = accepted(*to, held=kind, action="quarantine", **changes)  # type: ignore[arg-type]
    store(database, item(one))
    return one.id


def the(database: Database, id: str) -> held.HeldItem:
    """Return the item that waits."""
    found = held.find(database, id, 0)
    assert found is not None
    return found


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
    assert held.release(database, id, 0, by="ada", now=NOW, reason="known", recipients=[ADA]) == 1
    assert states(database, id) == {"ada@corp.example": State.QUEUED, "bob@corp.example": State.HELD}
    assert the(database, id).recipients == (BOB,)
    assert held.release(database, id, 0, by="ada", now=NOW, reason="known") == 1
    assert held.find(database, id, 0) is None
    with pytest.raises(NotFound):
        held.release(database, id, 0, by="ada", now=NOW, reason="again")
    assert [entry.action for entry in audit.entries(database, subject="held item")] == ["release", "release"]


def test_what_is_in_the_vault_needs_a_record_in_the_spool_to_be_released(database: Database) -> None:
    id = hold(database, ADA)
    assert [one.message_id for one in held.outside_vault(database)] == [id]
    held.set_vault_name(database, id, 0, "held/1")
    assert held.outside_vault(database) == []
    assert (the(database, id).vault_name, the(database, id).location) == ("held/1", None)
    with pytest.raises(Conflict):
        held.release(database, id, 0, by="ada", now=NOW, reason="known")
    assert states(database, id) == {"ada@corp.example": State.HELD}
    with pytest.raises(Conflict):
        queue.redirect(database, [DeliveryKey(id, 0, ADA)], BOB, by="ada", now=NOW, reason="known")
    assert states(database, id) == {"ada@corp.example": State.HELD}
    assert held.release(database, id, 0, by="ada", now=NOW, reason="known", location=location(9)) == 1
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


def release(database: Database, id: str, **changes: object) -> int:
    return held.release(database, id, 0, **{"by": "ada", "now": LATER, "reason": "known", **changes})  # type: ignore[arg-type]


def test_outgoing_mail_is_known_as_sent_from_its_release_on(database: Database) -> None:
    id = hold_outgoing(database, ANN)
    assert (sent(database), written_to(database)) == (set(), [])
    release(database, id)
    assert (sent(database), written_to(database)) == (set(IDS), [("partner.example", 1, 1)])
    assert conversations.wrote_to(database, "ann@partner.example", ours="ada@corp.example") == LATER


def test_only_those_who_get_it_have_been_written_to(database: Database) -> None:
    id = hold_outgoing(database, ANN, PAT)
    release(database, id, recipients=[ANN, BOB])
    assert conversations.wrote_to(database, "ann@partner.example") == LATER
    assert conversations.wrote_to(database, "pat@partner.example") is None
    assert conversations.wrote_to(database, "bob@corp.example") is None
    release(database, id)
    assert conversations.wrote_to(database, "pat@partner.example") == LATER
    assert (sent(database), written_to(database)) == (set(IDS), [("partner.example", 2, 2)])


def test_it_is_known_when_its_bytes_were_in_the_vault(database: Database) -> None:
    id = hold_outgoing(database, ANN)
    held.set_vault_name(database, id, 0, "held/1")
    with pytest.raises(Conflict):
        release(database, id)
    assert sent(database) == set()
    release(database, id, location=location(9))
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


def test_held_mail_that_is_redirected_is_known_as_sent(database: Database) -> None:
    id = hold_outgoing(database, ANN)
    key = DeliveryKey(id, 0, ANN)
    assert queue.redirect(database, [key], PAT, by="bob", now=LATER, reason="left") == 1
    assert sent(database) == set(IDS)
    assert conversations.wrote_to(database, "pat@partner.example") == LATER
    assert conversations.wrote_to(database, "ann@partner.example") is None
