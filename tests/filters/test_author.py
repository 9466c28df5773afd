import pytest

from gateway.filters.author import FILTER, Options
from gateway.mail.envelope import Direction
from gateway.verdict import Action, Finding
from tests import make


def found(*values: str, options: Options | None = None) -> list[Finding]:
    raw = make.message(*[("From", value) for value in values], without=["From"])
    return make.judge_with(FILTER, options or Options(), make.case(raw))


@pytest.mark.parametrize(
    "value",
    [
        "ann@partner.example",
        "Ann Author <ann@partner.example>",
        '"Author, Ann" <ann@partner.example>',
        "ann@partner.example <ann@partner.example>",
        '"Ann@Partner.example" <ann@partner.example>',
        "=?utf-8?q?J=C3=BCrgen?= <juergen@partner.example>",
        '"sales@partner.example" <ann@partner.example>',  # the same domain
    ],
)
def test_one_clear_author_is_nothing_to_speak_of(value: str) -> None:
    assert found(value) == []


@pytest.mark.parametrize(
    ("values", "code", "action"),
    [
        (["a@x.example", "b@y.example"], "several-fields", Action.REJECT),
        (["a@x.example", "a@x.example"], "several-fields", Action.REJECT),
        (["a@x.example, b@y.example"], "several-authors", Action.DELIVER),
        (["Team: a@x.example, b@y.example;"], "several-authors", Action.DELIVER),
        ([], "no-author", Action.QUARANTINE),
        (["undisclosed:;"], "no-author", Action.QUARANTINE),
        (['"ceo@bank.example" <x@evil.example>'], "shows-other", Action.DELIVER),
        (['"Boss ceo@corp.example" <x@evil.example>'], "shows-ours", Action.QUARANTINE),
        (['"ceo@mail.corp.example" <x@evil.example>'], "shows-ours", Action.QUARANTINE),
        (["=?utf-8?b?Y2VvQGNvcnAuZXhhbXBsZQ==?= <x@evil.example>"], "shows-ours", Action.QUARANTINE),
        (["=?utf-8?q?ceo=EF=BC=A0corp=EF=BC=8Eexample?= <x@evil.example>"], "shows-ours", Action.QUARANTINE),
    ],
)
def test_what_is_odd_about_the_author_is_told(values: list[str], code: str, action: Action) -> None:
    assert (code, action) in [(one.code, one.action) for one in found(*values)]


def test_an_author_whom_readers_see_differently_is_unclear() -> None:
    codes = [one.code for one in found("<ceo@corp.example> <x@evil.example>")]
    assert "unclear" in codes


def test_each_is_an_option_and_only_chosen_directions_are_judged() -> None:
    options = Options(shows_ours=Action.REJECT)
    assert [one.action for one in found('"ceo@corp.example" <x@evil.example>', options=options)] == [Action.REJECT]
    outbound = Options(directions=(Direction.OUTBOUND,))
    assert found('"ceo@corp.example" <x@evil.example>', options=outbound) == []


def test_a_long_hostile_name_takes_no_time() -> None:
    value = '"' + "a@" * 400 + "a." * 400 + '" <x@evil.example>'
    assert all(len(one.detail) < 1000 for one in found(value))
