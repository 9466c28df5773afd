import pytest

from gateway.filters.loop import FILTER, Options
from gateway.inspection.marker import sign
from gateway.mail.envelope import Direction
from gateway.verdict import Action, Finding
from tests import make


def found(*fields: tuple[str, str], options: Options | None = None) -> list[Finding]:
    return make.judge_with(FILTER, options or Options(), make.case(make.message(*fields)))


@pytest.mark.parametrize(("hops", "codes"), [(0, []), (99, []), (100, ["hops"]), (150, ["hops"])])
def test_a_hundred_received_fields_are_a_loop(hops: int, codes: list[str]) -> None:
    assert [one.code for one in found(*[("Received", "from a by b; date")] * hops)] == codes


@pytest.mark.parametrize(("count", "codes"), [(1, []), (3, []), (4, ["passes"]), (9, ["passes"])])
def test_mail_that_passed_us_four_times_is_a_loop(count: int, codes: list[str]) -> None:
    assert [one.code for one in found(("X-Gatepost-Hop", sign(count, make.HOP_KEY)))] == codes


def test_a_marker_that_we_did_not_sign_stops_nothing() -> None:
    assert found(("X-Gatepost-Hop", sign(9, b"somebody else's")), ("X-Gatepost-Hop", "v1 9 00")) == []


def test_the_bounds_are_options() -> None:
    options = Options(max_received=1000, max_passes=6)
    assert found(*[("Received", "x")] * 150, options=options) == []
    assert found(("X-Gatepost-Hop", sign(5, make.HOP_KEY)), options=options) == []


@pytest.mark.parametrize("direction", Direction)
def test_a_loop_is_refused_in_every_direction_and_mode(direction: Direction) -> None:
    raw = make.message(("X-Gatepost-Hop", sign(4, make.HOP_KEY)))
    case = make.case(raw, envelope=make.envelope("ann@partner.example", make.recipient(direction=direction)))
    verdict = make.judge(case, make.policy(filters={"loop": {}}, observe=True)).verdicts[0]
    assert (verdict.action, verdict.reason, verdict.category) == (Action.REJECT, "loop:passes", "loop")
