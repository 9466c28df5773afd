"""`gatepost run` and the processes that it is made of."""

import functools
import importlib
import sys
from collections.abc import Callable, Sequence

import click

from gateway import log, metrics
from gateway.commands.migrate import prepare
from gateway.commands.output import fail
from gateway.filters import registry
from gateway.inspection.box import zygote
from gateway.inspection.box.channel import Channel
from gateway.inspection.box.crashes import CrashTable
from gateway.mail.errors import Malformed, NotAllowed, NotFound
from gateway.masterkey import load_master_key
from gateway.relay import processes
from gateway.relay.admission import AdmissionTable
from gateway.relay.client import client_context
from gateway.relay.current import NoPolicy
from gateway.relay.processes import Role
from gateway.relay.sockets import Bound, bind
from gateway.settings import Settings, load_settings
from gateway.store.database import DatabaseAway

PROCESS_MODULES = (
    "gateway.relay.deliver_worker",
    "gateway.relay.drop",
    "gateway.relay.schedule_worker",
    "gateway.commands.web_server",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.lifespan.off",
)


def _checked_settings() -> Settings:
    settings = load_settings()
    log.configure(settings.log_level)
    try:
        load_master_key(settings.master_key)
    except NotFound as error:
        fail(f"GATEPOST_MASTER_KEY_FILE: {error}; run `gatepost migrate` first")
    except (Malformed, NotAllowed) as error:
        fail(f"GATEPOST_MASTER_KEY_FILE: {error}")
    except OSError as error:
        fail(f"GATEPOST_MASTER_KEY_FILE: {settings.master_key}: {error.strerror}")
    return settings


def _process(name: str, work: Callable[[Settings], None]) -> None:
    """Run one process in the foreground, as a service manager wants it."""
    settings = _checked_settings()
    log.configure(settings.log_level, name)
    log.info("process.started")
    try:
        work(settings)
    except NoPolicy as error:
        fail(str(error))
    log.info("process.stopped")


@click.command(
    epilog="""\b
Examples:
  gatepost run
  GATEPOST_DATA_DIR=/srv/gatepost GATEPOST_WORKERS=4 gatepost run
"""
)
def run() -> None:
    """Start everything: SMTP workers, delivery, schedule, web and the built-in mail drop.

    Prepares the data directory, keys and database first, so it works in an empty folder. Ends on Ctrl-C, finishing
    what is open.
    """
    settings = load_settings()
    log.configure(settings.log_level)
    _prepare(settings)
    listeners = _bind_listeners(settings)
    web_socket = bind("GATEPOST_WEB_BIND", settings.web_bind, 1)
    drop_socket = bind("GATEPOST_DROP_BIND", settings.drop_bind, 1)
    roles = [
        *smtp_roles(settings, listeners),
        Role("deliver", functools.partial(_deliver, settings)),
        Role("schedule", functools.partial(_schedule, settings)),
        Role("web", functools.partial(_web, settings, web_socket)),
        Role("drop", functools.partial(_drop, settings, drop_socket), drop_socket.sockets[0]),
    ]
    metrics.sweep_snapshots(settings.run_dir)
    _make_shared()
    greeting = functools.partial(_greet, settings, [*listeners, web_socket, drop_socket])
    sys.exit(processes.supervise(roles, log_level=settings.log_level, on_started=greeting))


def _make_shared() -> None:
    """Load what the processes need before they are forked: they share those pages of memory."""
    for name in PROCESS_MODULES:
        importlib.import_module(name)
    _make_relay_shared()


def _make_relay_shared() -> None:
    registry()
    client_context()  # OpenSSL's tables: 3 MB


def _prepare(settings: Settings) -> None:
    """Migrate where that can be done; while the database is away the last good policy may do."""
    if not settings.database_url and settings.policy_file.exists() and not settings.database_file.exists():
        # A disk that is not mounted, say. A new database would begin with the starter policy, which refuses nobody.
        log.warning("database.away", error=f"{settings.database_file} is gone; `gatepost migrate` would make a new one")
        return
    try:
        prepare(settings)
    except DatabaseAway as error:
        if not settings.policy_file.exists():
            fail(f"the database cannot be used ({error}) and there is no last good policy to go on with")
        log.warning("database.away", error=str(error))
    except NotFound as error:
        fail(f"{error}; was it migrated by a newer release?")


