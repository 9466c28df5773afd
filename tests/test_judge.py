from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import filters
from gateway.filters import FAILED, Filter, FilterOptions, asks_nothing, registry
from gateway.inspection.scan import scan
from gateway.judge import judge, questions
from gateway.mail.envelope import Direction
from gateway.policy.compile import Policy, compile
from gateway.policy.document import read_document
from gateway.transforms.apply import apply
from gateway.verdict import (
    Action,
    Answers,
    Case,
    DnsQuestion,
    Finding,
    Kind,
    Question,
    SentMessageQuestion,
    Trace,
    Unknown,
)
from tests import make

QUESTION = DnsQuestion("a.example", "A")


def asks_one(case: Case, options: Any, policy: Policy) -> Iterator[Question]:
    yield QUESTION


def tells_answer(case: Case, options: Any, policy: Policy, answers: Answers) -> Iterator[Finding]:
    answer = answers[QUESTION]
    yield Finding("told", answer.why if isinstance(answer, Unknown) else answer[0])


def rejects(case: Case, options: Any, policy: Policy, answers: Answers) -> Iterator[Finding]:
    yield Finding("bad", "seen", action=Action.REJECT)


def raises(case: Case, options: Any, policy: Policy, answers: Answers) -> Iterator[Finding]:
    yield Finding("key", "passes", exempts=tuple(Kind))
    raise ValueError("the filter broke")


def cannot_ask(case: Case, options: Any, policy: Policy) -> Iterator[Question]:
    raise ValueError("the filter broke")


def spec(name: str, judge: Any = rejects, ask: Any = asks_nothing, floor: tuple[str, ...] = ()) -> Filter:
    return Filter(name, Kind.CONTENT, FilterOptions(), ask, judge, codes=("bad", "told", "key"), floor=floor)


def policy_of(*specs: Filter, mode: str = "enforce", **document: Any) -> Policy:
    data = {**make.DOCUMENT, "filters": {one.name: {"mode": mode} for one in specs}, **document}
    return Policy.of(compile(read_document(data), {one.name: one for one in specs}), 7, 3)


def test_findings_are_stamped_with_their_filter() -> None:
    judgement = judge(make.case(), policy_of(spec("one", floor=("bad",))), {})
    assert [(f.reason, f.kind, f.floor, f.shadow) for f in judgement.findings] == [
        ("one:bad", Kind.CONTENT, True, False)
    ]
    assert [(v.action, v.reason, v.policy_version, v.ledger_revision) for v in judgement.verdicts] == [
        (Action.REJECT, "one:bad", 7, 3)
    ]


def test_questions_of_several_filters_are_asked_once() -> None:
    policy = policy_of(spec("one", tells_answer, asks_one), spec("two", tells_answer, asks_one))
    assert questions(make.case(), policy) == (QUESTION,)


def test_a_question_without_an_answer_is_unknown() -> None:
    policy = policy_of(spec("one", tells_answer, asks_one))
    assert [f.detail for f in judge(make.case(), policy, {}).findings] == ["not kept"]
    assert [f.detail for f in judge(make.case(), policy, {QUESTION: ("192.0.2.1",)}).findings] == ["192.0.2.1"]


@pytest.mark.parametrize("broken", [spec("one", raises), spec("one", ask=cannot_ask)])
def test_a_filter_that_raises_defers_and_never_passes(broken: Filter) -> None:
    policy = policy_of(broken)
    assert questions(make.case(), policy) == ()
    judgement = judge(make.case(), policy, {})
    assert [(f.reason, f.action, f.category, f.exempts) for f in judgement.findings] == [
        (f"one:{FAILED}", Action.DEFER, "failed", ())
    ]
    assert "ValueError: the filter broke" in judgement.findings[0].detail
    assert judgement.verdicts[0].action is Action.DEFER


def test_a_filter_that_raises_leaves_the_others_their_say() -> None:
    judgement = judge(make.case(), policy_of(spec("one", raises), spec("two")), {})
    assert judgement.verdicts[0].reason == "two:bad"


def test_no_pass_opens_a_floor_filter_that_failed() -> None:
    def passes(case: Case, options: Any, policy: Policy, answers: Answers) -> Iterator[Finding]:
        yield Finding("key", "passes", exempts=tuple(Kind))

    policy = policy_of(spec("one", raises, floor=("bad",)), spec("two", passes))
    assert judge(make.case(), policy, {}).verdicts[0].action is Action.DEFER


def test_a_filter_in_shadow_is_heard_and_blocks_nothing() -> None:
    judgement = judge(make.case(), policy_of(spec("one"), mode="shadow"), {})
    verdict = judgement.verdicts[0]
    assert (verdict.action, verdict.would, judgement.findings[0].shadow) == (Action.DELIVER, Action.REJECT, True)


def test_a_filter_that_is_off_is_not_heard() -> None:
    policy = policy_of(spec("one"), mode="off")
    assert judge(make.case(), policy, {}).findings == ()
    assert policy.off == ("one",)


def test_in_observe_mode_all_is_judged_and_nothing_blocked() -> None:
    verdict = judge(make.case(), policy_of(spec("one"), observe=True), {}).verdicts[0]
    assert (verdict.action, verdict.would, verdict.would_reason) == (Action.DELIVER, Action.REJECT, "one:bad")


