"""Every operator on the values of one field, and what it does not take."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.rules.operators import OPERATORS
from gateway.policy.rules.truth import all_of, always, any_of, negated
from gateway.policy.rules.view import MAX_MATCHED, View
from tests import make
from tests.policy.rules.ruled import leaf, policy, problems, rule, truth


def subject(text: str) -> Any:
    return make.case(make.message(subject=text))


@pytest.mark.parametrize(
    ("op", "value", "text", "expected"),
    [
        ("equals", "HELLO", "Hello", True),
        ("equals", "Hello", "Hello!", False),
        ("equals", "STRASSE", "Straße", True),
        ("equals", "file", "\ufb01le", True),  # NFKC
        ("one_of", ["a", "hello"], "Hello", True),
        ("one_of", ["a", "b"], "Hello", False),
        ("contains", "ELL", "Hello", True),
        ("contains", ["x", "lo"], "Hello", True),
        ("contains", "x", "Hello", False),
        ("contains", "a.c", "abc", False),
        ("starts", "he", "Hello", True),
        ("starts", "ello", "Hello", False),
        ("ends", ["x", "LLO"], "Hello", True),
        ("ends", "hell", "Hello", False),
        ("matches", "h.l+o$", "Hello", True),
        ("matches", ["x", "^HELLO"], "Hello", True),
        ("matches", "^ello", "Hello", False),
        ("matches", "übersicht", "ÜBERSICHT", True),
        ("exists", None, "Hello", True),
        ("exists", False, "Hello", False),
    ],
)
def test_text(op: str, value: Any, text: str, expected: bool) -> None:
    assert truth(leaf("subject", op, value), subject(text)) is expected
    # The same among many, where it is looked for together with others.
    others = [rule(leaf("subject", op, f"other {n}"), number=n) for n in range(2, 12) if value and op != "exists"]
    judged = make.judge(subject(text), policy(rule(leaf("subject", op, value)), *others))
    assert bool(judged.findings) is expected


@pytest.mark.parametrize(("op", "value"), [("equals", "HELLO"), ("contains", "ELL"), ("matches", "HELLO")])
def test_as_written_letters_count(op: str, value: str) -> None:
    assert truth(leaf("subject", op, value, raw=True), subject("Hello")) is False
    assert truth(leaf("subject", op, value.capitalize() if op != "contains" else "ell", raw=True), subject("Hello"))


@pytest.mark.parametrize(
    ("value", "ip", "expected"),
    [
        ("192.0.2.0/24", "192.0.2.77", True),
        ("192.0.2.0/24", "::ffff:192.0.2.77", True),
        ("192.0.2.0/24", "192.0.3.77", False),
        (["203.0.113.9", "2001:db8::/32"], "2001:db8::7", True),
        ("0.0.0.0/0", "198.51.100.1", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("192.0.2.0/24", "unknown", False),
    ],
)
def test_networks(value: Any, ip: str, expected: bool) -> None:
    case = make.case(session=make.session(peer_ip=ip))
    assert truth(leaf("client.ip", "in_network", value), case) is expected
    assert bool(make.judge(case, policy(rule(leaf("client.ip", "in_network", value)))).findings) is expected


@pytest.mark.parametrize(
    ("value", "domain", "expected"),
    [
        ("partner.example", "partner.example", True),
        ("partner.example", "sub.partner.example", False),
        ("*.partner.example", "sub.partner.example", True),
        ("*.partner.example", "partner.example", False),
        (["partner.example", "*.partner.example"], "a.b.partner.example", True),
        ("*.partner.example", "notpartner.example", False),
        ("m\u00fcller.example", "xn--mller-kva.example", True),
    ],
)
def test_domains(value: Any, domain: str, expected: bool) -> None:
    case = make.case(make.message(from_=f"a@{domain}"))
    assert truth(leaf("from.domain", "in_domain", value), case) is expected
    assert bool(make.judge(case, policy(rule(leaf("from.domain", "in_domain", value)))).findings) is expected


def test_values_can_come_from_a_list_of_the_document() -> None:
    lists = {"rivals": ["rival.example", "partner.example"]}
    assert truth(leaf("from.domain", "in_domain", list="rivals"), make.case(), lists=lists) is True
    assert truth(leaf("mail_from.domain", "one_of", list="none"), make.case(), lists={"none": []}) is False


def test_a_pattern_sees_64_kib_and_no_more() -> None:
    far = make.case()
    for text, expected in (("x" * (MAX_MATCHED - 1) + "Z", True), ("x" * MAX_MATCHED + "Z", False)):
        case = msgspec.structs.replace(far, facts=msgspec.structs.replace(far.facts, text=text))
        assert truth(leaf("text", "matches", "z"), case) is expected


@pytest.mark.parametrize(
    ("given", "path", "words"),
    [
        (leaf("subject", "matches", "(a"), "value", "missing )"),
        (leaf("subject", "matches", r"(a)\1"), "value", "escape"),
        (leaf("subject", "matches", "a{1001}"), "value", "repetition"),
        (leaf("subject", "matches", "a" * 3000), "value", "longer"),
        (leaf("subject", "greater", 1), "op", "does not take greater"),
        (leaf("subject", "contains", ""), "value", "found everywhere"),
        (leaf("subject", "contains", True), "value", "should be a text"),
        (leaf("subject", "equals", ["a", "b"]), "value", "takes one value"),
        (leaf("subject", "contains"), "value", "wants a value"),
        (leaf("size", "greater", "5"), "value", "should be a number"),
        (leaf("size", "greater", True), "value", "should be a number"),
        (leaf("size", "contains", "5"), "op", "does not take contains"),
        (leaf("is_bounce", "equals", "yes"), "value", "true or false"),
        (leaf("listener", "equals", "nowhere"), "value", "one of inbound"),
        (leaf("client.ip", "in_network", "192.0.2.1/24"), "value", "host bits"),
        (leaf("client.ip", "equals", "nonsense"), "value", "IPv4"),
        (leaf("from.domain", "in_domain", "no domain!"), "value", ""),
        (leaf("subject", "equals", "a", of="each"), "of", "recipients"),
        (leaf("subject", "exists", of="all"), "of", "at once"),
        (leaf("subject", "contains", 1, of="count"), "op", "a count does not take"),
        (leaf("subject", "one_of", list="gone"), "list", "no such list"),
        (leaf("subject", "equals", list="gone"), "list", "takes no list"),
        (leaf("subject", "one_of", "a", list="gone"), "value", "left out"),
        (leaf("header", "equals", "a"), "name", "which one"),
        (leaf("subject", "equals", "a", name="x"), "name", "has no name"),
        (leaf("subjet", "equals", "a"), "field", "no such field"),
        (leaf("subject", "is", "a"), "op", "no such operator"),
    ],
)
def test_a_wrong_condition_is_named_by_its_path(given: dict[str, Any], path: str, words: str) -> None:
    told = dict(problems(rule({"all": [leaf("size", "greater", 1), given]})))
    assert words in told[f"rules.0.when.all.1.{path}"]


def test_patterns_that_cost_too_much_together_are_refused() -> None:
    gaps = [rule(leaf("text", "matches", f"a.{{0,400}}b{n}"), number=n) for n in (1, 2)]
    assert len(policy(*gaps).rules.rules) == 2
    third = rule(leaf("text", "matches", "a.{400}b"), number=3)
    assert dict(problems(*gaps, third)) == {
        "rules.2.when.value": "with this the patterns of text repeat 1200 times, at most 1000"
    }
    assert len(policy(*gaps, rule(leaf("subject", "matches", "a.{400}b"), number=3)).rules.rules) == 3


def test_every_operator_has_help() -> None:
    assert all(one.help for one in OPERATORS.values())


# Kleene, "Introduction to Metamathematics", section 64: the strong tables.
T, F, U = True, False, None
VIEW: View = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("one", "other", "both", "either"),
    [
        (T, T, T, T), (T, F, F, T), (T, U, U, T),
        (F, T, F, T), (F, F, F, F), (F, U, F, U),
        (U, T, U, T), (U, F, F, U), (U, U, U, U),
    ],
)  # fmt: skip
def test_three_valued_tables(one: bool | None, other: bool | None, both: bool | None, either: bool | None) -> None:
    trees = [lambda view: one, lambda view: other]
    assert all_of(trees)(VIEW) is both
    assert any_of(trees)(VIEW) is either
    neither = {T: F, F: T, U: U}[either]
    assert negated(any_of(trees))(VIEW) is neither


def test_nothing_to_ask_is_always() -> None:
    assert always(VIEW) is True
    assert (all_of([])(VIEW), any_of([])(VIEW)) == (True, False)


@given(st.text(max_size=200), st.text(min_size=1, max_size=20))
def test_together_and_alone_a_text_is_found_alike(text: str, wanted: str) -> None:
    usual = make.case()
    case = msgspec.structs.replace(usual, facts=msgspec.structs.replace(usual.facts, subject=text))
    for op in ("contains", "starts", "ends", "equals"):
        alone = policy(rule(leaf("subject", op, wanted)))
        many = policy(*[rule(leaf("subject", op, one), number=n) for n, one in enumerate([wanted, *"0123456"], 1)])
        numbers = {one.code for one in make.judge(case, many).findings}
        assert ("1" in numbers) is bool(make.judge(case, alone).findings), op
