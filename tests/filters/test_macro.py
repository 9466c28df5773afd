import pytest

from gateway.filters.macro import FILTER, Options
from gateway.inspection.facts import Macro, Part
from gateway.mail.envelope import Direction
from gateway.mail.reply import refusal
from gateway.verdict import Action, Case, Finding, Kind
from tests import make


def found(case: Case, options: Options | None = None) -> list[Finding]:
    return make.judge_with(FILTER, options or Options(), case)


def file(macro: Macro = Macro.NONE, *active: str, path: str = "2") -> Part:
    return Part(path, names=("offer.xlsm",), macro=macro, active=active)


@pytest.mark.parametrize(
    ("part", "code", "words"),
    [
        (file(Macro.PRESENT), "present", '"offer.xlsm" has macros'),
        (file(Macro.AUTO_RUN), "auto-run", '"offer.xlsm" has macros that run by themselves'),
        (file(Macro.SUSPICIOUS), "suspicious", '"offer.xlsm" has macros that start programs, fetch or hide something'),
        (file(Macro.NONE, "dde"), "active", '"offer.xlsm" runs a command by DDE'),
        (file(Macro.NONE, "external_template"), "active", '"offer.xlsm" loads its template from elsewhere'),
        (Part("2/1/4", macro=Macro.PRESENT), "present", "part 2/1/4 has macros"),
    ],
)
def test_macros_and_their_like_are_refused_at_any_depth(part: Part, code: str, words: str) -> None:
    (finding,) = found(make.with_parts(Part("1"), part))
    assert (finding.code, finding.detail, finding.action) == (code, words, Action.REJECT)
    assert (finding.part, finding.category) == (part.path, "macro")


def test_each_file_and_each_objection_is_told() -> None:
    case = make.with_parts(file(Macro.PRESENT, "activex", "embedded_file"), file(Macro.AUTO_RUN, path="3"))
    assert [(one.code, one.part) for one in found(case)] == [("present", "2"), ("active", "2"), ("auto-run", "3")]


def test_files_without_macros_pass() -> None:
    assert found(make.with_parts(file(), file(Macro.NONE, "embedded_file", "external_relationship"))) == []
    assert found(make.case()) == []


def test_what_is_done_is_an_option_for_each_grade() -> None:
    options = Options(present=Action.DELIVER, auto_run=Action.QUARANTINE)
    case = make.with_parts(file(Macro.PRESENT), file(Macro.AUTO_RUN), file(Macro.SUSPICIOUS))
    assert [one.action for one in found(case, options)] == [Action.DELIVER, Action.QUARANTINE, Action.REJECT]


def test_only_the_chosen_directions_are_judged() -> None:
    case = make.with_parts(file(Macro.PRESENT), a_case=make.outbound())
    assert found(case) == []
    both = Options(directions=(Direction.INBOUND, Direction.OUTBOUND))
    assert [one.code for one in found(case, both)] == ["present"]


def test_a_mixed_message_is_judged_for_the_recipients_concerned() -> None:
    envelope = make.envelope(
        "ann@partner.example", make.recipient(), make.recipient("eve@other.example", Direction.OUTBOUND)
    )
    (finding,) = found(make.with_parts(file(Macro.PRESENT), a_case=make.case(envelope=envelope)))
    assert finding.recipients == make.addresses("bob@corp.example")


def test_the_refusal_says_where_to_exchange_files_instead() -> None:
    policy = make.policy(filters={"macro": {}}, file_exchange="use https://files.corp.example")
    (verdict,) = make.judge(make.with_parts(file(Macro.PRESENT)), policy).verdicts
    assert verdict.action is Action.REJECT
    reply = refusal(verdict.category, "7KQ2-M9PX", "")
    assert reply.text == "Attachments with macros are not accepted (use https://files.corp.example) (ref 7KQ2-M9PX)"
    assert FILTER.kind is Kind.ATTACHMENT