def test_a_waiver_counts_only_for_the_bytes_that_it_names() -> None:
    policy = policy_of(spec("one"))
    waived = Policy.of(policy, 7, 3, [make.waiver(["one:bad"])])
    assert judge(make.case(), waived, {}, sha256="ab" * 32).verdicts[0].action is Action.DELIVER
    assert judge(make.case(), waived, {}, sha256="cd" * 32).verdicts[0].action is Action.REJECT
    assert judge(make.case(), waived, {}).verdicts[0].action is Action.REJECT


def real_cases() -> list[Case]:
    bounce = make.message(("In-Reply-To", "<sent@corp.example>"), from_="MAILER-DAEMON@mx.other.example")
    return [
        make.case(),
        make.case(make.message(from_="ceo@corp.example")),
        make.case(make.message(("From", "x@y.example"))),
        make.case(bounce, envelope=make.envelope("")),
        make.outbound(make.message(("X-Mailer", "x"), ("Received", "from a.corp.local by b; date"))),
        make.case(
            envelope=make.envelope(
                "bob@corp.example",
                make.recipient(),
                make.recipient("ann@partner.example", Direction.OUTBOUND),
            )
        ),
    ]


@given(st.sampled_from(real_cases()), st.permutations(sorted(make.ALL_FILTERS)), st.booleans())
def test_the_order_in_which_filters_run_never_matters(case: Case, order: list[str], sent: bool) -> None:
    policy = make.policy(make.partner(), filters=make.ALL_FILTERS)
    by_name = {one.name: one for one in policy.filters}
    shuffled = Policy.of(policy, policy.version, policy.revision, policy.ledger.entries())
    object.__setattr__(shuffled, "filters", tuple(by_name[name] for name in order))
    answers: Answers = dict.fromkeys(questions(case, policy), ("<sent@corp.example>",) if sent else ())
    expected, found = judge(case, policy, answers), judge(case, shuffled, answers)
    assert found.verdicts == expected.verdicts
    assert sorted(found.findings, key=repr) == sorted(expected.findings, key=repr)


def test_a_judgement_comes_back_from_its_stored_form() -> None:
    case = real_cases()[4]
    policy = make.policy(filters=make.ALL_FILTERS)
    judgement = judge(case, policy, {})
    trace = Trace(
        "id",
        "ref",
        case,
        ((SentMessageQuestion(("<a@b.example>",)), Unknown("away")),),
        judgement.findings,
        judgement.verdicts,
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(trace), type=Trace) == trace


def test_judging_a_stored_case_again_gives_the_same_judgement() -> None:
    policy = make.policy(make.partner(), filters=make.ALL_FILTERS)
    for case in real_cases():
        stored = msgspec.msgpack.decode(msgspec.msgpack.encode(case), type=Case)
        assert judge(stored, policy, {}) == judge(case, policy, {})


def test_nothing_internal_is_left_in_the_header_of_mail_that_leaves() -> None:
    raw = make.message(
        ("Received", "from EXCH01.corp.local (10.1.2.3) by EXCH02.corp.local (10.1.2.4) with mapi id 15.2; date"),
        ("X-Originating-IP", "[10.1.7.7]"),
        ("X-MS-Exchange-Organization-AuthSource", "EXCH01.corp.local"),
        ("X-Custom", "built on 198.51.100.9"),
        from_="Bob <bob@corp.example>",
        to="ann@partner.example",
        message_id="<ABC@EXCH01.corp.local>",
    )
    case = make.outbound(raw)
    policy = make.policy(filters=make.ALL_FILTERS)
    verdict = judge(case, policy, {}).verdicts[0]
    received = b"Received: by mx.corp.example; date\r\n"
    found = apply(raw, case, verdict, direction=Direction.OUTBOUND, received=received, policy=policy)
    out = b"".join(found.pieces).decode()
    assert policy.internal.shown_in(out) == ""
    for name in ("From", "To", "Subject", "Date"):
        assert [field.value for field in scan(out.encode()).fields if field.name == name] == case.facts.values(
            name.lower()
        )
    assert f"Message-ID: {found.message_id}\r\n" in out
    assert [one.after for one in found.changes].count(None) == 4


def test_the_registry_has_every_filter_of_the_package() -> None:
    modules = sorted(path.stem for path in Path(filters.__file__).parent.glob("*.py") if path.stem != "__init__")
    assert list(registry()) == modules
    assert registry()["loop"].name == "loop"


@pytest.mark.parametrize("name", sorted(registry()))
def test_every_option_has_a_title_for_the_form(name: str) -> None:
    fields = type(registry()[name].defaults).model_fields
    assert [field for field, info in fields.items() if not info.title] == []


def test_a_floor_beyond_the_codes_is_no_filter() -> None:
    with pytest.raises(ValueError, match="part of the codes"):
        Filter("x", Kind.CONTENT, FilterOptions(), asks_nothing, rejects, codes=("bad",), floor=("worse",))
    with pytest.raises(ValueError, match="not among them"):
        Filter("x", Kind.CONTENT, FilterOptions(), asks_nothing, rejects, codes=("failed",))
