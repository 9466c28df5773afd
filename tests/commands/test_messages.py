"""`gatepost messages` and `gatepost explain`: what came in, where it went, and why."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.accepted import State
from gateway.mail.envelope import Direction
from gateway.mail.reference import reference
from gateway.store import days, refused
from gateway.store.database import Database
from tests import make
from tests.commands.conftest import Run
from tests.judged import keep
from tests.store.make import accepted, item, settled, store
from tests.web.admin.test_connections import session

Ask = Callable[..., Any]

NOW = datetime.now(UTC)
EARLIER = NOW - timedelta(days=3)
STRICT = make.policy(filters=make.ALL_FILTERS)
OBSERVING = make.policy(filters=make.ALL_FILTERS, observe=True)


@pytest.fixture
def mail(database: Database) -> dict[str, str]:
    """Messages by what became of them."""
    to = make.envelope("bob@corp.example", make.recipient("ann@partner.example", Direction.OUTBOUND))
    later = {"state": State.QUEUED, "reply": "450 4.2.0 Later", "due_at": NOW + timedelta(hours=1)}
    return {
        "refused": keep(database, make.case(make.message(subject="Refused one"), now=NOW), STRICT),
        "observed": keep(database, make.case(now=NOW), OBSERVING, results={"bob@corp.example": {}}),
        "waiting": keep(database, make.case(now=NOW), results={"bob@corp.example": later}),
        "outgoing": keep(database, make.case(envelope=to, now=EARLIER), results={"ann@partner.example": {}}),
    }


def test_messages_are_listed_with_outcome_and_reason(run: Run, mail: dict[str, str]) -> None:
    lines = {line[:9]: line for line in run("messages").stdout.splitlines()[1:]}
    assert set(lines) == {reference(id) for id in mail.values()}
    refused_line = lines[reference(mail["refused"])]
    assert "Refused one" in refused_line
    assert "reject" in refused_line
    assert "Not on the whitelist" in refused_line
    assert "delivered (would be refused)" in lines[reference(mail["observed"])]
    assert "Not on the whitelist" in lines[reference(mail["observed"])]
    assert "queued" in lines[reference(mail["waiting"])]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--action", "reject"], {"refused"}),
        (["--state", "queued"], {"waiting"}),
        (["--direction", "outbound"], {"outgoing"}),
        (["--hours", "24"], {"refused", "observed", "waiting"}),
        (["--from", "corp.example"], {"outgoing"}),
        (["--recipient", "ann@partner.example"], {"outgoing"}),
        (["--peer", "192.0.2.10", "--limit", "9"], {"refused", "observed", "waiting", "outgoing"}),
        (["--peer", "192.0.2.99"], set()),
        (["--search", "refused ONE"], {"refused"}),
    ],
)
def test_filters_leave_what_was_asked_for(
    ask: Ask, mail: dict[str, str], arguments: list[str], found: set[str]
) -> None:
    assert {row["id"] for row in ask("messages", *arguments)} == {mail[name] for name in found}


def test_json_has_states_and_what_would_have_been(ask: Ask, mail: dict[str, str]) -> None:
    rows = {row["id"]: row for row in ask("messages")}
    assert rows[mail["observed"]]["would"] == {"action": "reject", "reason": "business_only:unknown-sender"}
    assert rows[mail["waiting"]]["states"] == ["queued"]
    assert rows[mail["refused"]]["would"] is None


def test_no_more_than_asked_for(run: Run, mail: dict[str, str]) -> None:
    assert len(run("messages", "--limit", "2").stdout.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--limit", "0"], "Invalid value for '--limit'"),
        (["--hours", "-1"], "Invalid value for '--hours'"),
        (["--peer", "mail.partner.example"], "'mail.partner.example' should be an IP address like 192.0.2.7"),
        (["--action", "eat"], "Invalid value for '--action'"),
        (["--state", "lost"], "Invalid value for '--state'"),
    ],
)
def test_wrong_input_is_named(run: Run, database: Database, arguments: list[str], says: str) -> None:
    assert says in run("messages", *arguments, status=2).stderr


def test_without_messages_it_says_so(run: Run, database: Database) -> None:
    assert run("messages").stdout == "Nothing matches.\n"
    assert run("messages", "--refused-sessions").stdout == "No session was refused anything.\n"


def test_refused_sessions_are_listed(run: Run, ask: Ask, database: Database) -> None:
    refused.record(database, [session(refused_count=12), session(peer_ip="192.0.2.8")])
    assert "No such recipient here" in run("messages", "--refused-sessions").stdout
    [row] = ask("messages", "--refused-sessions", "--peer", "192.0.2.7")
    assert (row["refused_count"], row["reason"]) == (12, "unknown_recipient")


# -- one message


def test_a_refused_message_is_explained(run: Run, mail: dict[str, str]) -> None:
    text = run("explain", reference(mail["refused"]).lower()).stdout
    for words in (
        f"{reference(mail['refused'])}  Refused one",
        "Refused for bob@corp.example: ann@partner.example is not listed",
        "peer       192.0.2.10, HELO mail.partner.example, in clear",
        "envelope   ann@partner.example -> bob@corp.example",
        "policy     version 7",
        "business_only:unknown-sender: ann@partner.example is not listed, nor is the return path ann@partner.example "
        "[decided reject]",
        "Refused: Not on the whitelist: 550 5.7.1 Sender is not a known business partner",
    ):
        assert words in text


def test_a_waiting_message_is_explained(run: Run, mail: dict[str, str]) -> None:
    text = run("explain", mail["waiting"]).stdout
    assert "Waiting for bob@corp.example: 450 4.2.0 Later." in text
    assert "Attempt 2 is due for bob@corp.example" in text
    assert "Findings\n  none" in text


def test_changes_are_shown(run: Run, database: Database) -> None:
    raw = make.message(("X-Mailer", "Corp Mailer 16"), from_="bob@corp.example")
    id = keep(database, make.outbound(raw), STRICT, raw=raw)
    text = run("explain", id).stdout
    assert "  - X-Mailer: Corp Mailer 16\n" in text
    assert "[changed]" in text


def test_json_has_everything(ask: Ask, mail: dict[str, str]) -> None:
    [told] = ask("explain", mail["refused"])
    assert told["message"]["id"] == mail["refused"]
    assert told["sentence"].startswith("Refused for bob@corp.example")
    assert told["deliveries"] == []
    assert told["course"][-1]["said"].startswith("550 5.7.1 ")
    assert told["trace"]["findings"][0]["code"] == "unknown-sender"


@pytest.mark.parametrize("ref", ["7KQ2-M9PX", "nonsense", "01AAAAAAAAAAAAAAAAAAAAAAAA", ""])
def test_an_unknown_reference_is_told(run: Run, database: Database, ref: str) -> None:
    result = run("explain", ref, status=1)
    assert result.stderr == f"gatepost: no message has the reference {ref}: it is unknown, or past its retention\n"


def test_without_facts_the_decision_is_told(run: Run, ask: Ask, database: Database) -> None:
    one = accepted()
    store(database, item(one, settled(one, State.DELIVERED)))
    assert "the facts are past their retention" in run("explain", one.id).stdout
    days.put(database, days.TRACES, [(one.id, b"\xc1")])  # another release wrote it
    assert ask("explain", one.id)[0]["trace"] is None


def test_two_messages_of_one_reference_are_both_told(run: Run, database: Database) -> None:
    for id, subject in (("01AAAAAAAAAAAAAAAAAAAAAAAA", "First"), ("01BAAAAAAAAAAAAAAAAAAAAAAA", "Second")):
        keep(database, make.case(make.message(subject=subject)), id=id)
    text = run("explain", "aaaa-aaaa").stdout
    assert "First" in text
    assert "Second" in text
