from typing import get_args

import msgspec
import pytest
from pydantic import ValidationError

from gateway.filters.ambiguity import DEFAULTS, FILES, FILTER, STRUCTURE, Code, Options
from gateway.filters.protocol import CLUMSY, ELSEWHERE, UNSEEN
from gateway.inspection.facts import Part
from gateway.inspection.look import PROBLEMS
from gateway.inspection.structure import DEFECTS
from gateway.mail.envelope import Direction
from gateway.verdict import Action, Case
from tests import make


def with_defects(*defects: str) -> Case:
    usual = make.case()
    return msgspec.structs.replace(usual, facts=msgspec.structs.replace(usual.facts, defects=defects))


@pytest.mark.parametrize("defect", sorted(STRUCTURE))
def test_what_readers_read_differently_is_told(defect: str) -> None:
    (finding,) = make.judge_with(FILTER, Options(), with_defects(defect, defect))
    assert (finding.code, finding.action) == (defect.replace("_", "-"), DEFAULTS[defect])
    assert finding.detail == STRUCTURE[defect][0]


@pytest.mark.parametrize("problem", sorted(FILES))
def test_files_that_programs_see_differently_are_told(problem: str) -> None:
    case = make.with_parts(Part("2", names=("a.zip",), problems=(problem, "damaged")))
    (finding,) = make.judge_with(FILTER, Options(), case)
    assert (finding.code, finding.part) == (problem.replace("_", "-"), "2")
    assert finding.detail == f'"a.zip" {FILES[problem][0]}'


def test_each_has_an_option_of_its_own() -> None:
    options = Options(actions={"preamble": Action.REJECT, "ambiguous_type": Action.DELIVER})
    found = make.judge_with(FILTER, options, with_defects("preamble", "ambiguous_type", "early_close"))
    assert [one.action for one in found] == [Action.REJECT, Action.DELIVER, Action.QUARANTINE]
    with pytest.raises(ValidationError, match="preambel"):
        Options.model_validate({"actions": {"preambel": "reject"}})


def test_every_code_of_the_inspection_is_some_filters() -> None:
    assert set(get_args(Code)) == set(DEFAULTS)
    assert set(FILES) <= set(PROBLEMS)
    assert set(DEFECTS) - set(STRUCTURE) - {*UNSEEN, *ELSEWHERE, *CLUMSY} == set()


def test_plain_mail_and_other_directions_are_nothing_to_speak_of() -> None:
    assert make.judge_with(FILTER, Options(), make.case()) == []
    outbound = Options(directions=(Direction.OUTBOUND,))
    assert make.judge_with(FILTER, outbound, with_defects("preamble")) == []
