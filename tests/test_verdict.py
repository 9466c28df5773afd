from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mail.envelope import Direction
from gateway.verdict import (
    Action,
    AddField,
    Case,
    DnsQuestion,
    Finding,
    KeyUseQuestion,
    Kind,
    Question,
    RemoveFields,
    SentMessageQuestion,
    Verdict,
    decide,
)
from tests import make

BOB, EVE = make.addresses("bob@corp.example", "eve@corp.example")
TO_BOB = make.case()
TO_BOTH = make.case(envelope=make.envelope("ann@partner.example", *map(make.recipient, map(str, (BOB, EVE)))))


def found(code: str, action: Action = Action.DELIVER, **replaced: Any) -> Finding:
    return make.finding(code, action=action, **replaced)


def decided(*findings: Finding, case: Case = TO_BOB, **how: Any) -> Verdict:
    verdicts = decide(findings, case, **how)
    assert len(verdicts) == 1
    return verdicts[0]


def test_a_message_that_nobody_objects_to_is_delivered() -> None:
    assert decided() == Verdict(recipients=(BOB,), action=Action.DELIVER)
    assert decided(found("noted")).reason == ""


@pytest.mark.parametrize("how", [{}, {"observe": True}, {"waived": {BOB: frozenset({"some:noted"})}}])
def test_findings_that_object_to_nothing_leave_no_trace_in_the_verdict(how: dict[str, Any]) -> None:
    noted = [found("noted"), found("pass", exempts=(Kind.BUSINESS,)), found("shadow", shadow=True)]
    assert decided(*noted, **how) == Verdict(recipients=(BOB,), action=Action.DELIVER)


def test_findings_for_some_recipients_that_object_to_nothing_leave_one_verdict() -> None:
    noted = [found("noted", recipients=(EVE,)), found("pass", exempts=(Kind.BUSINESS,), recipients=(BOB,))]
    assert decided(*noted, case=TO_BOTH) == Verdict(recipients=(BOB, EVE), action=Action.DELIVER)


def test_a_verdict_names_what_was_in_force() -> None:
    verdict = decided(policy_version=7, ledger_revision=3)
    assert (verdict.policy_version, verdict.ledger_revision) == (7, 3)


def test_the_worst_action_wins_and_its_finding_decides() -> None:
    verdict = decided(
        found("a", Action.QUARANTINE), found("b", Action.REJECT, category="business"), found("c", Action.DEFER)
    )
    assert (verdict.action, verdict.reason, verdict.detail) == (Action.REJECT, "some:b", "b was seen")
    assert (verdict.category, verdict.would, verdict.would_reason) == ("business", Action.REJECT, "some:b")


def test_of_equally_bad_findings_the_floors_decides() -> None:
    verdict = decided(found("a", Action.REJECT), found("b", Action.REJECT, floor=True))
    assert verdict.reason == "some:b"


def test_a_pass_exempts_kinds_and_says_so() -> None:
    verdict = decided(
        found("stranger", Action.REJECT, kind=Kind.BUSINESS, score=2.0),
        found("macro", Action.QUARANTINE, kind=Kind.ATTACHMENT),
        found("noted", kind=Kind.BUSINESS),
        found("key", exempts=(Kind.BUSINESS,)),
    )
    assert (verdict.action, verdict.reason) == (Action.QUARANTINE, "some:macro")
    assert verdict.exempted == ("some:stranger",)
    assert verdict.score == 0.0


def test_what_is_exempted_changes_nothing_in_the_message() -> None:
    strip = found("strip", kind=Kind.LEAK, transforms=(RemoveFields((1,)),), route="special")
    assert decided(strip).transforms == (RemoveFields((1,)),)
    assert decided(strip).route == "special"
    verdict = decided(strip, found("key", exempts=(Kind.LEAK,)))
    assert (verdict.transforms, verdict.route, verdict.exempted) == ((), "", ("some:strip",))


def test_nothing_opens_the_safety_floor() -> None:
    virus = found("virus", Action.REJECT, kind=Kind.MALWARE, floor=True)
    verdict = decided(virus, found("key", exempts=tuple(Kind)), waived={BOB: frozenset({"some:virus"})})
    assert (verdict.action, verdict.exempted) == (Action.REJECT, ())


def test_a_waiver_exempts_single_reasons_of_its_recipient() -> None:
    verdicts = decide(
        [found("macro", Action.REJECT), found("listed", Action.QUARANTINE)],
        TO_BOTH,
        waived={BOB: frozenset({"some:macro"})},
    )
    assert [(one.recipients, one.action, one.exempted) for one in verdicts] == [
        ((BOB,), Action.QUARANTINE, ("some:macro",)),
        ((EVE,), Action.REJECT, ()),
    ]


def test_shadow_changes_no_action_but_tells_what_would_have_been() -> None:
    verdict = decided(
        found("noted", Action.QUARANTINE, transforms=(AddField("X-A", "1"),)),
        found("tried", Action.REJECT, shadow=True, transforms=(AddField("X-B", "2"),), score=5.0),
    )
    assert (verdict.action, verdict.reason) == (Action.QUARANTINE, "some:noted")
    assert (verdict.would, verdict.would_reason) == (Action.REJECT, "some:tried")
    assert verdict.transforms == (AddField("X-A", "1"),)
    assert verdict.score == 0.0


def test_a_pass_in_shadow_opens_nothing() -> None:
    verdict = decided(
        found("stranger", Action.REJECT, kind=Kind.BUSINESS), found("key", exempts=(Kind.BUSINESS,), shadow=True)
    )
    assert (verdict.action, verdict.would) == (Action.REJECT, Action.DELIVER)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.PROTOCOL])
