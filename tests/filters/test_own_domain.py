from datetime import timedelta

import pytest

from gateway.filters.own_domain import FILTER, Options
from gateway.inspection.scan import MAX_FIELDS
from gateway.mail.envelope import Direction, ListenerKind
from gateway.policy.ledger import LedgerEntry
from gateway.verdict import Action, Finding
from tests import make


def found(*values: str, entries: tuple[LedgerEntry, ...] = (), options: Options | None = None) -> list[Finding]:
    raw = make.message(*[("From", value) for value in values], without=["From"])
    return make.judge_with(FILTER, options or Options(), make.case(raw), *entries)


@pytest.mark.parametrize(
    "values",
    [
        ["ceo@corp.example"],
        ["CEO@CORP.EXAMPLE"],
        ["ceo@corp.example."],
        ["The boss <ceo@corp.example>"],
        ["x@evil.example", "ceo@corp.example"],
        ["ceo@corp.example", "x@evil.example"],
        ["x@evil.example, ceo@corp.example"],
        ["Board: x@evil.example, ceo@corp.example;"],
        ["x@evil.example]@corp.example"],
        ["<ceo@corp.example> <x@evil.example>"],
        ["=?utf-8?q?ceo=40corp.example?="],
        ['"ceo@corp.example'],
        ["ceo@news.corp.example"],
    ],
)
def test_our_domain_in_any_reading_without_proof_is_forged(values: list[str]) -> None:
    findings = found(*values)
    assert [(one.code, one.action, one.category) for one in findings] == [("forged", Action.REJECT, "own_domain")]


def test_a_first_line_in_obsolete_syntax_is_no_line_of_a_mailbox_file() -> None:
    raw = b"From : ceo@corp.example\r\n" + make.message(from_="x@evil.example")
    assert [one.code for one in make.judge_with(FILTER, Options(), make.case(raw))] == ["forged"]


@pytest.mark.parametrize(
    "values",
    [
        ["ann@partner.example"],
        ['"ceo@corp.example" <list@lists.example>'],  # a display name is no author
        ["ceo@corp.example.evil.example"],
        ["ceo@notcorp.example"],
        [],
    ],
)
def test_other_authors_are_none_of_its_business(values: list[str]) -> None:
    assert found(*values) == []


def test_a_ledger_entry_with_the_peers_address_is_proof() -> None:
    findings = found("news@corp.example", entries=(make.sends_as_us(),))
    assert [(one.code, one.action, one.entry) for one in findings] == [("proven", Action.DELIVER, "a1")]
    assert [one.code for one in found("news@shop.corp.example", entries=(make.sends_as_us(),))] == ["proven"]


@pytest.mark.parametrize(
    "entry",
    [
        make.sends_as_us(networks=("203.0.113.0/24",)),
        make.sends_as_us(networks=()),
        make.sends_as_us(expires_at=make.NOW - timedelta(seconds=1)),
        make.sends_as_us("news.corp.example"),  # who may send for a part may not send for the whole
    ],
)
def test_an_entry_for_somebody_else_is_none(entry: LedgerEntry) -> None:
    assert [one.code for one in found("news@corp.example", entries=(entry,))] == ["forged"]


def test_sub_domains_and_the_action_are_options() -> None:
    options = Options(subdomains=False, action=Action.QUARANTINE)
    assert found("news@shop.corp.example", options=options) == []
    assert [one.action for one in found("ceo@corp.example", options=options)] == [Action.QUARANTINE]


@pytest.mark.parametrize("direction", [Direction.OUTBOUND, Direction.INTERNAL, Direction.RETURNED])
def test_our_own_people_may_write_as_us(direction: Direction) -> None:
    envelope = make.envelope("bob@corp.example", make.recipient(direction=direction))
    case = make.case(make.message(from_="bob@corp.example"), envelope=envelope)
    assert make.judge_with(FILTER, Options(), case) == []


def test_what_the_portal_hands_in_is_our_own() -> None:
    case = make.case(make.message(from_="portal@corp.example"), session=make.session(listener=ListenerKind.PORTAL))
    assert make.judge_with(FILTER, Options(), case) == []


def test_an_author_hidden_behind_more_fields_than_are_looked_at_is_refused() -> None:
    raw = make.message(*[("X", "y")] * MAX_FIELDS, ("From", "ceo@corp.example"))
    findings = make.judge_with(FILTER, Options(), make.case(raw))
    assert [(one.code, one.action) for one in findings] == [("unseen-author", Action.REJECT)]


def test_only_recipients_from_outside_are_concerned() -> None:
    inside = make.recipient("eve@corp.example", Direction.INTERNAL)
    envelope = make.envelope("ceo@corp.example", make.recipient(), inside)
    case = make.case(make.message(from_="ceo@corp.example"), envelope=envelope)
    assert [one.recipients for one in make.judge_with(FILTER, Options(), case)] == [make.addresses("bob@corp.example")]


def test_no_pass_opens_a_forged_own_domain() -> None:
    assert set(FILTER.floor) == {"forged", "unseen-author"}
