"""`gatepost queue`: what waits, why and for whom; try again, hold, delete, redirect. Each order is audited.

What is held is looked after by `gatepost quarantine`.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from gateway.accepted import State
from gateway.commands.output import emit_json, fail, json_option, limit_option, operator, table, with_database
from gateway.mail.address import parse_mailbox
from gateway.mail.errors import Malformed
from gateway.mail.reference import parse_reference, reference
from gateway.relay import held_mail
from gateway.settings import load_settings
from gateway.store import queue as store
from gateway.store.database import Database
from gateway.store.queue import DeliveryKey, Waiting

PAGE = 500
reason_option = click.option("--reason", "-m", required=True, help="Why, for the audit.")


@click.group()
def queue() -> None:
    """What waits for delivery.

    \b
    Examples:
      gatepost queue list
      gatepost queue retry --domain partner.example --reason "their server is back"
      gatepost queue delete 7KQ2-M9PX --reason "test mail"
      gatepost queue redirect 7KQ2-M9PX --to carl@partner.example --reason "Ann has left"
    """


def selection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which deliveries are meant."""
    command = click.option("--all", "everything", is_flag=True, help="Everything in the queue.")(command)
    command = click.option("--domain", default="", help="All for this recipient domain.")(command)
    return click.argument("references", nargs=-1)(command)


def _chosen(
    database: Database, references: Sequence[str], domain: str, everything: bool, states: Sequence[State]
) -> list[Waiting]:
    """Return what the operator means; end the command when he means nothing or a reference is unknown."""
    if not references and not domain and not everything:
        fail("name references, --domain or --all")
    wanted = {parse_reference(one) for one in references}
    found = [row for row in _all_waiting(database, domain, states) if not wanted or row.ref in wanted]
    missing = wanted - {row.ref for row in found}
    if missing:
        fail(f"not in the queue: {', '.join(map(reference, sorted(missing)))}")
    return found


def _all_waiting(database: Database, domain: str, states: Sequence[State]) -> Iterator[Waiting]:
    after: DeliveryKey | None = None
    while page := store.list_waiting(database, states=states, domain=domain, after=after, limit=PAGE):
        yield from page
        after = page[-1].key


@queue.command(name="list")
@click.option("--domain", default="", help="Only this recipient domain.")
@limit_option(100)
@json_option
@with_database
def list_(database: Database, domain: str, limit: int, as_json: bool) -> None:
    """Show what waits for delivery, oldest first, with the last reply in its own words."""
    rows = store.list_waiting(database, domain=domain, limit=limit)
    if as_json:
        emit_json(rows)
        return
    table(
        ("reference", "recipient", "from", "state", "tries", "next", "last reply"),
        [
            (
                reference(row.ref),
                row.key.recipient,
                row.mail_from or "<>",
                row.state,
                row.attempts,
                row.due_at or "now",
                row.last_reply or "-",
            )
            for row in rows
        ],
        empty="Nothing waits.",
    )


@queue.command()
@json_option
@with_database
def summary(database: Database, as_json: bool) -> None:
    """Show what waits by destination and source."""
    rows = store.depth_by_destination(database)
    if as_json:
        emit_json({"depth": store.depth(database), "destinations": rows})
        return
    depth = store.depth(database)
    click.echo(f"{depth.queued} wait, {depth.active} are on their way, {depth.held} are held.")
    table(
        ("domain", "source", "waiting", "oldest", "next attempt"),
        [(row.domain, row.source or "outside", row.waiting, row.oldest_at, row.next_at or "-") for row in rows],
        empty="Nothing waits.",
    )


@queue.command()
@selection
@reason_option
@json_option
@with_database
def retry(
    database: Database, references: Sequence[str], domain: str, everything: bool, reason: str, as_json: bool
) -> None:
    """Try again now."""
    rows = _chosen(database, references, domain, everything, [State.QUEUED])
    count = store.retry(database, [row.key for row in rows], by=operator(), now=datetime.now(UTC), reason=reason)
    _say(count, "due now", as_json)


@queue.command()
@selection
@reason_option
@json_option
@with_database
def hold(
    database: Database, references: Sequence[str], domain: str, everything: bool, reason: str, as_json: bool
) -> None:
    """Take out of the queue until a person decides."""
    rows = _chosen(database, references, domain, everything, [State.QUEUED, State.ACTIVE])
    count = store.hold(database, [row.key for row in rows], by=operator(), now=datetime.now(UTC), reason=reason)
    _say(count, "held", as_json)


@queue.command()
@selection
@reason_option
@json_option
@with_database
def delete(
    database: Database, references: Sequence[str], domain: str, everything: bool, reason: str, as_json: bool
) -> None:
    """Give up; nobody is told."""
    rows = _chosen(database, references, domain, everything, [State.QUEUED, State.ACTIVE])
    count = store.delete(database, [row.key for row in rows], by=operator(), now=datetime.now(UTC), reason=reason)
    _say(count, "deleted", as_json)


@queue.command()
@selection
@click.option("--to", required=True, help="The address that gets the mail instead.")
@reason_option
@json_option
@with_database
def redirect(
    database: Database, references: Sequence[str], domain: str, everything: bool, to: str, reason: str, as_json: bool
) -> None:
    """Deliver to another address instead. What a judgement holds has to be released first."""
    try:
        address = parse_mailbox(to)
    except Malformed as error:
        fail(f"{to}: {error}")
    rows = _chosen(database, references, domain, everything, [State.QUEUED, State.HELD])
    keys = [row.key for row in rows]
    count = held_mail.redirect(load_settings(), database, keys, address, by=operator(), reason=reason)
    _say(count, f"redirected to {address}", as_json)


def _say(count: int, what: str, as_json: bool) -> None:
    if as_json:
        emit_json({"count": count, "done": what})
    else:
        click.echo(f"{count} {'delivery is' if count == 1 else 'deliveries are'} {what}.")
