"""`gatepost whitelist`: the business partners whose mail is admitted, and who may send as us."""

import csv
from datetime import UTC, datetime, timedelta

import click

from gateway.commands.output import emit_json, fail, json_option, operator, read_text, table, with_database
from gateway.commands.terms import ENTRY_HEADINGS, UNTIL, entry_cells
from gateway.mail.address import domain_of_text, parse_mailbox
from gateway.mail.errors import Malformed
from gateway.policy.ledger import Identity, Proof, SendsAsUs, WhitelistEntry
from gateway.store import conversations, policies, sends_as_us
from gateway.store import whitelist as store
from gateway.store.database import Database
from gateway.store.networks import written_network

WEAK = "WEAK (none)"  # The proof "none" is shown as weak wherever it stands.
COLUMNS = ("value", "owner", "reason", "networks", "until")


@click.group()
def whitelist() -> None:
    """Admitted business domains and addresses: each with owner, reason, proof and end.

    \b
    Examples:
      gatepost whitelist add northwind.example --owner anna --reason supplier --network 192.0.2.0/24
      gatepost whitelist add treuhand.example --owner ben --reason "tax adviser" --proof none --until 90d
      gatepost whitelist suggest --days 30
      gatepost whitelist end 01JD…
    """


def entry_of(
    value: str,
    *,
    owner: str,
    reason: str,
    envelope: bool = False,
    subdomains: bool = False,
    proof: str = "",
    networks: tuple[str, ...] = (),
    until: datetime | None = None,
    review: datetime | None = None,
) -> WhitelistEntry:
    """Make an entry of what was typed; raise Malformed naming what is wrong."""
    for name, said in (("value", value), ("owner", owner), ("reason", reason)):
        if not said.strip():
            raise Malformed(f"the {name} is missing")
    is_address = "@" in value
    try:
        shown = str(parse_mailbox(value)).lower() if is_address else domain_of_text(value)
    except ValueError as error:
        raise Malformed(f"{value}: {error}") from None
    pinned = tuple([_network(network) for network in networks])
    identities = {
        (False, False): Identity.AUTHOR_DOMAIN,
        (False, True): Identity.AUTHOR_ADDRESS,
        (True, False): Identity.ENVELOPE_DOMAIN,
        (True, True): Identity.ENVELOPE_ADDRESS,
    }
    meant = Proof(proof) if proof else (Proof.PINNED_ADDRESS if networks else Proof.NONE)
    if (meant is Proof.PINNED_ADDRESS) is not bool(networks):
        raise Malformed("the proof pinned_address goes with --network, and --network with pinned_address")
    return WhitelistEntry(
        "", identities[envelope, is_address], shown, subdomains, meant, pinned, owner, reason, until, review
    )


def _network(text: str) -> str:
    try:
        return written_network(text)
    except Malformed as error:
        raise Malformed(f"{text}: {error}") from None


@whitelist.command()
@click.argument("value")
@click.option("--owner", required=True, help="Who answers for the entry.")
@click.option("--reason", required=True, help="What the business is.")
@click.option(
    "--network", "networks", multiple=True, help="Pinned address: CIDR that the partner sends from; repeat for several."
)
@click.option(
    "--proof",
    type=click.Choice([proof.value for proof in Proof]),
    help="Default: pinned_address with --network, else none (weak).",
)
@click.option("--envelope", is_flag=True, help="VALUE names the envelope sender, not the author.")
@click.option("--subdomains", is_flag=True, help="Admit sub-domains as well.")
@click.option("--until", type=UNTIL, help="End of the entry.")
@click.option("--review", type=UNTIL, help="When to look at it again.")
@json_option
@with_database
def add(
    database: Database,
    value: str,
    owner: str,
    reason: str,
    networks: tuple[str, ...],
    proof: str | None,
    envelope: bool,
    subdomains: bool,
    until: datetime | None,
    review: datetime | None,
    as_json: bool,
) -> None:
    """Admit VALUE, a domain or an address; effective within two seconds."""
    entry = entry_of(
        value,
        owner=owner,
        reason=reason,
        envelope=envelope,
        subdomains=subdomains,
        proof=proof or "",
        networks=networks,
        until=until,
        review=review,
    )
    added = store.add(database, entry, by=operator(), now=datetime.now(UTC))
    if as_json:
        emit_json(added)
        return
    click.echo(f"{added.value} is admitted ({added.identity}), entry {added.id}.")
    if added.proof is Proof.NONE:
        click.echo(
            "Its proof is weak: anybody can write such a sender address. "
            "Pin the partner's networks with --network when you can.",
            err=True,
        )


@whitelist.command(name="list")
@click.option("--search", default="", help="Only entries that contain this.")
@click.option("--ended", is_flag=True, help="Ended ones as well.")
@json_option
@with_database
def list_(database: Database, search: str, ended: bool, as_json: bool) -> None:
    """Show the entries."""
    rows = store.list_entries(database, search=search, with_ended=ended, limit=100_000)
    if as_json:
        emit_json(rows)
        return
    table(
        ("admitted", "as", "proof", *ENTRY_HEADINGS),
        [
            (
                row.entry.value + (" and sub-domains" if row.entry.subdomains else ""),
                row.entry.identity,
                WEAK if row.entry.proof is Proof.NONE else f"{row.entry.proof} {', '.join(row.entry.networks)}",
                *entry_cells(row),
            )
            for row in rows
        ],
        empty="No exceptions: everything unknown is refused.",
    )


