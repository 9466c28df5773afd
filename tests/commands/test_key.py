"""`gatepost key`: shown to an operator and audited, changed, added and revoked; lists never hold a key."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.policy.document import Document
from gateway.policy.keys import is_key
from gateway.store import audit, bypass_keys, policies
from gateway.store.database import Database
from tests.commands.conftest import Run

Ask = Callable[..., Any]
PERSONAL = ("--until", "7d", "--owner", "anna")


@pytest.fixture
def classes(database: Database) -> Database:
    document = Document.model_validate(
        {"time_zone": "Europe/Zurich", "key_classes": {"files": {"length": 10}, "single": {"monthly": False}}}
    )
    policies.publish(database, document, by="ann", comment="", now=datetime.now(UTC))
    return database


def actions(database: Database) -> list[str]:
    return [one.action for one in reversed(audit.entries(database, subject="bypass_key"))]


def test_a_rotation_shows_the_new_key_which_is_then_the_months(run: Run, classes: Database) -> None:
    first = run("key", "rotate", "files", "--comment", "at first")
    key = first.stdout.strip()
    assert is_key(key)
    assert len(key) == 10
    assert "at 00:00 (Europe/Zurich)" in first.stderr
    assert run("key", "show", "files").stdout.strip() == key
    assert run("key", "rotate", "files").stdout.strip() != key
    assert actions(classes) == ["add", "rotate", "reveal", "end", "add", "rotate"]


def test_the_list_tells_everything_but_the_keys(run: Run, ask: Ask, classes: Database) -> None:
    assert run("key", "list").stdout == "There are no keys.\n"
    key = run("key", "rotate", "files").stdout.strip()
    made = ask("key", "add", "single", "--recipient", "Bob@corp.example", "--sender", "Partner.Example", *PERSONAL)
    shown = run("key", "list").stdout
    assert "bob@corp.example, from partner.example" in shown
    rows = ask("key", "list")
    assert [(row["key_class"], row["state"]) for row in rows] == [("files", "valid"), ("single", "valid")]
    for secret in (key, made["key"], "digest"):
        assert secret not in shown + str(rows)
    assert [row["id"] for row in ask("key", "list", "--class", "single")] == [made["id"]]


def test_a_personal_key_has_its_limits(ask: Ask, classes: Database) -> None:
    made = ask(
        "key",
        "add",
        "files",
        "--recipient",
        "corp.example",
        "--type",
        ".XLSM",
        "--uses",
        "2",
        "--reason",
        "x",
        *PERSONAL,
    )
    (row,) = bypass_keys.list_entries(classes)
    entry = row.entry
    assert (entry.recipients, entry.types, entry.uses, entry.period) == (("corp.example",), ("xlsm",), 2, "")
    assert (made["id"], row.owner, row.reason) == (entry.id, "anna", "x")


def test_a_revoked_key_is_told_as_such(run: Run, ask: Ask, classes: Database) -> None:
    made = ask("key", "add", "files", *PERSONAL)
    assert "opens nothing any more" in run("key", "revoke", made["id"], "-m", "leaked").stdout
    assert ask("key", "list") == []
    (row,) = ask("key", "list", "--ended")
    assert row["state"] == "revoked"
    assert actions(classes) == ["add", "revoke"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "files"), "no key of the class files for this month"),
        (("show", "none"), "no key class 'none'; there are: files, single"),
        (("rotate", "none"), "no key class"),
        (("rotate", "single"), "has no monthly key"),
        (("add", "none", *PERSONAL), "no key class"),
        (("add", "files", "--sender", "a b@c", *PERSONAL), "a b@c"),
        (("revoke", "01JD"), "no current bypass_key entry 01JD"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    run: Run, classes: Database, arguments: tuple[str, ...], said: str
) -> None:
    assert said in run("key", *arguments, status=1).stderr
    assert bypass_keys.list_entries(classes, with_ended=True) == []
