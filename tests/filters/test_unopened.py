import pytest

from gateway.filters.unopened import DAMAGE, FAILURES, FILTER, Options
from gateway.inspection.facts import Part
from gateway.mail.envelope import Direction
from gateway.verdict import Action
from tests import make


@pytest.mark.parametrize("problem", sorted({*DAMAGE, *FAILURES}))
def test_what_could_not_be_looked_into_is_held(problem: str) -> None:
    case = make.with_parts(Part("2", names=("odd.doc",), problems=(problem,)))
    (finding,) = make.judge_with(FILTER, Options(), case)
    assert (finding.code, finding.action, finding.part) == (problem.replace("_", "-"), Action.QUARANTINE, "2")
    assert finding.detail.startswith('"odd.doc" ')
    assert finding.category == "unopened"


def test_damage_and_failure_are_apart() -> None:
    case = make.with_parts(Part("2", problems=("damaged", "opener_failed")), problems=("crashed",))
    options = Options(damaged=Action.DELIVER, failed=Action.REJECT)
    found = [(one.code, one.action) for one in make.judge_with(FILTER, options, case)]
    assert found == [("crashed", Action.REJECT), ("damaged", Action.DELIVER), ("opener-failed", Action.REJECT)]


def test_bombs_and_locks_are_none_of_its_business() -> None:
    assert make.judge_with(FILTER, Options(), make.with_parts(Part("2", problems=("ratio", "odd_name")))) == []
    assert make.judge_with(FILTER, Options(), make.case()) == []


def test_only_the_chosen_directions_are_judged() -> None:
    case = make.with_parts(Part("2", problems=("damaged",)), a_case=make.outbound())
    assert make.judge_with(FILTER, Options(), case) == []
    assert len(make.judge_with(FILTER, Options(directions=(Direction.OUTBOUND,)), case)) == 1
