import pytest

from gateway.filters.bomb import FILTER, LIMITS, Options
from gateway.inspection.facts import Part
from gateway.verdict import Action
from tests import make


@pytest.mark.parametrize("problem", sorted(LIMITS))
def test_a_limit_that_is_met_refuses_the_message(problem: str) -> None:
    case = make.with_parts(Part("1"), Part("2/1", names=("42.zip",), problems=("damaged", problem)))
    (finding,) = make.judge_with(FILTER, Options(), case)
    assert (finding.code, finding.action, finding.part) == (problem.replace("_", "-"), Action.REJECT, "2/1")
    assert finding.detail == f'"42.zip" {LIMITS[problem]}'
    assert finding.category == "bomb"
    assert finding.code in FILTER.floor


def test_limits_of_the_whole_message_count_as_well() -> None:
    (finding,) = make.judge_with(
        FILTER, Options(action=Action.QUARANTINE), make.with_parts(problems=("too_many_files",))
    )
    assert (finding.code, finding.action, finding.part) == ("too-many-files", Action.QUARANTINE, "")


def test_other_problems_are_none_of_its_business() -> None:
    case = make.with_parts(Part("2", problems=("damaged", "crashed", "unsupported")), problems=("too_long",))
    assert make.judge_with(FILTER, Options(), case) == []
    assert make.judge_with(FILTER, Options(), make.case()) == []


def test_no_pass_and_no_waiver_opens_it() -> None:
    policy = make.policy(make.waiver(["bomb:ratio"]), filters={"bomb": {}})
    case = make.with_parts(Part("2", problems=("ratio",)))
    (verdict,) = make.judge(case, policy, sha256="ab" * 32).verdicts
    assert (verdict.action, verdict.exempted) == (Action.REJECT, ())