def _bind_listeners(settings: Settings) -> list[Bound]:
    return [bind(f"GATEPOST_LISTENERS ({one.kind})", one.address, settings.workers) for one in settings.listeners]


def smtp_roles(settings: Settings, listeners: Sequence[Bound]) -> list[Role]:
    """Return the roles of the box, in which hostile files are opened, and of each SMTP worker."""
    from gateway.relay import smtp_worker

    channel = Channel()
    shared = smtp_worker.Shared(AdmissionTable(settings.workers), channel, CrashTable())
    workers = [
        Role(f"smtp-{number + 1}", functools.partial(smtp_worker.run, settings, number, listeners, shared))
        for number in range(settings.workers)
    ]
    # Where nothing asks for a look into messages the box costs no memory: it begins with the first request.
    return [Role("box", functools.partial(zygote.become, channel), channel.zygote_end), *workers]


def _greet(settings: Settings, bound: Sequence[Bound]) -> None:
    """Say in a few lines what listens where and what to do next."""
    *smtp, web_socket, drop_socket = bound
    lines = ["Gatepost is running."]
    for setting, one in zip(settings.listeners, smtp, strict=True):
        lines.append(f"  SMTP {setting.kind:9} {one.address}")
    lines += [
        f"  Web            http://{web_socket.address}/",
        f"  Mail drop      {drop_socket.address}, Maildir {settings.drop}",
        f"  Data           {settings.data_dir}",
        "Next: `make demo` sends thirty messages; `gatepost messages` shows what came of them;",
        "`gatepost policy export` prints the policy.",
    ]
    click.echo("\n".join(lines))
    sys.stdout.flush()


def _deliver(settings: Settings) -> None:
    from gateway.relay import deliver_worker

    deliver_worker.run(settings)


def _schedule(settings: Settings) -> None:
    from gateway.relay import schedule_worker

    schedule_worker.run(settings)


def _web(settings: Settings, bound: Bound) -> None:
    from gateway.commands import web_server

    web_server.run(settings, bound.sockets[0])


def _drop(settings: Settings, bound: Bound) -> None:
    from gateway.relay import drop as mail_drop
    from gateway.relay.stopping import run_loop

    run_loop(mail_drop.serve(settings.drop, bound.sockets[0]), settings.loop)


@click.command(epilog="\b\nExample:\n  GATEPOST_WORKERS=4 gatepost smtp\n")
def smtp() -> None:
    """Run the SMTP workers alone (GATEPOST_WORKERS of them on the same ports)."""
    settings = _checked_settings()
    listeners = _bind_listeners(settings)
    roles = smtp_roles(settings, listeners)
    metrics.sweep_snapshots(settings.run_dir, "smtp-")  # of workers beyond today's number
    _make_relay_shared()
    sys.exit(processes.supervise(roles, log_level=settings.log_level))


@click.command(epilog="\b\nExample:\n  gatepost deliver\n")
def deliver() -> None:
    """Run the queue: later attempts, notifications, and what dead processes left."""
    _process("deliver", _deliver)


@click.command(epilog="\b\nExample:\n  gatepost schedule\n")
def schedule() -> None:
    """Run the scheduled work: retention, held mail, expiry. Leased, so once in a cluster."""
    _process("schedule", _schedule)


@click.command(epilog="\b\nExample:\n  GATEPOST_WEB_BIND=127.0.0.1:8080 gatepost web\n")
@click.option(
    "--surface", type=click.Choice(["admin"]), default="admin", show_default=True, help="Which surface to serve."
)
def web(surface: str) -> None:
    """Run the web process: health, metrics and the read-only pages."""
    del surface  # There is one so far.

    def work(settings: Settings) -> None:
        _web(settings, bind("GATEPOST_WEB_BIND", settings.web_bind, 1))

    _process("web", work)


@click.command(epilog="\b\nExample:\n  GATEPOST_DROP_BIND=127.0.0.1:2580 gatepost drop\n")
def drop() -> None:
    """Run the built-in mail drop: an SMTP server that files everything into a Maildir."""

    def work(settings: Settings) -> None:
        _drop(settings, bind("GATEPOST_DROP_BIND", settings.drop_bind, 1))

    settings = load_settings()
    log.configure(settings.log_level, "drop")
    work(settings)
