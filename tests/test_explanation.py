"""Why a message went where it went, in words: the sentence, what each finding did, and the course of things."""

from datetime import timedelta
from typing import Any

import pytest

from gateway.accepted import State
from gateway.explanation import (
    OUTCOMES,
    REASONS,
    SESSION_REASONS,
    WOULD,
    clauses,
    effect,
    names,
    of_verdict,
    sentence,
    timeline,
    words_of,
    would_of,
)
from gateway.filters import FAILED, registry
from gateway.judge import questions
from gateway.mail.envelope import Direction
from gateway.mail.reference import reference
from gateway.policy import relaying
from gateway.relay.reasons import Reason
from gateway.store import messages, queue, traces
from gateway.store.database import Database
from gateway.verdict import Action, Kind, Unknown, decide
from tests import make
from tests.judged import keep
from tests.make import NOW
from tests.store.conftest import migrated_file, sqlite
from tests.store.make import accepted, item, settled, store

__all__ = ["migrated_file", "sqlite"]

STRICT = make.policy(filters=make.ALL_FILTERS)
OBSERVING = make.policy(filters=make.ALL_FILTERS, observe=True)
BOB = "bob@corp.example"


def said(database: Database, id: str) -> str:
    [row] = messages.find(database, id)
    return sentence(row, traces.load(database, id), messages.outcomes(database, id))


def course(database: Database, id: str, portal_url: str = "") -> list[tuple[str, str]]:
    [row] = messages.find(database, id)
    steps = timeline(row, traces.load(database, id), messages.outcomes(database, id), portal_url)
    return [(step.what, step.said) for step in steps]


def test_every_reason_has_words() -> None:
    codes = {f"{one.name}:{code}" for one in registry().values() for code in (*one.codes, FAILED)}
    codes |= {f"{relaying.NAME}:{code}" for code in relaying.CODES} | {"inspection:not-inspected"}
    assert codes - set(REASONS) == set()
    assert {reason for reason in REASONS if not reason.startswith("notice:")} - codes == set()
    assert set(SESSION_REASONS) == {str(reason) for reason in Reason}
    assert words_of("a_filter:that-is-gone") == "a_filter:that-is-gone"


def test_every_state_and_action_has_words() -> None:
    assert set(OUTCOMES) == {str(one) for one in (*State, *Action)}
    assert set(WOULD) == set(Action) - {Action.DELIVER}


@pytest.mark.parametrize(
    ("recipients", "shown"),
    [
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (list("abcdefg"), "a, b, c, d, e and 2 more"),
    ],
)
def test_names(recipients: list[str], shown: str) -> None:
    assert names(recipients) == shown


def test_a_refusal_names_the_finding_that_decided(sqlite: Database) -> None:
    assert said(sqlite, keep(sqlite, make.case(), STRICT)) == (
        "Refused for bob@corp.example: ann@partner.example is not listed, nor is the return path ann@partner.example "
        "(business_only:unknown-sender)."
    )


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ({}, "Delivered to bob@corp.example: no filter objected."),
        (None, "Waiting for bob@corp.example: not tried yet."),
        (
            {"state": State.QUEUED, "reply": "450 4.2.0 Later", "due_at": NOW},
            "Waiting for bob@corp.example: 450 4.2.0 Later.",
        ),
        (
            {"state": State.FAILED, "reply": "550 5.1.1 No such user"},
            "Failed for bob@corp.example: 550 5.1.1 No such user.",
        ),
        ({"state": State.HELD, "reply": "550 5.7.1 No"}, "Held for bob@corp.example: 550 5.7.1 No."),
    ],
)
def test_a_delivery_says_how_it_stands(sqlite: Database, result: dict[str, Any] | None, sentence: str) -> None:
    id = keep(sqlite, make.case(), results={} if result is None else {BOB: result})
    assert said(sqlite, id) == sentence


