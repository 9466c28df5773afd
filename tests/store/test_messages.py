"""Lists of messages: filtered, newest first, in pages."""

from datetime import timedelta

import pytest

from gateway.accepted import State
from gateway.mail.address import Address
from gateway.mail.envelope import Direction
from gateway.store import messages
from gateway.store.database import Database
from gateway.store.messages import ImportItem
from gateway.verdict import Action
from tests.store.make import ADA, BOB, NOW, accepted, item, settled, store

QUOTED = Address('"Zoe Zeta"', "far.example")


@pytest.fixture
def subjects(database: Database) -> Database:
    """Four messages, named by their Subjects."""
    first = accepted(ADA, subject="first", peer_ip="192.0.2.1", message_id="<1@sender.example>")
    second = accepted(BOB, subject="second", source="S1", direction=Direction.INTERNAL, mail_from=ADA)
    third = accepted(QUOTED, subject="third", source="S1", direction=Direction.OUTBOUND, mail_from=ADA)
    fourth = accepted(ADA, BOB, subject="fourth 100%", action="reject", reason="loop:hops", at=NOW + timedelta(hours=1))
    store(
        database,
        item(first, settled(first, State.DELIVERED)),
        item(second),
        item(third, settled(third, State.QUEUED, to=QUOTED)),
        ImportItem(fourth, None, (), "", NOW),
    )
    return database


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["fourth 100%", "third", "second", "first"]),
        ({"direction": Direction.INBOUND}, ["fourth 100%", "first"]),
        ({"action": Action.REJECT}, ["fourth 100%"]),
        ({"reason": "loop:hops"}, ["fourth 100%"]),
        ({"peer_ip": "192.0.2.1"}, ["first"]),
        ({"source": "S1"}, ["third", "second"]),
        ({"mail_from": "ada@corp.example"}, ["third", "second"]),
        ({"mail_from": "Sender.example"}, ["fourth 100%", "first"]),
        ({"mail_from": "ender.example"}, []),
        ({"recipient": "ada@corp.example"}, ["fourth 100%", "first"]),
        ({"recipient": "corp.example"}, ["fourth 100%", "second", "first"]),
        ({"recipient": '"Zoe Zeta"@far.example'}, ["third"]),
        ({"state": State.DELIVERED}, ["first"]),
        ({"state": State.QUEUED, "recipient": "far.example"}, ["third"]),
        ({"state": State.QUEUED, "recipient": "corp.example"}, []),
        ({"since": NOW + timedelta(minutes=30)}, ["fourth 100%"]),
        ({"until": NOW + timedelta(minutes=30)}, ["third", "second", "first"]),
        ({"search": "FOURTH"}, ["fourth 100%"]),
        ({"search": "%"}, ["fourth 100%"]),
        ({"search": "1@sender"}, ["first"]),
        ({"search": "zeta"}, ["third"]),
    ],
)
def test_messages_are_found_by(subjects: Database, filters: dict[str, object], expected: list[str]) -> None:
    assert [row.subject for row in messages.recent(subjects, **filters)] == expected  # type: ignore[arg-type]


def test_the_next_page_begins_after_the_last_message(subjects: Database) -> None:
    first = messages.recent(subjects, 3)
    assert [row.subject for row in messages.recent(subjects, 3, first[-1].id)] == ["first"]


def test_recipients_with_blanks_in_their_names_are_kept_apart(subjects: Database) -> None:
    (row,) = messages.recent(subjects, recipient="far.example")
    assert row.recipients == ('"Zoe Zeta"@far.example',)
    (outcome,) = messages.outcomes(subjects, row.id)
    assert outcome.recipient == QUOTED
