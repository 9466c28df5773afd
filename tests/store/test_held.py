"""What is held for a person."""

from datetime import timedelta

import pytest

from gateway.accepted import State
from gateway.mail.errors import Conflict, NotFound
from gateway.store import audit, held, queue
from gateway.store.database import Database
from tests.store.make import ADA, BOB, NOW, accepted, item, location, states, store


def hold(database: Database, *to: object, kind: str = "malware", **changes: object) -> str:
    one = accepted(*to, held=kind, action="quarantine", **changes)  # type: ignore[arg-type]
    store(database, item(one))
    return one.id


def test_people_see_what_is_held_for_them(database: Database) -> None:
    hers = hold(database, ADA)
    both = hold(database, ADA, BOB, kind="business_only", at=NOW + timedelta(minutes=1))
    assert [one.message_id for one in held.list_items(database, recipient="ada@corp.example")] == [both, hers]
    assert [one.message_id for one in held.list_items(database, recipient="bob@corp.example")] == [both]
    assert [one.message_id for one in held.list_items(database, kind="malware")] == [hers]
    assert [one.message_id for one in held.list_items(database, before=both)] == [hers]
    assert held.get(database, hers, 0).recipients == (ADA,)


def test_what_is_released_for_one_recipient_waits_for_the_other(database: Database) -> None:
    id = hold(database, ADA, BOB)
    assert held.release(database, id, 0, by="ada", now=NOW, reason="known", recipients=[ADA]) == 1
    assert states(database, id) == {"ada@corp.example": State.QUEUED, "bob@corp.example": State.HELD}
    assert held.get(database, id, 0).recipients == (BOB,)
    assert held.release(database, id, 0, by="ada", now=NOW, reason="known") == 1
    with pytest.raises(NotFound):
        held.get(database, id, 0)
    with pytest.raises(NotFound):
        held.release(database, id, 0, by="ada", now=NOW, reason="again")
    assert [entry.action for entry in audit.entries(database, subject="held item")] == ["release", "release"]


def test_what_is_in_the_vault_needs_a_record_in_the_spool_to_be_released(database: Database) -> None:
    id = hold(database, ADA)
    assert [one.message_id for one in held.outside_vault(database)] == [id]
    held.set_vault_name(database, id, 0, "held/1")
    assert held.outside_vault(database) == []
    assert (held.get(database, id, 0).vault_name, held.get(database, id, 0).location) == ("held/1", None)
    with pytest.raises(Conflict):
        held.release(database, id, 0, by="ada", now=NOW, reason="known")
    assert states(database, id) == {"ada@corp.example": State.HELD}
    assert held.release(database, id, 0, by="ada", now=NOW, reason="known", location=location(9)) == 1
    (claimed,) = queue.claim(database, owner="me", now=NOW, limit=1, lease_seconds=60)
    assert claimed.location == location(9)


def test_what_is_deleted_is_over(database: Database) -> None:
    id = hold(database, ADA, BOB)
    assert held.delete(database, id, 0, by="ada", now=NOW, reason="spam") == 2
    assert set(states(database, id).values()) == {State.DELETED}
    assert queue.unsettled_segments(database, [location().segment]) == set()


def test_what_is_held_too_long_expires(database: Database) -> None:
    old = hold(database, ADA, at=NOW - timedelta(days=31))
    new = hold(database, ADA)
    gone = held.expire(database, before=NOW - timedelta(days=30), now=NOW)
    assert [one.message_id for one in gone] == [old]
    assert held.expire(database, before=NOW - timedelta(days=30), now=NOW) == []
    assert states(database, old) == {"ada@corp.example": State.DELETED}
    assert states(database, new) == {"ada@corp.example": State.HELD}