def test_observe_mode_says_what_would_have_been(sqlite: Database) -> None:
    id = keep(sqlite, make.case(), OBSERVING, results={BOB: {}})
    assert said(sqlite, id) == (
        "Delivered to bob@corp.example: what objected is not enforced; if enforced it would have been refused: "
        "ann@partner.example is not listed, nor is the return path ann@partner.example (business_only:unknown-sender)."
    )
    trace = traces.load(sqlite, id)
    assert trace is not None
    assert would_of(trace) == (Action.REJECT, "business_only:unknown-sender")


def test_nothing_would_have_been_where_nothing_objected(sqlite: Database) -> None:
    trace = traces.load(sqlite, keep(sqlite, make.case()))
    assert trace is not None
    assert would_of(trace) is None


def test_recipients_with_the_same_outcome_share_a_sentence(sqlite: Database) -> None:
    three = [make.recipient(f"{name}@corp.example") for name in ("a", "b", "c")]
    case = make.case(envelope=make.envelope("ann@partner.example", *three))
    done = {"state": State.DELIVERED}
    id = keep(sqlite, case, results={"a@corp.example": done, "c@corp.example": done})
    assert said(sqlite, id) == (
        "Delivered to a@corp.example and c@corp.example: no filter objected. Waiting for b@corp.example: not tried yet."
    )


def test_a_held_share_is_told_apart_from_the_delivered_one(sqlite: Database) -> None:
    two = make.envelope("ann@partner.example", make.recipient("postmaster@corp.example"), make.recipient())
    id = keep(sqlite, make.case(envelope=two), STRICT, results={"postmaster@corp.example": {}})
    assert said(sqlite, id) == (
        "Held for bob@corp.example: ann@partner.example is not listed, nor is the return path ann@partner.example; "
        "kept for review instead of refused, since others received the message (business_only:unknown-sender). "
        "Delivered to postmaster@corp.example: no filter objected."
    )
    assert ("Held for review, for bob@corp.example", "") in course(sqlite, id)


def test_without_its_facts_the_decision_is_all_there_is(sqlite: Database) -> None:
    refused, taken = accepted(action="reject", reason="loop:hops"), accepted()
    store(sqlite, item(refused), item(taken, settled(taken, State.DELIVERED)))
    assert said(sqlite, refused.id) == (
        "Refused for ada@corp.example: Mail loop: too many hops; the facts are past their retention."
    )
    assert said(sqlite, taken.id) == "Delivered to ada@corp.example: the facts are past their retention."


def test_a_notice_of_ours_has_no_facts(sqlite: Database) -> None:
    notice = accepted(is_notice=True, reason="notice:failed")
    store(sqlite, item(notice, settled(notice, State.DELIVERED)))
    assert said(sqlite, notice.id) == "Delivered to ada@corp.example: Our notice: not delivered."
    assert course(sqlite, notice.id)[0] == ("Our own notice was queued", "")


def test_a_redirected_message_names_its_new_recipient(sqlite: Database) -> None:
    id = keep(sqlite, make.case())
    [waits] = queue.list_waiting(sqlite)
    [to] = make.addresses("carl@corp.example")
    queue.redirect(sqlite, [waits.key], to, by="ann", now=NOW, reason="he left")
    assert said(sqlite, id) == (
        "Deleted for bob@corp.example: redirected to carl@corp.example. Waiting for carl@corp.example: not tried yet."
    )


# -- what each finding did


def test_effects_of_findings() -> None:
    case = make.case(
        envelope=make.envelope("ann@partner.example", make.recipient("eve@corp.example"), make.recipient())
    )
    [eve, bob] = make.addresses("eve@corp.example", BOB)
    findings = [
        make.finding("worst", action=Action.REJECT, recipients=(bob,)),
        make.finding("milder", action=Action.QUARANTINE, recipients=(bob,)),
        make.finding("tried", action=Action.REJECT, shadow=True, recipients=(bob,)),
        make.finding("opened", action=Action.REJECT, kind=Kind.CONTENT),
        make.finding("pass", exempts=(Kind.CONTENT,)),
        make.finding("seen", recipients=(eve,)),
    ]
    for_eve, for_bob = decide(findings, case)
    shown = {
        one.code: tuple(found.kind if (found := effect(one, verdict)) else "" for verdict in (for_eve, for_bob))
        for one in findings
    }
    assert shown == {
        "worst": ("", "decided"),
        "milder": ("", "agreed"),
        "tried": ("", "would"),
        "opened": ("exempted", "exempted"),
        "pass": ("noted", "noted"),
        "seen": ("noted", ""),
    }


