"""What rules find and what becomes of it: sections, recipients, unknown, shadow, scores, the floor."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.filters import registry
from gateway.judge import judge, questions
from gateway.mail.envelope import Direction
from gateway.policy.compile import Policy, compile
from gateway.policy.document import read_document
from gateway.policy.rules import evaluate
from gateway.policy.rules.schema import Section
from gateway.policy.rules.view import View
from gateway.verdict import Action, AddField, DnsQuestion, Kind, RemoveFields, SentMessageQuestion, Verdict
from tests import make
from tests.policy.rules.ruled import found, leaf, policy, rule, verdict

HELLO = leaf("subject", "equals", "hello")
UNKNOWN = leaf("client.listed", "equals", True, name="bl.example")
QUESTION = DnsQuestion("10.2.0.192.bl.example", "A")
TWO = make.case(envelope=make.envelope("ann@partner.example", make.recipient(), make.recipient("eve@corp.example")))
REJECT = {"do": "reject"}
HOLD = {"do": "quarantine", "kind": "review"}


def outcomes(*verdicts: Verdict) -> dict[str, Action]:
    return {str(address): one.action for one in verdicts for address in one.recipients}


@pytest.mark.parametrize(
    ("section", "action", "expected", "category", "hold"),
    [
        ("deny", {"do": "reject", "category": "business"}, Action.REJECT, "business", ""),
        ("deny", {"do": "defer"}, Action.DEFER, "generic", ""),
        ("deny", {"do": "discard"}, Action.DISCARD, "", ""),
        ("deny", {"do": "deliver"}, Action.DELIVER, "", ""),
        ("hold", HOLD, Action.QUARANTINE, "", "review"),
    ],
)
def test_final_actions(section: str, action: dict[str, Any], expected: Action, category: str, hold: str) -> None:
    one = verdict(make.case(), rule(HELLO, action, number=12, section=section))
    assert (one.action, one.category, one.hold) == (expected, category, hold)
    assert one.reason == ("" if expected is Action.DELIVER else "rule:12")


def test_the_finding_names_the_rule_its_name_and_what_it_says() -> None:
    (one,) = found(make.case(), rule(HELLO, {"do": "log", "text": "seen again"}, number=12, name="Greetings"))
    assert (one.reason, one.detail) == ("rule:12", "rule 12 (Greetings) matched; seen again")


def test_a_rule_without_a_condition_matches_and_unless_spares() -> None:
    assert verdict(make.case(), rule()).action is Action.REJECT
    assert verdict(make.case(), rule(unless=HELLO)).action is Action.DELIVER
    assert verdict(make.case(), rule(HELLO, unless=leaf("size", "greater", 10**6))).action is Action.REJECT


@pytest.mark.parametrize(
    ("when_unknown", "expected"), [("no_match", Action.DELIVER), ("match", Action.REJECT), ("defer", Action.DEFER)]
)
def test_unknown_is_what_the_rule_says(when_unknown: str, expected: Action) -> None:
    assert verdict(make.case(), rule(UNKNOWN, when_unknown=when_unknown)).action is expected
    assert verdict(make.case(), rule(HELLO, unless=UNKNOWN, when_unknown=when_unknown)).action is expected
    known = policy(rule(UNKNOWN, when_unknown=when_unknown))
    assert judge(make.case(), known, {QUESTION: ("127.0.0.2",)}).verdicts[0].action is Action.REJECT
    assert judge(make.case(), known, {QUESTION: ()}).verdicts[0].action is Action.DELIVER


def test_a_rule_asks_only_where_the_answer_can_matter() -> None:
    asking = policy(rule({"all": [HELLO, UNKNOWN]}))
    assert questions(make.case(), asking) == (QUESTION,)
    assert questions(make.case(make.message(subject="Other")), asking) == ()
    assert questions(make.case(), policy(rule(HELLO))) == ()
    ours = policy(rule({"all": [leaf("tag", "equals", "x"), leaf("reply_to_ours", "equals", False)]}))
    answer = make.case(make.message(("In-Reply-To", "<a@corp.example>")))
    assert questions(answer, ours) == (SentMessageQuestion(("<a@corp.example>",)),)


def test_shadow_notes_and_changes_nothing() -> None:
    one = verdict(make.case(), rule(HELLO, mode="shadow"))
    assert (one.action, one.would, one.would_reason) == (Action.DELIVER, Action.REJECT, "rule:1")
    tag = rule(HELLO, {"do": "tag", "tag": "seen"}, section="passes", mode="shadow")
    assert verdict(make.case(), tag, rule(leaf("tag", "equals", "seen"), number=2)).action is Action.DELIVER


def test_off_and_expired_rules_do_nothing() -> None:
    over = make.NOW.isoformat()
    assert found(make.case(), rule(HELLO, mode="off"), rule(HELLO, number=2, expires_at=over)) == []
    later = datetime(2026, 11, 25, tzinfo=UTC).isoformat()
    assert verdict(make.case(), rule(HELLO, expires_at=later)).action is Action.REJECT


def test_observe_mode_blocks_nothing_by_a_rule() -> None:
    one = verdict(make.case(), rule(HELLO), observe=True)
    assert (one.action, one.would) == (Action.DELIVER, Action.REJECT)


@pytest.mark.parametrize(
    ("direction", "inbound", "outbound"),
    [(None, 1, 1), (Direction.INBOUND, 1, 0), (Direction.OUTBOUND, 0, 1), (Direction.INTERNAL, 0, 0)],
)
def test_direction(direction: Direction | None, inbound: int, outbound: int) -> None:
    one = rule(HELLO, direction=direction)
    assert (len(found(make.case(), one)), len(found(make.outbound(), one))) == (inbound, outbound)


def test_a_rule_about_recipients_is_for_those_alone() -> None:
    bob = leaf("rcpt", "equals", "bob@corp.example")
    by_recipient = make.judge(TWO, policy(rule(bob))).verdicts
    assert outcomes(*by_recipient) == {"bob@corp.example": Action.REJECT, "eve@corp.example": Action.DELIVER}
    assert outcomes(*make.judge(TWO, policy(rule({**bob, "of": "any"}))).verdicts)["eve@corp.example"] is Action.REJECT
    assert outcomes(*make.judge(TWO, policy(rule({"none": [bob]}))).verdicts) == {
        "bob@corp.example": Action.DELIVER,
        "eve@corp.example": Action.REJECT,
    }


def test_a_tag_is_the_recipients_for_whom_it_was_set_and_seen_by_later_sections() -> None:
    tag = rule(leaf("rcpt", "equals", "bob@corp.example"), {"do": "tag", "tag": "VIP"}, section="passes", number=9)
    deny = rule(leaf("tag", "equals", "vip"), number=1)
    assert outcomes(*make.judge(TWO, policy(tag, deny)).verdicts) == {
        "bob@corp.example": Action.REJECT,
        "eve@corp.example": Action.DELIVER,
    }


def test_a_finding_about_some_recipients_is_heard_for_those_alone() -> None:
    compiled = policy(rule(leaf("finding", "equals", "some:seen")))
    about_eve = make.finding(recipients=make.addresses("eve@corp.example"))
    (one,) = evaluate.judge(TWO, compiled, compiled.rules, {}, [about_eve])
    assert one.recipients == make.addresses("eve@corp.example")


def test_a_tag_is_not_seen_in_its_own_section() -> None:
    tag = rule(HELLO, {"do": "tag", "tag": "seen"}, number=1)
    deny = rule(leaf("tag", "equals", "seen"), number=2)
    assert verdict(make.case(), tag, deny).action is Action.DELIVER
    hold = rule(leaf("tag", "equals", "seen"), HOLD, section="hold", number=3)
    assert verdict(make.case(), tag, deny, hold).reason == "rule:3"


def test_rules_hear_what_filters_found_and_not_those_in_shadow() -> None:
    stranger = make.case(make.message(from_="x@unknown.example"), envelope=make.envelope("x@unknown.example"))
    tag = rule(leaf("finding", "equals", "business_only:unknown-sender"), HOLD, section="hold")
    heard = policy(tag, filters={"business_only": {"action": "quarantine"}})
    assert {one.reason for one in make.judge(stranger, heard).findings} == {"business_only:unknown-sender", "rule:1"}
    data = {**make.DOCUMENT, "rules": [tag], "filters": {"business_only": {"mode": "shadow", "options": {}}}}
    shadow = Policy.of(compile(read_document(data), registry()), 7, 3)
    assert {one.reason for one in make.judge(stranger, shadow).findings} == {"business_only:unknown-sender"}


def test_a_pass_opens_kinds_and_never_the_floor() -> None:
    exempt = rule(None, {"do": "exempt", "kinds": [kind.value for kind in Kind]}, section="passes", number=1)
    stranger = make.case(make.message(from_="x@unknown.example"), envelope=make.envelope("x@unknown.example"))
    one = make.judge(stranger, policy(exempt, rule(number=2), filters={"business_only": {}})).verdicts[0]
    assert (one.action, one.exempted) == (Action.DELIVER, ("business_only:unknown-sender", "rule:2"))
    forged = make.case(make.message(from_="boss@corp.example"))
    floor = make.judge(forged, policy(exempt, filters={"own_domain": {}})).verdicts[0]
    assert (floor.action, floor.reason) == (Action.REJECT, "own_domain:forged")


def test_a_pass_takes_nothing_from_rules_that_object_to_nothing() -> None:
    exempt = rule(None, {"do": "exempt", "kinds": ["content"]}, section="passes")
    mark = rule(None, {"do": "add_header", "name": "X-Mark", "value": "1"}, section="transform", number=2)
    assert verdict(make.case(), exempt, mark).transforms == (AddField("X-Mark", "1"),)


def test_a_rule_that_fails_defers_the_message() -> None:
    def breaks(view: View) -> bool:
        raise ValueError("the rule broke")

    compiled = policy(rule(HELLO))
    object.__setattr__(compiled.rules.rules[0], "tree", breaks)
    one = make.judge(make.case(), compiled).verdicts[0]
    assert (one.action, one.reason, one.category) == (Action.DEFER, "rule:1", "failed")
    assert "ValueError: the rule broke" in one.detail


# --- Scores -----------------------------------------------------------------------------------------------------------
THRESHOLDS = [{"at": 5, "action": "quarantine"}, {"at": 10, "action": "reject", "category": "business"}]


def scored(*scores: float) -> list[dict[str, Any]]:
    return [rule(HELLO, {"do": "score", "score": one}, number=n) for n, one in enumerate(scores, 1)]


@pytest.mark.parametrize(
    ("scores", "action", "reason"),
    [
        ((2, 2.9), Action.DELIVER, ""),
        ((2, 3), Action.QUARANTINE, "score:quarantine"),
        ((6, 6), Action.REJECT, "score:reject"),
        ((6, 6, -4), Action.QUARANTINE, "score:quarantine"),
    ],
)
def test_scores_add_up_to_thresholds(scores: tuple[float, ...], action: Action, reason: str) -> None:
    one = verdict(make.case(), *scored(*scores), score_thresholds=THRESHOLDS)
    assert (one.action, one.reason, one.score) == (action, reason, sum(scores))


def test_scores_that_a_pass_opens_do_not_count_and_a_worse_action_stands() -> None:
    exempt = rule(None, {"do": "exempt", "kinds": ["content"]}, section="passes", number=50)
    assert verdict(make.case(), exempt, *scored(20), score_thresholds=THRESHOLDS).action is Action.DELIVER
    both = verdict(make.case(), *scored(6), rule(HELLO, number=9), score_thresholds=THRESHOLDS)
    assert (both.action, both.reason) == (Action.REJECT, "rule:9")


# --- Changes and routes -----------------------------------------------------------------------------------------------


def test_changes_are_made_in_the_order_of_numbers_and_after_those_of_filters() -> None:
    raw = make.message(("X-Foo", "1"))
    edits = {"add": [{"name": "X-Early", "value": "1"}]}
    one = rule(None, {"do": "remove_header", "name": "x-foo"}, section="transform", number=3)
    two = rule(None, {"do": "add_header", "name": "X-Bar", "value": "2"}, section="transform", number=20)
    compiled = policy(two, one, filters={"header_hygiene": {"inbound": edits}})
    (verdict,) = make.judge(make.case(raw), compiled).verdicts
    assert verdict.transforms == (AddField("X-Early", "1"), RemoveFields((5,)), AddField("X-Bar", "2"))


def test_of_two_routes_the_lowest_number_counts() -> None:
    routes = {"a": {}, "b": {}}
    rules = [rule(None, {"do": "route", "route": to}, section="route", number=n) for n, to in ((7, "a"), (4, "b"))]
    assert verdict(make.case(), *rules, routes=routes).route == "b"


# --- The whole --------------------------------------------------------------------------------------------------------
CONDITIONS = (
    HELLO,
    UNKNOWN,
    leaf("size", "greater", 10),
    leaf("from.domain", "in_domain", "partner.example"),
    leaf("from.domain", "in_domain", "corp.example"),
    leaf("rcpt", "equals", "eve@corp.example"),
    leaf("subject", "contains", "nothing"),
    leaf("subject", "matches", "^h.llo$"),
    leaf("client.ip", "in_network", "192.0.2.0/24"),
    leaf("tag", "equals", "t1"),
)
DOING: dict[str, list[dict[str, Any]]] = {
    "passes": [{"do": "exempt", "kinds": [one.value for one in Kind]}, {"do": "tag", "tag": "t1"}],
    "deny": [{"do": "reject"}, {"do": "defer"}, {"do": "discard"}, {"do": "score", "score": 4}],
    "hold": [HOLD, {"do": "tag", "tag": "t1"}, {"do": "score", "score": 3}],
    "transform": [{"do": "add_header", "name": "X-A", "value": "1"}, {"do": "subject", "prefix": "[x]"}],
    "route": [{"do": "route", "route": "a"}, {"do": "route", "route": "b"}],
}
leaves = st.sampled_from(CONDITIONS)
trees = st.recursive(
    leaves, lambda inner: st.builds(lambda name, some: {name: some}, st.sampled_from(["all", "any", "none"]),
    st.lists(inner, min_size=1, max_size=3)), max_leaves=6,
)  # fmt: skip


@st.composite
def some_rules(draw: st.DrawFn) -> list[dict[str, Any]]:
    rules = []
    for number in range(1, draw(st.integers(1, 8)) + 1):
        section = draw(st.sampled_from(list(Section)))
        rules.append(
            rule(
                draw(trees),
                draw(st.sampled_from(DOING[section])),
                number=number,
                section=section,
                mode=draw(st.sampled_from(["enforce", "enforce", "shadow"])),
                when_unknown=draw(st.sampled_from(["match", "no_match", "defer"])),
            )
        )
    return rules


MORE: dict[str, Any] = {"routes": {"a": {}, "b": {}}, "score_thresholds": THRESHOLDS}


@given(some_rules(), st.randoms())
def test_rules_in_any_order_give_the_same_verdicts(rules: list[dict[str, Any]], chance: random.Random) -> None:
    shuffled = chance.sample(rules, len(rules))
    assert make.judge(TWO, policy(*rules, **MORE)) == make.judge(TWO, policy(*shuffled, **MORE))


@given(some_rules())
def test_no_rule_opens_the_floor(rules: list[dict[str, Any]]) -> None:
    forged = make.case(make.message(from_="boss@corp.example"), envelope=TWO.envelope)
    for one in make.judge(forged, policy(*rules, filters={"own_domain": {}}, **MORE)).verdicts:
        assert one.action is Action.REJECT


@given(some_rules())
def test_the_index_leaves_out_only_what_is_false(rules: list[dict[str, Any]]) -> None:
    compiled = policy(*rules, **MORE)
    view = View(TWO, compiled, compiled.rules.zone, {}, [])
    seen = evaluate.candidates(compiled.rules, view)
    view.tags = (frozenset({"t1"}),) * 2
    for place, one in enumerate(compiled.rules.rules):
        assert place in seen or one.tree(view) is False


def test_no_filter_has_the_name_under_which_rules_are_told() -> None:
    assert {"rule", "score"}.isdisjoint(registry())
