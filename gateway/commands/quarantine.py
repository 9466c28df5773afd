"""`gatepost quarantine`: what is held for a person, and what he does with it. Each order is audited."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.commands.output import emit_json, fail, json_option, limit_option, operator, plain, table, with_database
from gateway.mail.address import Address, parse_mailbox
from gateway.mail.errors import Conflict, Malformed, NotAllowed, NotFound
from gateway.mail.reference import reference
from gateway.policy.document import Retention
from gateway.relay.held_mail import read_item
from gateway.relay.release import Outcome, Releases
from gateway.settings import load_settings
from gateway.store import held, messages, policies, retention
from gateway.store.database import Database
from gateway.store.held import HeldItem

reason_option = click.option("--reason", "-m", required=True, help="Why, for the audit.")
to_option = click.option("--to", "recipients", multiple=True, help="Only for this recipient; may be given repeatedly.")
references = click.argument("references", nargs=-1, required=True)


@click.group()
def quarantine() -> None:
    """What is held for a person.

    \b
    Examples:
      gatepost quarantine list --kind business_only
      gatepost quarantine show 7KQ2-M9PX
      gatepost quarantine release 7KQ2-M9PX --reason "expected by Anna"
      gatepost quarantine release 7KQ2-M9PX --waive business_only:unknown-sender --to anna@corp.example -m "hers"
      gatepost quarantine delete 7KQ2-M9PX 3FHT-0A2B --reason "spam"
      gatepost quarantine export 7KQ2-M9PX --output message.eml --reason "for the vendor"
    """


@quarantine.command(name="list")
@click.option("--kind", default="", help="Only this kind, e.g. undeliverable.")
@click.option("--to", default="", help="Only what is held for this recipient.")
@limit_option(100)
@json_option
@with_database
def list_(database: Database, kind: str, to: str, limit: int, as_json: bool) -> None:
    """Show what is held, newest first."""
    items = held.list_items(database, kind=kind, recipient=str(_address(to)) if to else "", limit=limit)
    keeps = _retention(database)
    if as_json:
        emit_json([_told(item, keeps) for item in items])
        return
    table(
        ("reference", "held", "until", "kind", "author", "recipients", "subject", "reasons"),
        [
            (
                reference(item.message_id),
                item.held_at,
                _until(item, keeps),
                item.kind,
                item.author or item.mail_from or "<>",
                item.recipients,
                item.subject or "(no subject)",
                _reasons(item),
            )
            for item in items
        ],
        empty="Nothing is held.",
    )


@quarantine.command()
@references
@json_option
@with_database
def show(database: Database, references: Sequence[str], as_json: bool) -> None:
    """Show all that is known of items, but not the message: that is `export`, and audited."""
    items = _chosen(database, references)
    keeps = _retention(database)
    if as_json:
        emit_json([_told(item, keeps) for item in items])
        return
    for item in items:
        click.echo(f"{reference(item.message_id)}  {plain(item.subject or '(no subject)')}")
        click.echo(f"  held       {item.held_at:%Y-%m-%d %H:%M} UTC, until {_until(item, keeps):%Y-%m-%d %H:%M}")
        click.echo(f"  kind       {item.kind}")
        click.echo(f"  author     {plain(item.author or 'none')}")
        click.echo(f"  from       {plain(item.mail_from or '<>')}")
        click.echo(f"  for        {plain(item.recipients)}")
        click.echo(f"  size       {item.size} octets")
        if not item.objections:
            click.echo(f"  reason     {plain(item.reason)}")
        for one in item.objections:
            floor = " (safety floor: no release opens it)" if one.is_floor else ""
            click.echo(f"  reason     {one.reason}: {plain(one.detail)}{floor}")


@quarantine.command()
@references
@click.option(
    "--waive", multiple=True, help="Waive this reason only; may be given repeatedly. Else all that are shown."
)
@to_option
@reason_option
@json_option
@with_database
def release(
    database: Database,
    references: Sequence[str],
    waive: Sequence[str],
    recipients: Sequence[str],
    reason: str,
    as_json: bool,
) -> None:
    """Judge again without the waived reasons, and deliver what nothing else holds."""
    items = _chosen(database, references)
    to = [_address(one) for one in recipients] or None
    with Releases(load_settings(), database) as releases:

        def let_go(item: HeldItem) -> Outcome:
            return releases.release(item, by=operator(), reason=reason, waived=waive or None, recipients=to)

        _tell(items, let_go, as_json)


@quarantine.command()
@references
@reason_option
@json_option
@with_database
def judge(database: Database, references: Sequence[str], reason: str, as_json: bool) -> None:
    """Judge again with today's policy, and note what objects now. Releases nothing."""
    items = _chosen(database, references)
    with Releases(load_settings(), database) as releases:
        _tell(items, lambda item: releases.judge_again(item, by=operator(), reason=reason), as_json, keeps_all=True)


