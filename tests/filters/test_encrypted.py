import pytest

from gateway.filters.encrypted import FILTER, Options
from gateway.inspection.facts import Lock, Part
from gateway.mail.envelope import Direction
from gateway.verdict import Action, Finding
from tests import make


def found(*parts: Part, options: Options | None = None) -> list[Finding]:
    return make.judge_with(FILTER, options or Options(), make.with_parts(*parts))


def test_what_no_known_password_opens_is_refused() -> None:
    (finding,) = found(Part("2", names=("a.zip",)), Part("2/1", names=("plan.docx",), lock=Lock.LOCKED))
    assert (finding.code, finding.action, finding.category) == ("locked", Action.REJECT, "encrypted")
    assert finding.detail == '"plan.docx" is encrypted, and no known password opens it'
    assert finding.part == "2/1"


def test_what_a_known_password_opened_is_noted_only() -> None:
    (finding,) = found(Part("2", names=("a.zip",), lock=Lock.OPENED))
    assert (finding.code, finding.action) == ("opened", Action.DELIVER)


@pytest.mark.parametrize("parts", [(), (Part("1"), Part("2", names=("a.zip",)))])
def test_files_without_a_lock_pass(parts: tuple[Part, ...]) -> None:
    assert found(*parts) == []


def test_action_and_directions_are_options() -> None:
    locked = Part("2", lock=Lock.LOCKED)
    assert [one.action for one in found(locked, options=Options(action=Action.QUARANTINE))] == [Action.QUARANTINE]
    assert found(locked, options=Options(directions=(Direction.OUTBOUND,))) == []
