"""`gatepost check`: is each part well, and what to do next."""

import sys

import click

from gateway import health
from gateway.commands.output import emit_json, json_option, open_database, plain
from gateway.health import Check, Report
from gateway.inspection.box import sandbox
from gateway.settings import load_settings


@click.command(epilog="\b\nExample:\n  gatepost check || mail -s 'gateway' admin@corp.example\n")
@json_option
def check(as_json: bool) -> None:
    """Look at processes, disk, database, policy, queue and spool; exit 1 when something needs a person."""
    settings = load_settings()
    box = _box()  # It forks: before any thread.
    database = open_database(settings)
    try:
        found = health.report(settings, database)
        report = Report(found.ok and box.ok, tuple(sorted((*found.checks, box), key=lambda check: check.ok)))
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


def _box() -> Check:
    """Which layers hold what parses hostile files, for whoever runs this command on this machine."""
    layers = sandbox.layers()
    missing = [name for name in sandbox.LAYERS if name not in layers]
    says = f"held by {', '.join(layers) or 'nothing'}" + (f"; not here: {', '.join(missing)}" if missing else "")
    return Check(
        "box",
        "seccomp" in layers or "landlock" in layers,
        says,
        "Hostile files are opened behind limits alone: use a kernel with seccomp or Landlock, and allow both.",
    )
