"""How commands answer: tables that align, JSON that is safe to print, and nothing that steers a terminal."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
from click.testing import CliRunner

from gateway.accepted import State
from gateway.commands.failure import Failure
from gateway.commands.output import emit_json, plain, table
from gateway.store import recipients, refused, relay_sources, whitelist
from gateway.store.database import Database
from tests import make
from tests.commands.conftest import Run
from tests.judged import keep
from tests.web.admin.test_connections import session

NOW = datetime.now(UTC)
STEERING = "\x1b[2J\x1b]0;title\x07\x9b31m\r\u202egnp\u200b"
COMMANDS = [
    ["messages"],
    ["messages", "--refused-sessions"],
    ["explain", "AAAA-AAAA"],
    ["queue", "list"],
    ["queue", "summary"],
    ["quarantine", "list"],
    ["whitelist", "list"],
    ["relay", "list"],
    ["recipients", "list"],
    ["policy", "list"],
]


@pytest.fixture
def hostile(database: Database) -> None:
    """Mail, sessions and entries whose every text tries to steer the terminal."""
    raw = make.message(("X-Odd", STEERING), subject=STEERING, from_=f'"{STEERING}" <ann@partner.example>')
    later = {"state": State.QUEUED, "reply": f"450 {STEERING}", "host": STEERING, "due_at": NOW + timedelta(hours=1)}
    case = make.case(raw, session=make.session(helo=STEERING, peer_name=STEERING), now=NOW)
    keep(database, case, results={"bob@corp.example": later}, raw=raw, id="01AAAAAAAAAAAAAAAAAAAAAAAA")
    held = {"state": State.HELD, "reply": f"550 {STEERING}"}
    keep(database, case, results={"bob@corp.example": held}, raw=raw)
    refused.record(database, [session(helo=STEERING, mail_from=STEERING, rcpt_to=STEERING, reply=f"550 {STEERING}")])
    whitelist.add(database, make.partner(id="", owner=STEERING, reason=STEERING), by=STEERING, now=NOW)
    relay_sources.add(database, make.relay_source(id="", owner=STEERING, purpose=STEERING), by=STEERING, now=NOW)
    recipients.add(database, make.known(id="x"), by=STEERING, now=NOW, owner=STEERING, reason=STEERING)


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_control_character_reaches_the_terminal(
    run: Run, hostile: None, command: list[str], form: list[str]
) -> None:
    out = run(*command, *form).stdout
    assert [char for char in out if not char.isprintable() and char != "\n"] == []
    assert len(out) > 100
    if form:
        text = json.dumps(json.loads(out), ensure_ascii=False)
        assert ("\x9b31m" in text) or command[0] in ("policy", "queue")


@pytest.mark.parametrize(
    "command",
    [
        ["explain", STEERING],
        ["whitelist", "end", STEERING],
        ["whitelist", "add", STEERING, "--owner", "ann", "--reason", "none"],
        ["policy", "check", STEERING],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_what_went_wrong_is_printed_safely(run: Run, database: Database, command: list[str]) -> None:
    result = run(*command, status=1)
    assert [char for char in result.stderr if not char.isprintable() and char != "\n"] == []


def shown(action: Any, *arguments: Any, **options: Any) -> str:
    command = click.Command("x", callback=lambda: action(*arguments, **options))
    return CliRunner().invoke(command, catch_exceptions=False).stdout


def test_columns_align_whatever_the_letters_are_as_wide_as() -> None:
    text = shown(table, ("a", "b"), [("価格", 1), ("e\u0301", 2), ("abcdef", 3)], empty="")
    assert text == "a       b\n価格    1\ne\u0301       2\nabcdef  3\n"


def test_an_empty_table_says_so() -> None:
    assert shown(table, ("a",), [], empty="Nothing waits.") == "Nothing waits.\n"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "-"),
        ("", ""),
        (["a", "b"], "a, b"),
        (datetime(2026, 11, 24, 9, 30, tzinfo=UTC), "2026-11-24 09:30"),
        ("two\nlines", "two�lines"),
        (0, "0"),
    ],
)
def test_plain(cell: object, text: str) -> None:
    assert plain(cell) == text


@pytest.mark.parametrize("value", ["\x1b[2J", "\x9b", "\u202e", "\x7f", "Größe 価格", "\U000e0001", 'quote " and \\'])
def test_json_says_the_same_whatever_is_escaped(value: str) -> None:
    text = shown(emit_json, {"text": value, "list": [value]})
    assert json.loads(text) == {"text": value, "list": [value]}
    assert all(char.isprintable() or char == "\n" for char in text)


def test_readable_letters_stay_readable_in_json() -> None:
    assert "Größe 価格" in shown(emit_json, {"text": "Größe 価格"})


def test_a_failure_keeps_its_lines_and_loses_its_controls(capsys: pytest.CaptureFixture[str]) -> None:
    Failure("two\nlines\x1b[2J").show()
    assert capsys.readouterr().err == "gatepost: two\nlines�[2J\n"