@quarantine.command()
@references
@to_option
@reason_option
@json_option
@with_database
def delete(
    database: Database, references: Sequence[str], recipients: Sequence[str], reason: str, as_json: bool
) -> None:
    """Give up what is held; nobody is told."""
    items = _chosen(database, references)
    to = [_address(one) for one in recipients] or None
    now = datetime.now(UTC)
    count = sum(
        held.delete(database, one.message_id, one.group, by=operator(), now=now, reason=reason, recipients=to)
        for one in items
    )
    _say(count, "deleted", as_json)


@quarantine.command()
@click.argument("ref")
@click.option("--group", type=int, help="Which group, when a message is held for several.")
@click.option("--output", "-o", default="-", show_default=True, help="The file to write; - is standard output.")
@reason_option
@with_database
def export(database: Database, ref: str, group: int | None, output: str, reason: str) -> None:
    """Write the message itself, as it was received. It may be dangerous; who took it is written down first."""
    items = [item for item in _chosen(database, [ref]) if group in (None, item.group)]
    if len(items) != 1:
        fail(f"{ref} is held in the groups {', '.join(str(one.group) for one in _chosen(database, [ref]))}: name one")
    (item,) = items
    _accepted, body = read_item(load_settings(), item)
    held.note_view(database, item, by=operator(), now=datetime.now(UTC), reason=reason)
    if output == "-":
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
        return
    try:
        _write_new(Path(output), body)
    except OSError as error:
        fail(f"{output}: {error.strerror}")
    click.echo(f"{len(body)} octets are in {output}.")


@quarantine.command()
@json_option
@with_database
def expire(database: Database, as_json: bool) -> None:
    """Give up now what is past its retention; the schedule does so every hour."""
    count = retention.expire_held(database, _retention(database), datetime.now(UTC))
    if as_json:
        emit_json({"count": count, "done": "expired"})
    else:
        click.echo(f"{count} {'item has' if count == 1 else 'items have'} expired.")


# -- what is meant, and what is said


def _chosen(database: Database, refs: Sequence[str]) -> list[HeldItem]:
    """Return the items that wait under these references or ids; end the command when one is not held."""
    items: dict[tuple[str, int], HeldItem] = {}
    missing: list[str] = []
    for ref in refs:
        rows = messages.find(database, ref)
        found = [item for row in rows for item in held.of_message(database, row.id)]
        if not found:
            past = [item for row in rows for item in held.history(database, row.id)]
            how = ", ".join(f"{item.state} by {item.closed_by}" for item in past)
            missing.append(f"{ref} ({how})" if how else ref)
        items |= {(item.message_id, item.group): item for item in found}
    if missing:
        fail(f"not held: {', '.join(missing)}")
    return list(items.values())


def _address(text: str) -> Address:
    try:
        return parse_mailbox(text)
    except Malformed as error:
        fail(f"{text}: {error}")


def _retention(database: Database) -> Retention:
    return policies.load(database)[1].retention


def _until(item: HeldItem, keeps: Retention) -> datetime:
    days = keeps.held_days_by_kind.get(item.kind, keeps.held_days)
    return item.expires_at or item.held_at + timedelta(days=days)


def _reasons(item: HeldItem) -> str:
    return ", ".join(dict.fromkeys(one.reason for one in item.objections)) or item.reason


def _told(item: HeldItem, keeps: Retention) -> dict[str, Any]:
    return {**msgspec.structs.asdict(item), "until": _until(item, keeps)}


def _tell(
    items: Sequence[HeldItem], order: Callable[[HeldItem], Outcome], as_json: bool, *, keeps_all: bool = False
) -> None:
    """Carry an order out on each item; one that cannot be leaves the others alone. Status 1 unless all went through."""
    done: list[Outcome] = []
    failed: list[str] = []
    for item in items:
        with _noted(failed, item):
            outcome = order(item)
            done.append(outcome)
            if not as_json:
                nothing = f"{reference(item.message_id)}: nothing objects any more"
                click.echo(plain(outcome.words if outcome.released or outcome.kept else nothing))
    if as_json:
        emit_json({"done": done, "failed": failed})
    elif failed:
        click.echo("\n".join(f"gatepost: {one}" for one in failed), err=True)
    if failed or (not keeps_all and any(one.kept for one in done)):
        sys.exit(1)


@contextlib.contextmanager
def _noted(failed: list[str], item: HeldItem) -> Iterator[None]:
    try:
        yield
    except (Conflict, Malformed, NotAllowed, NotFound) as error:
        failed.append(f"{reference(item.message_id)}: {error}")


def _write_new(path: Path, body: bytes) -> None:
    """Write a file that only we can read; one that is there is left alone."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(body)


def _say(count: int, what: str, as_json: bool) -> None:
    if as_json:
        emit_json({"count": count, "done": what})
    else:
        click.echo(f"{count} {'delivery is' if count == 1 else 'deliveries are'} {what}.")
