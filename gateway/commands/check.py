"""`gatepost check`: is each part well, and what to do next."""

import sys

import click

from gateway import health
from gateway.commands.output import emit_json, json_option, open_database, plain
from gateway.settings import load_settings


@click.command(epilog="\b\nExample:\n  gatepost check || mail -s 'gateway' admin@corp.example\n")
@json_option
def check(as_json: bool) -> None:
    """Look at processes, disk, database, policy, queue and spool; exit 1 when something needs a person."""
    settings = load_settings()
    database = open_database(settings)
    try:
        report = health.report(settings, database)
    finally:
        database.close()
    if as_json:
        emit_json(report)
    else:
        for one in report.checks:
            click.echo(f"{'ok     ' if one.ok else 'FAILING'}  {one.name:10}  {plain(one.says)}")
            if one.advice and not one.ok:
                click.echo(f"                     {one.advice}")
    sys.exit(0 if report.ok else 1)