@whitelist.command()
@click.argument("id")
@click.option("--comment", "-m", default="", help="Why.")
@with_database
def end(database: Database, id: str, comment: str) -> None:
    """End the entry ID; it is kept as ended."""
    store.end(database, id, by=operator(), now=datetime.now(UTC), comment=comment)
    click.echo(f"Entry {id} has ended.")


@whitelist.command()
@click.argument("id")
@click.option("--until", type=UNTIL, help="New end; without it the entry has none.")
@click.option("--review", type=UNTIL)
@click.option("--comment", "-m", default="")
@with_database
def renew(database: Database, id: str, until: datetime | None, review: datetime | None, comment: str) -> None:
    """Give the entry ID another end."""
    entry = store.renew(
        database, id, by=operator(), now=datetime.now(UTC), expires_at=until, review_at=review, comment=comment
    )
    click.echo(
        f"{entry.value} is admitted {f'until {entry.expires_at:%Y-%m-%d}' if entry.expires_at else 'without an end'}."
    )


@whitelist.command(name="import")
@click.argument("file")
@json_option
@with_database
def import_(database: Database, file: str, as_json: bool) -> None:
    """Add entries from a CSV FILE (- for standard input) with the columns value, owner, reason, networks, until.

    Networks are separated by spaces. Nothing is added when a line is wrong; entries that exist are left as they are.
    """
    new = _read_csv(file)
    count = store.import_many(database, new, by=operator(), now=datetime.now(UTC))
    if as_json:
        emit_json({"read": len(new), "added": count})
    else:
        click.echo(f"{count} of {len(new)} entries are new.")


def _read_csv(file: str) -> list[WhitelistEntry]:
    reader = csv.DictReader(read_text(file).splitlines(), restval="")
    try:
        missing = [name for name in COLUMNS[:3] if name not in (reader.fieldnames or ())]
        if missing:
            fail(f"{file}: the first line should name the columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}")
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        fail(f"{file}: line {reader.line_num}: {error}")
    entries, problems = [], []
    for number, row in rows:
        try:
            entries.append(_entry_of_row(row))
        except (Malformed, click.BadParameter) as error:
            problems.append(f"  line {number}: {error}")
    if problems:
        fail(f"{file}: nothing was added\n" + "\n".join(problems))
    return entries


def _entry_of_row(row: dict[str, str]) -> WhitelistEntry:
    until, networks = row.get("until", "").strip(), row.get("networks", "").split()
    return entry_of(
        row["value"].strip(),
        owner=row["owner"].strip(),
        reason=row["reason"].strip(),
        networks=tuple(networks),
        until=UNTIL.convert(until, None, None) if until else None,
    )


@whitelist.command()
@click.option("--days", type=click.IntRange(1, 36500), default=30, show_default=True, help="How far back.")
@click.option(
    "--least", type=click.IntRange(1), default=1, show_default=True, help="Messages written to the domain, at least."
)
@json_option
@with_database
def suggest(database: Database, days: int, least: int, as_json: bool) -> None:
    """List the domains that the company writes to and has not admitted: the learning mode of the whitelist."""
    partners = conversations.partners(database, datetime.now(UTC) - timedelta(days=days))
    known = {row.entry.value for row in store.list_entries(database, limit=100_000)}
    _version, document = policies.load(database)
    rows = [
        partner
        for partner in partners
        if partner.messages >= least and partner.domain not in known and partner.domain not in document.domains
    ]
    if as_json:
        emit_json(rows)
        return
    table(
        ("domain", "addresses", "messages", "last written to"),
        [(row.domain, row.addresses, row.messages, row.last_at) for row in rows],
        empty=f"Nobody outside the whitelist was written to in {days} days.",
    )


@whitelist.group()
def ourselves() -> None:
    """Who may send as us from outside: the proof for our own domains.

    \b
    Example:
      gatepost whitelist ourselves add corp.example --network 198.51.100.7/32 --owner ben --reason "newsletter service"
    """


@ourselves.command(name="add")
@click.argument("domain")
@click.option("--network", "networks", multiple=True, required=True, help="CIDR; repeat for several.")
@click.option("--owner", required=True)
@click.option("--reason", required=True)
@click.option("--until", type=UNTIL)
@json_option
@with_database
def add_ourselves(
    database: Database,
    domain: str,
    networks: tuple[str, ...],
    owner: str,
    reason: str,
    until: datetime | None,
    as_json: bool,
) -> None:
    """Let a host outside send in the name of our DOMAIN."""
    try:
        name = domain_of_text(domain)
    except ValueError as error:
        fail(f"{domain}: {error}")
    pinned = tuple([_network(network) for network in networks])
    entry = sends_as_us.add(
        database, SendsAsUs("", name, pinned, owner, reason, until), by=operator(), now=datetime.now(UTC)
    )
    if as_json:
        emit_json(entry)
    else:
        click.echo(f"{', '.join(entry.networks)} may send as {entry.domain}, entry {entry.id}.")


@ourselves.command(name="list")
@json_option
@with_database
def list_ourselves(database: Database, as_json: bool) -> None:
    """Show who may send as us."""
    rows = sends_as_us.list_entries(database)
    if as_json:
        emit_json(rows)
        return
    table(
        ("domain", "networks", *ENTRY_HEADINGS),
        [(row.entry.domain, row.entry.networks, *entry_cells(row)) for row in rows],
        empty="Nobody outside may send as us.",
    )


@ourselves.command(name="end")
@click.argument("id")
@click.option("--comment", "-m", default="")
@with_database
def end_ourselves(database: Database, id: str, comment: str) -> None:
    """End the entry ID."""
    sends_as_us.end(database, id, by=operator(), now=datetime.now(UTC), comment=comment)
    click.echo(f"Entry {id} has ended.")