def test_an_exempted_objection_is_named() -> None:
    findings = [
        make.finding("opened", action=Action.REJECT, kind=Kind.CONTENT),
        make.finding("pass", exempts=(Kind.CONTENT,)),
    ]
    [verdict] = decide(findings, make.case())
    clause = of_verdict("delivered", verdict, findings)
    assert clause.why == "exempted: some:opened (some:opened)"


# -- the course of things


def test_the_course_of_a_delivered_message(sqlite: Database) -> None:
    case = make.case(session=make.session(started_at=NOW - timedelta(seconds=1)))
    id = keep(sqlite, case, results={BOB: {}})
    assert course(sqlite, id) == [
        (
            "mail.partner.example connected to the inbound listener",
            "192.0.2.10, HELO mail.partner.example, in clear",
        ),
        ("Received for 1 recipient", "MAIL FROM:<ann@partner.example>, 166 octets"),
        ("Judged by policy 7: 0 findings", ""),
        ("Taken: durable on disk, then answered", f"250 2.0.0 Message accepted, ref {reference(id)}"),
        ("Delivered to bob@corp.example", "exch1.corp.example [198.51.100.4]:25: 250 2.0.0 Taken"),
    ]


def test_the_course_of_a_refusal_ends_with_what_the_peer_was_told(sqlite: Database) -> None:
    id = keep(sqlite, make.case(), STRICT)
    assert course(sqlite, id, "https://portal.corp.example")[-1] == (
        "Refused: Not on the whitelist",
        f"550 5.7.1 Sender is not a known business partner (ref {reference(id)}) https://portal.corp.example",
    )


def test_a_deferral_is_told_as_one(sqlite: Database) -> None:
    bounce = make.case(make.message(("In-Reply-To", "<ours@corp.example>")), envelope=make.envelope(""))
    policy = make.policy(filters={"business_only": {}})
    [asked] = questions(bounce, policy)
    id = keep(sqlite, bounce, policy, answers={asked: Unknown("database away")})
    steps = course(sqlite, id)
    assert ("Judged by policy 7: 1 finding, 1 question answered", "") in steps
    assert steps[-1][0] == "Deferred: Cannot tell whether it answers our mail"
    assert steps[-1][1].startswith("451 4.3.0 ")


def test_what_comes_next_stands_last(sqlite: Database) -> None:
    later = {"state": State.QUEUED, "reply": "450 Later", "attempts": 3, "due_at": NOW + timedelta(minutes=15)}
    [row] = messages.find(sqlite, keep(sqlite, make.case(), results={BOB: later}))
    steps = timeline(row, None, messages.outcomes(sqlite, row.id), "")
    assert [(step.what, step.is_ahead, step.at - NOW) for step in steps] == [
        ("Taken", False, timedelta(0)),
        ("Waiting for bob@corp.example, attempt 3", False, timedelta(seconds=1)),
        ("Attempt 4 is due for bob@corp.example", True, timedelta(minutes=15)),
        ("Given up if it is not delivered by then", True, timedelta(days=5)),
    ]


def test_recipients_of_one_attempt_share_a_step(sqlite: Database) -> None:
    two = make.envelope("ann@partner.example", make.recipient("eve@corp.example"), make.recipient())
    id = keep(sqlite, make.case(envelope=two), results={BOB: {}, "eve@corp.example": {}})
    assert course(sqlite, id)[-1][0] == "Delivered to bob@corp.example and eve@corp.example"


def test_outgoing_mail_names_its_listener(sqlite: Database) -> None:
    id = keep(sqlite, make.outbound(), results={"ann@partner.example": {}})
    [row] = messages.find(sqlite, id)
    assert row.direction is Direction.OUTBOUND
    assert course(sqlite, id)[0][0].endswith("connected to the outbound listener")
    assert len(clauses(row, traces.load(sqlite, id), messages.outcomes(sqlite, id))) == 1