def test_observe_mode_blocks_nothing_and_tells_what_would_have_been(kind: Kind) -> None:
    verdict = decided(found("bad", Action.REJECT, kind=kind, floor=True), observe=True)
    assert (verdict.action, verdict.reason) == (Action.DELIVER, "")
    assert (verdict.would, verdict.would_reason) == (Action.REJECT, "some:bad")


def test_observe_mode_still_ends_loops() -> None:
    assert decided(found("passes", Action.REJECT, kind=Kind.PROTOCOL), observe=True).action is Action.REJECT


def test_recipients_with_one_outcome_are_one_group() -> None:
    verdict = decided(
        found("macro", Action.REJECT, recipients=(BOB,)), found("macro", Action.REJECT, recipients=(EVE,)), case=TO_BOTH
    )
    assert verdict.recipients == (BOB, EVE)


def test_different_outcomes_split_the_message() -> None:
    verdicts = decide(
        [found("stranger", Action.REJECT, recipients=(EVE,)), found("strip", transforms=(RemoveFields((0,)),))], TO_BOTH
    )
    assert [(one.recipients, one.action) for one in verdicts] == [((BOB,), Action.DELIVER), ((EVE,), Action.REJECT)]


def test_different_transforms_split_the_message() -> None:
    verdicts = decide([found("strip", transforms=(RemoveFields((0,)),), recipients=(EVE,))], TO_BOTH)
    assert [(one.recipients, one.transforms) for one in verdicts] == [((BOB,), ()), ((EVE,), (RemoveFields((0,)),))]


def test_returned_mail_is_not_judged_again_but_for_loops() -> None:
    case = make.case(envelope=make.envelope("a@b.example", make.recipient(direction=Direction.RETURNED)))
    assert decided(found("stranger", Action.REJECT, kind=Kind.BUSINESS), case=case).action is Action.DELIVER
    assert decided(found("virus", Action.REJECT, kind=Kind.MALWARE, floor=True), case=case).action is Action.DELIVER
    assert decided(found("passes", Action.REJECT, kind=Kind.PROTOCOL, floor=True), case=case).action is Action.REJECT


def test_scores_add_up() -> None:
    assert decided(found("a", score=0.1), found("b", score=0.2), found("c", score=-0.05)).score == pytest.approx(0.25)


def test_every_recipient_has_a_verdict_also_when_there_are_a_thousand() -> None:
    many = [make.recipient(f"u{number}@corp.example") for number in range(1000)]
    case = make.case(envelope=make.envelope("ann@partner.example", *many))
    odd = tuple(one.address for one in many[1::2])
    verdicts = decide([found("macro", Action.REJECT, recipients=odd)], case)
    assert sorted(len(one.recipients) for one in verdicts) == [500, 500]


ACTIONS = st.sampled_from(Action)
KINDS = st.sampled_from(Kind)
FINDINGS = st.builds(
    Finding,
    code=st.sampled_from("abc"),
    detail=st.sampled_from(["one", "two"]),
    action=ACTIONS,
    score=st.floats(-10, 10),
    exempts=st.lists(KINDS, max_size=2).map(tuple),
    transforms=st.sampled_from([(), (AddField("X-A", "1"),), (RemoveFields((0,)),)]),
    route=st.sampled_from(["", "special"]),
    recipients=st.sampled_from([None, (BOB,), (EVE,), ()]),
    filter=st.sampled_from("xyz"),
    kind=KINDS,
    floor=st.booleans(),
    shadow=st.booleans(),
)


@given(st.lists(FINDINGS, max_size=8), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_filters_never_matters(findings: list[Finding], observe: bool, random: Any) -> None:
    groups = [[one for one in findings if one.filter == name] for name in "xyz"]
    in_order = [one for group in groups for one in group]
    random.shuffle(groups)
    mixed = [one for group in groups for one in group]
    assert decide(mixed, TO_BOTH, observe=observe) == decide(in_order, TO_BOTH, observe=observe)


@given(st.lists(FINDINGS, max_size=8))
def test_each_recipient_gets_the_verdict_it_would_get_alone(findings: list[Finding]) -> None:
    together = {address: one for one in decide(findings, TO_BOTH) for address in one.recipients}
    for address in (BOB, EVE):
        alone = make.case(envelope=make.envelope("ann@partner.example", make.recipient(str(address))))
        assert decide(findings, alone) == (msgspec.structs.replace(together[address], recipients=(address,)),)


@given(st.lists(FINDINGS, max_size=8))
def test_no_pass_makes_a_floor_finding_mild(findings: list[Finding]) -> None:
    for verdict in decide(findings, TO_BOTH):
        floor = [
            one.action.severity
            for one in findings
            if one.floor and not one.shadow and (one.recipients is None or verdict.recipients[0] in one.recipients)
        ]
        assert verdict.action.severity >= max(floor, default=0)


@pytest.mark.parametrize(
    "question",
    [
        DnsQuestion("a.example", "MX"),
        SentMessageQuestion(("<a@b.example>",)),
        KeyUseQuestion("k1", 1, ("a@b.example",)),
    ],
)
def test_questions_come_back_from_their_stored_form(question: Question) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(question), type=Question) == question


def test_a_finding_limited_to_all_recipients_is_for_all() -> None:
    assert TO_BOTH.only((BOB, EVE)) is None
    assert TO_BOTH.only((BOB,)) == (BOB,)
    assert TO_BOTH.towards(Direction.INBOUND) == (BOB, EVE)
    assert TO_BOTH.towards(Direction.OUTBOUND) == ()
