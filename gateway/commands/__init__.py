"""The command line: one file for each subject. Commands speak to database and spool; none needs the web."""

import importlib
from typing import Any

import click

from gateway.commands.failure import Failure
from gateway.settings import SettingsError

# Name -> module and attribute. Loaded when used, so that `gatepost whitelist list` does not import the web.
COMMANDS = {
    "run": "gateway.commands.serve:run",
    "smtp": "gateway.commands.serve:smtp",
    "deliver": "gateway.commands.serve:deliver",
    "schedule": "gateway.commands.serve:schedule",
    "web": "gateway.commands.serve:web",
    "drop": "gateway.commands.serve:drop",
    "migrate": "gateway.commands.migrate:migrate",
    "policy": "gateway.commands.policy:policy",
    "whitelist": "gateway.commands.whitelist:whitelist",
    "key": "gateway.commands.key:key",
    "relay": "gateway.commands.relay:relay",
    "recipients": "gateway.commands.recipients:recipients",
    "explain": "gateway.commands.explain:explain",
    "messages": "gateway.commands.messages:messages",
    "queue": "gateway.commands.queue:queue",
    "quarantine": "gateway.commands.quarantine:quarantine",
    "check": "gateway.commands.check:check",
}


class Commands(click.Group):
    """A group whose members are imported when they are asked for."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        place = COMMANDS.get(name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; wrong settings are told like everything else that stands in its way."""
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise Failure(str(error)) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="gatepost", prog_name="gatepost")
def cli() -> None:
    """Gatepost: an email security gateway.

    \b
    gatepost run                     start everything on the embedded default
    gatepost check                   is each part well, and what to do next
    gatepost messages                what came in, and where it went
    gatepost explain 7KQ2-M9PX       why one message went where it went

    Settings come from GATEPOST_* variables or gatepost.toml; everything else is policy, in the database.
    """


def main() -> None:
    """Run the command line; every failure is told on standard error, with exit status 1 (2 for wrong usage)."""
    cli()
