"""`gatepost recipients`: who exists in our domains, aliases, catch-alls, and lists of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.store import recipients
from gateway.store.database import Database
from tests.commands.conftest import Run

Ask = Callable[..., Any]


def known(database: Database) -> dict[str, str]:
    return {f"{one.entry.local}@{one.entry.domain}": one.entry.target for one in recipients.list_entries(database)}


def test_recipients_aliases_and_catch_alls(run: Run, database: Database) -> None:
    assert run("recipients", "add", "anna@Corp.Example").stdout == "anna@corp.example is known.\n"
    run("recipients", "add", "sales@corp.example", "--target", "anna@corp.example")
    run("recipients", "add", "*@old.example", "--target", "info@corp.example")
    assert known(database) == {
        "anna@corp.example": "",
        "sales@corp.example": "anna@corp.example",
        "*@old.example": "info@corp.example",
    }
    shown = run("recipients", "list", "--search", "sales").stdout
    assert "anna@corp.example" in shown
    assert "old.example" not in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["anna"], "anna: "),
        (["anna@corp example"], "anna@corp example: "),
        (["*@"], "*@: "),
        (["anna@corp.example", "--target", "nobody"], "anna@corp.example: "),
    ],
)
def test_wrong_input_is_named(run: Run, database: Database, arguments: list[str], says: str) -> None:
    assert run("recipients", "add", *arguments, status=1).stderr.startswith(f"gatepost: {says}")
    assert known(database) == {}


def test_a_list_is_imported(run: Run, ask: Ask, database: Database) -> None:
    Path("addresses.txt").write_text("\ufeff# our people\nanna@corp.example\n\nsales@corp.example, anna@corp.example\n")
    assert ask("recipients", "import", "addresses.txt") == {"read": 2, "added": 2}
    assert known(database) == {"anna@corp.example": "", "sales@corp.example": "anna@corp.example"}
    assert run("recipients", "import", "addresses.txt").stdout == "0 of 2 recipients are new.\n"


def test_a_wrong_line_stops_the_whole_import(run: Run, database: Database) -> None:
    result = run("recipients", "import", "-", input="anna@corp.example\nben\nc@corp.example,x y\n", status=1)
    assert [line.strip()[:7] for line in result.stderr.splitlines()] == ["gatepos", "line 2:", "line 3:"]
    assert known(database) == {}


def test_a_recipient_is_removed(run: Run, ask: Ask, database: Database) -> None:
    id = ask("recipients", "add", "anna@corp.example")["id"]
    assert "has ended" in run("recipients", "remove", id).stdout
    assert run("recipients", "list").stdout.startswith("No recipient is known by name")
    assert "no current" in run("recipients", "remove", id, status=1).stderr


def test_a_file_that_is_not_there_is_named(run: Run, database: Database) -> None:
    assert "nowhere.txt: No such file" in run("recipients", "import", "nowhere.txt", status=1).stderr
