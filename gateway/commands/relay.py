"""`gatepost relay`: the internal sources that may relay through us."""

from datetime import UTC, datetime

import click

from gateway.commands.output import emit_json, json_option, operator, table, with_database
from gateway.commands.terms import ENTRY_HEADINGS, UNTIL, entry_cells
from gateway.mail.address import domain_of_text
from gateway.mail.errors import Malformed
from gateway.policy.ledger import RelaySource
from gateway.store import relay_sources as store
from gateway.store.database import Database
from gateway.store.networks import written_network
from gateway.store.relay_sources import KINDS


@click.group()
def relay() -> None:
    """Approved relay sources: by address, with owner, purpose and the sender domains they may use.

    \b
    Examples:
      gatepost relay add 10.1.2.3 --owner dora --purpose "order confirmations" --kind application --domain shop.example
      gatepost relay add 10.0.0.0/24 --owner it --purpose Exchange --kind mail_server
      gatepost relay list
    """


@relay.command()
@click.argument("network")
@click.option("--owner", required=True, help="Who answers for the source.")
@click.option("--purpose", required=True, help="What it sends.")
@click.option("--kind", type=click.Choice(KINDS), default="server", show_default=True)
@click.option(
    "--domain",
    "domains",
    multiple=True,
    help="Domain it may use as sender and author; repeat for several. Default: our domains.",
)
@click.option(
    "--any-sender", is_flag=True, help="Any sender and author: for a mail server that forwards or serves lists."
)
@click.option(
    "--max-per-hour", type=click.IntRange(0), default=0, show_default=True, help="Messages an hour; 0: no limit."
)
@click.option("--until", type=UNTIL, help="End of the approval; an expired source counts as unlisted.")
@click.option("--review", type=UNTIL, help="When to look at it again.")
@json_option
@with_database
def add(
    database: Database,
    network: str,
    owner: str,
    purpose: str,
    kind: str,
    domains: tuple[str, ...],
    any_sender: bool,
    max_per_hour: int,
    until: datetime | None,
    review: datetime | None,
    as_json: bool,
) -> None:
    """Approve NETWORK, an address or a CIDR; effective within two seconds.

    The longest prefix that matches a peer decides.
    """
    names = tuple([_domain(domain) for domain in domains])
    try:
        approved = written_network(network)
    except Malformed as error:
        raise Malformed(f"{network}: {error}") from None
    entry = RelaySource("", approved, owner, purpose, kind, names, any_sender, max_per_hour, until, review)
    added = store.add(database, entry, by=operator(), now=datetime.now(UTC))
    if as_json:
        emit_json(added)
    else:
        click.echo(f"{added.network} may relay, entry {added.id}.")


def _domain(text: str) -> str:
    try:
        return domain_of_text(text)
    except ValueError as error:
        raise Malformed(f"{text}: {error}") from None


@relay.command(name="list")
@click.option("--ended", is_flag=True, help="Ended ones as well.")
@json_option
@with_database
def list_(database: Database, ended: bool, as_json: bool) -> None:
    """Show the sources."""
    rows = store.list_entries(database, with_ended=ended, limit=100_000)
    if as_json:
        emit_json(rows)
        return
    table(
        ("network", "kind", "purpose", "may send as", "an hour", *ENTRY_HEADINGS),
        [
            (
                row.entry.network,
                row.entry.kind,
                row.entry.purpose,
                "anybody" if row.entry.any_sender else (row.entry.allowed_domains or "our domains"),
                row.entry.max_per_hour or "no limit",
                *entry_cells(row),
            )
            for row in rows
        ],
        empty="No source may relay.",
    )


@relay.command()
@click.argument("id")
@click.option("--comment", "-m", default="", help="Why.")
@with_database
def end(database: Database, id: str, comment: str) -> None:
    """Take the approval ID back."""
    store.end(database, id, by=operator(), now=datetime.now(UTC), comment=comment)
    click.echo(f"Entry {id} has ended.")


@relay.command()
@click.argument("id")
@click.option("--until", type=UNTIL, help="New end; without it the approval has none.")
@click.option("--review", type=UNTIL)
@click.option("--comment", "-m", default="")
@with_database
def renew(database: Database, id: str, until: datetime | None, review: datetime | None, comment: str) -> None:
    """Give the approval ID another end."""
    entry = store.renew(
        database, id, by=operator(), now=datetime.now(UTC), expires_at=until, review_at=review, comment=comment
    )
    click.echo(
        f"{entry.network} may relay {f'until {entry.expires_at:%Y-%m-%d}' if entry.expires_at else 'without an end'}."
    )
