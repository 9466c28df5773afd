"""How commands answer: tables for people, `--json` for programs, one line on standard error for what went wrong."""

import functools
import getpass
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import click
import msgspec

from gateway.mail.errors import Conflict, Malformed, NotAllowed, NotFound
from gateway.settings import Settings, load_settings
from gateway.store.database import Database, DatabaseAway

json_option = click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")


class Failure(click.ClickException):
    """What a command could not do: exit status 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"gatepost: {self.message}", err=True, file=file)


def fail(text: str) -> NoReturn:
    """End the command with status 1."""
    raise Failure(text)


def with_database(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command an open database as first argument, and turn expected errors into one line and status 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        settings = load_settings()
        database = open_database(settings)
        try:
            return command(database, *args, **kwargs)
        except (Conflict, Malformed, NotAllowed, NotFound) as error:
            fail(str(error))
        except DatabaseAway as error:
            fail(f"the database cannot be used: {error}")
        finally:
            database.close()

    return wrapped


def open_database(settings: Settings) -> Database:
    """Open the database of the settings; nothing is created."""
    if not settings.database_url and not settings.database_file.exists():
        fail(f"there is no database in {settings.data_dir}; run `gatepost migrate` (or `gatepost run`) first")
    return Database(settings.url, data_dir=settings.data_dir, creates=False)


def operator() -> str:
    """Who gives the command, for the audit: the system's user name."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def emit_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode())


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print rows under headings, columns aligned; `empty` when there are none."""
    shown = [[plain(cell) for cell in row] for row in rows]
    if not shown:
        click.echo(empty)
        return
    widths = [max(len(line[column]) for line in [list(headings), *shown]) for column in range(len(headings))]
    for line in [list(headings), *shown]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def plain(cell: Any) -> str:
    """Return a cell as text in which no control character can reach the terminal."""
    if cell is None:
        return "-"
    if isinstance(cell, list | tuple):
        cell = ", ".join(map(str, cell))
    if hasattr(cell, "strftime"):
        cell = cell.strftime("%Y-%m-%d %H:%M")
    return "".join(char if char.isprintable() else "�" for char in str(cell))
