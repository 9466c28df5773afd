"""`gatepost recipients`: who exists in our domains."""

from datetime import UTC, datetime

import click

from gateway.commands.output import emit_json, fail, json_option, operator, read_text, table, with_database
from gateway.mail.address import domain_of_text, parse_mailbox
from gateway.mail.errors import Malformed
from gateway.policy.ledger import RecipientEntry
from gateway.store import recipients as store
from gateway.store.database import Database


@click.group()
def recipients() -> None:
    """Known recipients, aliases and catch-alls of our domains.

    \b
    Examples:
      gatepost recipients add anna@corp.example
      gatepost recipients add sales@corp.example --target anna@corp.example
      gatepost recipients add '*@old.example' --target info@corp.example
      gatepost recipients import addresses.txt
    """


def entry_of(address: str, target: str = "") -> RecipientEntry:
    """Make an entry of what was typed; raise Malformed."""
    local, _, domain = address.rpartition("@")
    try:
        if local == "*":
            named, name = "*", domain_of_text(domain)
        else:
            mailbox = parse_mailbox(address)
            named, name = mailbox.local, domain_of_text(mailbox.domain)
        return RecipientEntry("", named, name, str(parse_mailbox(target)) if target else "")
    except ValueError as error:
        raise Malformed(f"{address}: {error}") from None


@recipients.command()
@click.argument("address")
@click.option("--target", default="", help="An alias: mail goes to this address.")
@click.option("--owner", default="")
@click.option("--reason", default="")
@json_option
@with_database
def add(database: Database, address: str, target: str, owner: str, reason: str, as_json: bool) -> None:
    """Make ADDRESS known (`*@DOMAIN`: everything in the domain that nobody else is)."""
    entry = store.add(
        database, entry_of(address, target), by=operator(), now=datetime.now(UTC), owner=owner, reason=reason
    )
    if as_json:
        emit_json(entry)
    else:
        click.echo(f"{entry.local}@{entry.domain} is known{f', mail goes to {entry.target}' if entry.target else ''}.")


@recipients.command(name="list")
@click.option("--search", default="", help="Only addresses that contain this.")
@json_option
@with_database
def list_(database: Database, search: str, as_json: bool) -> None:
    """Show the recipients."""
    rows = store.list_entries(database, search=search, limit=1_000_000)
    if as_json:
        emit_json(rows)
        return
    table(
        ("address", "goes to", "owner", "reason", "since", "id"),
        [
            (
                f"{row.entry.local}@{row.entry.domain}",
                row.entry.target or "itself",
                row.owner,
                row.reason,
                row.created_at,
                row.entry.id,
            )
            for row in rows
        ],
        empty="No recipient is known by name (a domain with any_recipient takes all).",
    )


@recipients.command()
@click.argument("id")
@click.option("--comment", "-m", default="", help="Why.")
@with_database
def remove(database: Database, id: str, comment: str) -> None:
    """Make the recipient of entry ID unknown."""
    store.remove(database, id, by=operator(), now=datetime.now(UTC), comment=comment)
    click.echo(f"Entry {id} has ended.")


@recipients.command(name="import")
@click.argument("file")
@click.option("--reason", default="")
@json_option
@with_database
def import_(database: Database, file: str, reason: str, as_json: bool) -> None:
    """Add recipients from FILE (- for standard input): a line each, ADDRESS or ADDRESS,TARGET.

    Nothing is added when a line is wrong; recipients that are known are left as they are.
    """
    text = read_text(file)
    entries, problems = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        address, _, target = line.partition(",")
        try:
            entries.append(entry_of(address.strip(), target.strip()))
        except Malformed as error:
            problems.append(f"  line {number}: {error}")
    if problems:
        fail(f"{file}: nothing was added\n" + "\n".join(problems))
    count = store.import_many(database, entries, by=operator(), now=datetime.now(UTC), reason=reason)
    if as_json:
        emit_json({"read": len(entries), "added": count})
    else:
        click.echo(f"{count} of {len(entries)} recipients are new.")
