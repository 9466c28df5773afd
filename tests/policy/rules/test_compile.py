"""Rules as a part of the document: what is refused and under which path, how they come back, and the index."""

import json
from typing import Any

import pytest
import yaml

from gateway.policy.document import PolicyError, read_document
from gateway.policy.rules.schema import Condition
from gateway.policy.rules.vocabulary import vocabulary
from tests import make
from tests.policy.rules.ruled import leaf, policy, problems, rule

HELLO = leaf("subject", "equals", "hello")


@pytest.mark.parametrize(
    ("given", "path", "words"),
    [
        (rule(HELLO, {"do": "exempt", "kinds": ["content"]}), "actions.0.do", "belongs to passes"),
        (rule(HELLO, {"do": "reject"}, section="passes"), "actions.0.do", "belongs to deny"),
        (rule(HELLO, {"do": "return"}), "actions.0.do", "no such action"),
        (rule(HELLO, {"do": "redirect"}), "actions.0.do", "no such action"),
        (rule(HELLO, {"do": "hold_for_sender"}), "actions.0.do", "no such action"),
        (rule(HELLO, {"do": "reject", "category": "rude"}), "actions.0.category", "should be one of"),
        (rule(HELLO, {"do": "reject", "category": "failed"}), "actions.0.category", "should be one of"),
        (rule(HELLO, {"do": "reject", "text": "go away"}), "actions.0.text", "not permitted"),
        (rule(HELLO, {"do": "reject"}, {"do": "defer"}), "actions.1", "one final action"),
        (rule(HELLO, {"do": "score"}), "actions.0.score", "required"),
        (rule(HELLO, {"do": "quarantine", "kind": "operator"}, section="hold"), "actions.0.kind", "before"),
        (rule(HELLO, {"do": "route", "route": "gone"}, section="route"), "actions", "no such route"),
        (
            rule(HELLO, {"do": "add_header", "name": "Received", "value": "x"}, section="transform"),
            "actions.0.name",
            "cannot be edited",
        ),
        (
            rule(HELLO, {"do": "set_header", "name": "From", "value": "x"}, section="transform"),
            "actions.0.name",
            "cannot be edited",
        ),
        (
            rule(HELLO, {"do": "add_header", "name": "X-A", "value": "a\r\nX-B: c"}, section="transform"),
            "actions.0.value",
            "one line",
        ),
        (
            rule(HELLO, {"do": "remove_header", "name": "X-A", "pattern": "("}, section="transform"),
            "actions.0.pattern",
            "not a pattern",
        ),
        (rule(HELLO, {"do": "subject"}, section="transform"), "actions.0", "one of prefix and replace"),
        (rule(HELLO, section="floor"), "section", "passes"),
        (rule(HELLO, kind="protocol"), "kind", "do not judge the protocol"),
        (rule(HELLO, direction="returned"), "direction", "not judged again"),
        (rule({"all": []}), "when.all", "at least 1"),
        (rule({"all": [HELLO], "any": [HELLO]}), "when", "should have one of"),
        (rule({"all": [HELLO], "op": "equals"}), "when", "nothing else"),
        (rule({"op": "equals", "value": 1}), "when", "should have one of"),
        (rule(HELLO, number=0), "number", "greater"),
        (rule({"any": [HELLO] * 501}), "when", "more than 500"),
    ],
)
def test_a_wrong_rule_is_named_by_its_path(given: dict[str, Any], path: str, words: str) -> None:
    told = dict(problems(given))
    assert words in told[f"rules.0.{path}"]


def test_trees_have_a_depth() -> None:
    tree = HELLO
    for _ in range(10):
        tree = {"all": [tree]}
    assert dict(problems(rule(tree))) == {"rules.0.when": "Value error, more than 10 levels"}
    for _ in range(5000):
        tree = {"all": [tree]}
    assert problems(rule(tree))


def test_every_problem_is_told_at_once_and_off_rules_are_checked_as_well() -> None:
    one = rule({"all": [leaf("nothing", "equals", 1), leaf("size", "greater", "x")]}, {"do": "exempt"}, mode="off")
    two = rule(unless=leaf("subject", "matches", "("), number=1)
    assert {path for path, _ in problems(one, two)} == {
        "rules.0.when.all.0.field",
        "rules.0.when.all.1.value",
        "rules.0.actions.0.do",
        "rules.0.actions.0.kinds",
        "rules.1.number",
        "rules.1.unless.value",
    }


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"time_zone": "Middle/Earth"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"score_thresholds": [{"at": 5, "action": "return"}]}, "score_thresholds.0.action"),
        ({"score_thresholds": [{"at": 0, "action": "reject"}]}, "score_thresholds.0.at"),
        ({"lists": {"a": [""]}}, "lists.a.0"),
    ],
)
def test_what_rules_need_of_the_document_is_checked(document: dict[str, Any], path: str) -> None:
    with pytest.raises(PolicyError) as error:
        policy(**document)
    assert [where for where, _ in error.value.problems] == [path]


FULL = rule(
    {"all": [HELLO, {"any": [leaf("size", "greater", 1), leaf("rcpt", "one_of", list="vips", of="any")]}]},
    {"do": "subject", "prefix": "[x]"},
    {"do": "log", "text": "why"},
    section="transform",
    name="Mark",
    direction="inbound",
    unless={"none": [leaf("header", "exists", False, name="X-A")]},
    when_unknown="match",
    owner="carol",
    expires_at="2027-01-01T00:00:00Z",
    examples=[{"expect": "match", "message": "Subject: hello\n\nx", "files": [{"names": ["a.exe"]}]}],
)


def test_rules_come_back_from_yaml_and_json_as_they_were() -> None:
    document = read_document({**make.DOCUMENT, "rules": [FULL], "lists": {"vips": ["bob@corp.example"]}})
    exported = yaml.safe_dump(document.model_dump(mode="json"), allow_unicode=True)
    assert read_document(yaml.safe_load(exported)) == document
    assert type(document).model_validate_json(document.model_dump_json()) == document


def test_a_tree_is_written_as_it_was_said() -> None:
    assert json.loads(Condition.model_validate(FULL["when"]).model_dump_json()) == FULL["when"]
    assert Condition.model_validate(FULL["unless"]).model_dump(mode="json") == FULL["unless"]


def test_the_forms_schema_can_be_made() -> None:
    from gateway.policy.document import Document

    assert "Rule" in Document.model_json_schema()["$defs"]
    assert all(one.__doc__ and one.model_json_schema() for one in vocabulary().actions.values())


def test_of_many_rules_few_are_looked_at() -> None:
    many = [
        leaf("from.domain", "in_domain", ["bad{}.example", "*.bad{}.example"]),
        leaf("subject", "contains", "invoice {}"),
        leaf("subject", "matches", "(?:offer|deal) {}"),
        {"all": [leaf("size", "greater", 1), leaf("rcpt", "equals", "u{}@corp.example")]},
        {"any": [leaf("helo", "equals", "h{}.example"), leaf("client.ip", "in_network", "203.0.113.0/24")]},
    ]
    rules = [rule(json.loads(json.dumps(many[n % len(many)]).replace("{}", str(n))), number=n + 1) for n in range(200)]
    compiled = policy(*rules)
    assert compiled.rules.unindexed == ()
    from gateway.policy.rules.evaluate import candidates
    from gateway.policy.rules.view import View

    case = make.case(make.message(subject="Invoice 6", from_="a@sub.bad5.example"))
    assert candidates(compiled.rules, View(case, compiled, compiled.rules.zone, {}, [])) == [5, 6]
