"""`gatepost policy`: out, checked, in force, back; every wrong field is named before anything changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.policy.document import Document
from gateway.store import audit, policies
from gateway.store.database import Database
from tests.commands.conftest import Run

Ask = Callable[..., Any]

GOOD = {"company": "Corp", "domains": {"corp.example": {"any_recipient": True}}}


def write(document: object) -> str:
    Path("policy.yaml").write_text(yaml.safe_dump(document))
    return "policy.yaml"


def test_what_is_exported_can_be_published(run: Run, database: Database) -> None:
    Path("policy.yaml").write_text(run("policy", "export").stdout)
    assert run("policy", "check", "policy.yaml").stdout == "policy.yaml: fine\n"
    assert run("policy", "publish", "policy.yaml", "-m", "again").stdout == "Version 2 is published.\n"
    assert policies.load(database, 2)[1] == policies.load(database, 1)[1]


def test_export_as_json_and_of_an_old_version(run: Run, ask: Ask, database: Database) -> None:
    run("policy", "publish", write(GOOD))
    assert ask("policy", "export")["company"] == "Corp"
    assert Document.model_validate(ask("policy", "export", "--version", "1")) == policies.load(database, 1)[1]


def test_publishing_is_written_down(run: Run, ask: Ask, database: Database) -> None:
    assert ask("policy", "publish", write(GOOD), "--comment", "open for all") == {"version": 2, "observe": False}
    [entry] = audit.entries(database, subject="policy", limit=1)
    assert (entry.action, entry.comment) == ("publish", "open for all")
    assert entry.by != ""
    newest, first = ask("policy", "list")
    assert (newest["version"], newest["state"], newest["comment"]) == (2, "published", "open for all")
    assert first["state"] == "superseded"
    assert "open for all" in run("policy", "list").stdout


def test_a_document_may_come_from_standard_input(run: Run, database: Database) -> None:
    run("policy", "publish", "-", input=json.dumps(GOOD))
    assert policies.load(database)[1].company == "Corp"
    assert run("policy", "import", "-", input=json.dumps(GOOD)).stdout == "Version 3 is published.\n"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"domains": {"corp.example": {"any_recipient": "perhaps"}}}, "domains.corp.example.any_recipient: "),
        ({"domians": {}}, "domians: "),
        ({"limits": {"recipients": 3}}, "limits.recipients: Input should be greater than or equal to 100"),
        ({"inbound_route": "nowhere"}, "inbound_route: "),
        ({"filters": {"no_such_filter": {}}}, "filters.no_such_filter"),
        ({"filters": {"loop": {"options": {"max_received": 3}}}}, "filters.loop.options.max_received: "),
        ({"routes": {"x": {"hops": [{"host": "a b"}]}}}, "routes.x.hops.0.host: "),
        ([], "should be a mapping of sections"),
        ("x", "should be a mapping of sections"),
    ],
)
@pytest.mark.parametrize("command", ["check", "publish"])
def test_a_wrong_field_is_named_and_nothing_changes(
    run: Run, database: Database, command: str, document: object, says: str
) -> None:
    result = run("policy", command, write(document), status=1)
    assert says in result.stderr
    assert policies.load(database)[0] == 1


def test_all_wrong_fields_are_named_at_once(run: Run) -> None:
    result = run("policy", "check", write({"domians": {}, "limits": {"errors": 0, "commands": 0}}), status=1)
    lines = result.stderr.splitlines()
    assert lines[0] == "gatepost: policy.yaml is not a policy:"
    named = sorted(line.partition(":")[0].strip() for line in lines[1:])
    assert named == ["domians", "limits.commands", "limits.errors"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"a: [", "policy.yaml: not YAML: "), (b"\xff\xfe", "policy.yaml: is not text in UTF-8")],
)
def test_what_is_no_document_is_told(run: Run, empty: Path, content: bytes, says: str) -> None:
    Path("policy.yaml").write_bytes(content)
    assert says in run("policy", "check", "policy.yaml", status=1).stderr


def test_a_file_that_is_not_there_is_named(run: Run) -> None:
    assert run("policy", "check", "nowhere.yaml", status=1).stderr == (
        "gatepost: nowhere.yaml: No such file or directory\n"
    )


def test_yaml_runs_no_code(run: Run, empty: Path) -> None:
    Path("policy.yaml").write_text("company: !!python/object/apply:os.system ['touch pwned']\n")
    assert "not YAML" in run("policy", "check", "policy.yaml", status=1).stderr
    assert not Path("pwned").exists()


def test_an_old_version_comes_back_as_a_new_one(run: Run, ask: Ask, database: Database) -> None:
    run("policy", "publish", write(GOOD))
    assert run("policy", "rollback", "1").stdout == "Version 3 is published.\n"
    assert policies.load(database, 3)[1] == policies.load(database, 1)[1]
    assert run("policy", "rollback", "77", status=1).stderr == "gatepost: policy version 77\n"
    assert "Invalid value for 'VERSION'" in run("policy", "rollback", "first", status=2).stderr


def test_observe_mode_goes_on_and_off(run: Run, ask: Ask, database: Database) -> None:
    assert run("policy", "observe").stdout == "Version 2 is published in observe mode.\n"
    assert policies.load(database)[1].observe is True
    assert ask("policy", "observe", "--off") == {"version": 3, "observe": False}
    assert policies.load(database)[1].model_copy(update={"observe": False}) == policies.load(database, 1)[1]


def test_before_any_policy_it_says_so(run: Run, settings: object) -> None:
    assert "no policy was published yet" in run("policy", "export", status=1).stderr
    assert run("policy", "list").stdout == "Nothing was published yet.\n"


RULES = [
    {
        "number": 12,
        "section": "deny",
        "mode": "enforce",
        "when": {"all": [{"field": "subject", "op": "contains", "value": "lottery"}]},
        "actions": [{"do": "reject", "category": "business"}],
        "examples": [{"expect": "match", "message": "Subject: Lottery\n\nWin.\n"}, {"expect": "no_match"}],
    }
]


def test_rules_go_out_and_come_back_as_yaml(run: Run, database: Database) -> None:
    run("policy", "import", write({**GOOD, "rules": RULES}))
    exported = run("policy", "export").stdout
    assert yaml.safe_load(exported)["rules"][0]["when"] == RULES[0]["when"]
    Path("again.yaml").write_text(exported)
    run("policy", "import", "again.yaml")
    assert policies.load(database, 3)[1] == policies.load(database, 2)[1]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"examples": [{"expect": "match"}]},
            "rules.0.examples.0: example of rule 12 should be match, and is no_match",
        ),
        ({"when": {"all": [{"field": "size", "op": "greater", "value": "x"}]}}, "rules.0.when.all.0.value: "),
        ({"actions": [{"do": "redirect"}]}, "rules.0.actions.0.do: no such action"),
    ],
)
def test_a_rule_that_is_wrong_is_not_published(
    run: Run, database: Database, changed: dict[str, Any], says: str
) -> None:
    done = run("policy", "publish", write({**GOOD, "rules": [{**RULES[0], **changed}]}), status=1)
    assert says in done.stderr
    assert policies.load(database)[0] == 1
