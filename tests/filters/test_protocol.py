import msgspec
import pytest

from gateway.filters.protocol import CLUMSY, ELSEWHERE, FILTER, UNSEEN, Options
from gateway.mail.fields import DEFECTS
from gateway.verdict import Action, Case
from tests import make


def with_defects(*defects: str) -> Case:
    usual = make.case()
    return msgspec.structs.replace(usual, facts=msgspec.structs.replace(usual.facts, defects=defects))


@pytest.mark.parametrize("defect", sorted(UNSEEN))
def test_what_cannot_be_looked_through_is_refused_and_nothing_opens_it(defect: str) -> None:
    (finding,) = make.judge_with(FILTER, Options(), with_defects(defect))
    assert (finding.code, finding.action, finding.category) == (defect.replace("_", "-"), Action.REJECT, "protocol")
    assert finding.code in FILTER.floor


@pytest.mark.parametrize("defect", sorted(ELSEWHERE))
def test_what_is_elsewhere_is_refused(defect: str) -> None:
    (finding,) = make.judge_with(FILTER, Options(), with_defects(defect))
    assert finding.action is Action.REJECT
    assert finding.code not in FILTER.floor


@pytest.mark.parametrize("defect", sorted(CLUMSY))
def test_what_real_mail_has_is_noted_only(defect: str) -> None:
    (finding,) = make.judge_with(FILTER, Options(), with_defects(defect))
    assert (finding.action, finding.detail) == (Action.DELIVER, CLUMSY[defect])
    (finding,) = make.judge_with(FILTER, Options(clumsy=Action.REJECT), with_defects(defect))
    assert finding.action is Action.REJECT


def test_every_defect_of_a_header_has_its_words() -> None:
    assert set(DEFECTS) <= {*UNSEEN, *CLUMSY}


def test_a_real_header_against_the_rules_is_told() -> None:
    raw = b"Subject : Hello\r\n" + make.message()
    codes = [one.code for one in make.judge_with(FILTER, Options(), make.case(raw))]
    assert codes == ["space-before-colon", "repeated-field"]


def test_plain_mail_is_nothing_to_speak_of() -> None:
    assert make.judge_with(FILTER, Options(), make.case()) == []
