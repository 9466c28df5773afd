"""What a command could not do: one line on standard error and exit status 1."""

from typing import Any, NoReturn

import click


class Failure(click.ClickException):
    """What a command could not do. What is told may come from mail: no control character reaches the terminal."""

    def show(self, file: Any = None) -> None:
        click.echo(f"gatepost: {printable(self.message)}", err=True, file=file)


def fail(text: str) -> NoReturn:
    """End the command with status 1."""
    raise Failure(text)


def printable(text: str) -> str:
    """Return text of several lines in which nothing but the line ends steers the terminal."""
    return "\n".join("".join(char if char.isprintable() else "�" for char in line) for line in text.split("\n"))
