"""How commands answer: tables for people, `--json` for programs, one line on standard error for what went wrong."""

import contextlib
import functools
import getpass
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.commands.failure import Failure, fail
from gateway.mail.errors import Conflict, Malformed, NotAllowed, NotFound
from gateway.settings import Settings, load_settings
from gateway.spool import SpoolFailed, SpoolFull
from gateway.store.database import Database, DatabaseAway

__all__ = [
    "Failure",
    "emit_json",
    "fail",
    "json_option",
    "limit_option",
    "open_database",
    "operator",
    "plain",
    "read_text",
    "table",
    "with_database",
]

json_option = click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")


def limit_option(default: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option that says how many rows are shown."""
    return click.option(
        "--limit", type=click.IntRange(1, 1_000_000), default=default, show_default=True, help="Show at most so many."
    )


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
        except SpoolFull:
            fail(f"there is no room on the disk of {settings.spool} (GATEPOST_MIN_FREE_MB)")
        except SpoolFailed as error:
            fail(f"the spool cannot be written: {error}")
        except click.ClickException:
            raise
        except Exception:
            _fail_if_not_migrated(database)
            raise
        finally:
            database.close()

    return wrapped


def _fail_if_not_migrated(database: Database) -> None:
    """Tell what is behind an error that a table or a column is missing."""
    from gateway.store import schema  # takes a moment to load, and is needed here only

    with contextlib.suppress(DatabaseAway):
        if not schema.is_current(database):
            fail("the database's tables are of another release; run `gatepost migrate`")


def open_database(settings: Settings) -> Database:
    """Open the database of the settings; nothing is created."""
    if not settings.database_url and not settings.database_file.exists():
        fail(f"there is no database in {settings.data_dir}; run `gatepost migrate` (or `gatepost run`) first")
    return Database(settings.url, data_dir=settings.data_dir, creates=False)


def operator() -> str:
    """Who gives the command, for the audit: the system's user name."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def emit_json(value: Any) -> None:
    """Print one JSON document. What could steer a terminal is escaped, which says the same in JSON."""
    text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode()
    click.echo("\n".join(line if line.isprintable() else "".join(map(_escaped, line)) for line in text.split("\n")))


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print rows under headings, columns aligned; `empty` when there are none."""
    shown = [[plain(cell) for cell in row] for row in rows]
    if not shown:
        click.echo(empty)
        return
    lines = [list(headings), *shown]
    widths = [max(_width(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        cells = [cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def _width(text: str) -> int:
    """Return how many columns of a terminal text takes: characters of East Asia take two, marks above others none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def plain(cell: Any) -> str:
    """Return a cell as text on one line in which no control character can reach the terminal."""
    if cell is None:
        return "-"
    if isinstance(cell, list | tuple):
        cell = ", ".join(map(str, cell))
    if hasattr(cell, "strftime"):
        cell = cell.strftime("%Y-%m-%d %H:%M")
    return "".join(char if char.isprintable() else "�" for char in str(cell))


def read_text(file: str) -> str:
    """Return the text of a file, or of standard input for `-`; end the command when it cannot be read."""
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"{file}: is not text in UTF-8")
