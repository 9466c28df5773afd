"""The command line as a whole: help, exit status, and that every failure is told in words."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gateway.commands import COMMANDS, cli
from tests.commands.conftest import Run

PROJECT = Path(__file__).resolve().parents[2]


def every_command() -> list[list[str]]:
    """Return the words of every command and sub-command."""
    found: list[list[str]] = []

    def walk(command: click.Command, words: list[str]) -> None:
        found.append(words)
        if isinstance(command, click.Group):
            with click.Context(command) as context:
                for name in command.list_commands(context):
                    inner = command.get_command(context, name)
                    assert inner is not None
                    walk(inner, [*words, name])

    walk(cli, [])
    return found


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_every_command_has_help(run: Run, words: list[str]) -> None:
    text = run(*words, "--help").stdout
    assert text.startswith("Usage: ")
    assert len(text.splitlines()) > 4
    assert run(*words, "-h").stdout == text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_an_example(run: Run, name: str) -> None:
    text = run(name, "--help").stdout
    assert "Example" in text
    assert f"gatepost {name}" in text.partition("Example")[2]


def test_without_a_command_it_shows_them_all(run: Run) -> None:
    text = run(status=None).output
    assert all(name in text for name in COMMANDS)


def test_an_unknown_command_is_wrong_usage(run: Run) -> None:
    assert "No such command 'whitlist'" in run("whitlist", status=2).stderr


@pytest.mark.parametrize("command", [["messages"], ["check"], ["migrate"], ["run"], ["smtp"], ["web"]])
def test_wrong_settings_are_named(run: Run, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setenv("GATEPOST_WORKERS", "many")
    result = run(*command, status=1)
    assert result.stderr == "gatepost: GATEPOST_WORKERS: should be a whole number (it is 'many')\n"
    assert result.stdout == ""


@pytest.mark.parametrize("command", [["messages"], ["check"], ["explain", "7KQ2-M9PX"], ["whitelist", "list"]])
def test_without_a_database_it_says_what_to_do(run: Run, empty: Path, command: list[str]) -> None:
    result = run(*command, status=1)
    assert result.stderr == (
        f"gatepost: there is no database in {empty}; run `gatepost migrate` (or `gatepost run`) first\n"
    )
    assert not empty.exists()


def test_a_database_that_is_away_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEPOST_DATABASE_URL", "postgresql+psycopg://gatepost:hush@127.0.0.1:1/gatepost")
    result = run("messages", status=1)
    assert result.stderr.startswith("gatepost: the database cannot be used: ")
    assert "hush" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_tables_of_another_release_are_told(run: Run, empty: Path) -> None:
    empty.mkdir()
    (empty / "gatepost.db").touch()
    result = run("messages", status=1)
    assert result.stderr == "gatepost: the database's tables are of another release; run `gatepost migrate`\n"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--version"], 0, "gatepost, version "),
        (["messages"], 1, "gatepost: there is no database"),
    ],
)
def test_the_status_reaches_the_shell(tmp_path: Path, arguments: list[str], status: int, says: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GATEPOST_")}
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=PROJECT,
        env={**clean, "GATEPOST_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
