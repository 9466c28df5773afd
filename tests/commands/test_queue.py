"""`gatepost queue`: what waits and what is held; each order needs a reason, and is written down."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.accepted import State
from gateway.mail.envelope import Direction
from gateway.mail.reference import reference
from gateway.store import audit, messages
from gateway.store.database import Database
from tests import make
from tests.commands.conftest import Run
from tests.judged import keep

Ask = Callable[..., Any]

NOW = datetime.now(UTC)
WHY = ("--reason", "because")


def waiting(database: Database, to: str = "ann@partner.example", **result: Any) -> str:
    envelope = make.envelope("bob@corp.example", make.recipient(to, Direction.OUTBOUND))
    later = {"state": State.QUEUED, "reply": "450 4.2.0 Later", "due_at": NOW + timedelta(hours=1), **result}
    return keep(database, make.case(envelope=envelope, now=NOW), results={to: later})


def states(database: Database, id: str) -> dict[str, State]:
    return {str(row.recipient): row.state for row in messages.outcomes(database, id)}


def test_what_waits_is_listed_with_the_last_reply(run: Run, ask: Ask, database: Database) -> None:
    id = waiting(database)
    shown = run("queue", "list").stdout
    for words in (reference(id), "ann@partner.example", "bob@corp.example", "queued", "450 4.2.0 Later"):
        assert words in shown
    [row] = ask("queue", "list", "--domain", "Partner.Example")
    assert row["attempts"] == 1
    assert run("queue", "list", "--domain", "other.example").stdout == "Nothing waits.\n"


def test_the_sum_is_by_destination(run: Run, ask: Ask, database: Database) -> None:
    waiting(database)
    waiting(database, "eve@partner.example")
    assert run("queue", "summary").stdout.startswith("2 wait, 0 are on their way, 0 are held.\n")
    assert [row["waiting"] for row in ask("queue", "summary")["destinations"]] == [2]


@pytest.mark.parametrize(
    ("order", "state"),
    [(["retry"], State.QUEUED), (["hold"], State.HELD), (["delete"], State.DELETED)],
)
def test_an_order_is_carried_out_and_written_down(run: Run, database: Database, order: list[str], state: State) -> None:
    id, other = waiting(database), waiting(database, "x@other.example")
    assert run("queue", *order, reference(id), *WHY).stdout.startswith("1 delivery is ")
    assert states(database, id) == {"ann@partner.example": state}
    assert states(database, other) == {"x@other.example": State.QUEUED}
    [entry] = audit.entries(database, subject="delivery", limit=1)
    assert (entry.action, entry.subject_id, entry.comment) == (order[0], id, "because")


def test_retry_makes_it_due_now(run: Run, database: Database) -> None:
    id = waiting(database)
    run("queue", "retry", "--all", *WHY)
    [row] = messages.outcomes(database, id)
    assert row.due_at is not None
    assert row.due_at <= datetime.now(UTC)


def test_a_domain_or_all_may_be_meant(run: Run, ask: Ask, database: Database) -> None:
    waiting(database)
    waiting(database, "x@other.example")
    assert ask("queue", "retry", "--domain", "other.example", *WHY)["count"] == 1
    assert run("queue", "delete", "--all", *WHY).stdout == "2 deliveries are deleted.\n"


def test_a_delivery_goes_to_another_address(run: Run, database: Database) -> None:
    id = waiting(database)
    run("queue", "redirect", reference(id), "--to", "carl@partner.example", *WHY)
    assert states(database, id) == {"ann@partner.example": State.DELETED, "carl@partner.example": State.QUEUED}


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["retry", *WHY], 1, "name references, --domain or --all"),
        (["retry", "--all"], 2, "Missing option '--reason'"),
        (["delete", "7KQ2-M9PX", *WHY], 1, "not in the queue: 7KQ2-M9PX"),
        (["delete", "no-ref", *WHY], 1, "a reference has eight letters and digits"),
        (["redirect", "--all", "--to", "carl", *WHY], 1, "carl: "),
        (["list", "--limit", "0"], 2, "Invalid value for '--limit'"),
    ],
)
def test_wrong_input_is_named_and_changes_nothing(
    run: Run, database: Database, arguments: list[str], status: int, says: str
) -> None:
    id = waiting(database)
    assert says in run("queue", *arguments, status=status).stderr
    assert states(database, id) == {"ann@partner.example": State.QUEUED}
