"""`gatepost key`: the bypass keys that open the gateway from a Subject. Whoever is shown one stands in the audit."""

from datetime import UTC, datetime

import click

from gateway.commands.output import emit_json, fail, json_option, operator, table, with_database
from gateway.commands.terms import UNTIL
from gateway.mail.address import domain_of_text, parse_mailbox
from gateway.masterkey import load_master_key
from gateway.policy.document import Document
from gateway.policy.keys import BypassKey, KeyState, monthly_key, state_of
from gateway.policy.periods import period_of, zone_of
from gateway.settings import load_settings
from gateway.store import bypass_keys, policies
from gateway.store.bypass_keys import KeySecrets, Revealed
from gateway.store.database import Database
from gateway.store.entries import Listed

HEADINGS = ("class", "for", "state", "from", "until", "uses", "last used", "opened", "id")


@click.group()
def key() -> None:
    """Bypass keys: the monthly one of each class, and personal ones.

    \b
    Examples:
      gatepost key show files
      gatepost key add files --recipient bob@corp.example --sender partner.example --uses 1 --until 7d --owner anna
      gatepost key rotate files --comment "was forwarded to a list"
      gatepost key revoke 01JD…
    """


def _sealing() -> KeySecrets:
    return KeySecrets(load_master_key(load_settings().master_key))


def _document(database: Database, key_class: str) -> Document:
    _version, document = policies.load(database)
    if key_class not in document.key_classes:
        there = ", ".join(sorted(document.key_classes)) or "none"
        fail(f"the policy has no key class {key_class!r}; there are: {there}")
    return document


@key.command()
@click.argument("key_class")
@json_option
@with_database
def show(database: Database, key_class: str, as_json: bool) -> None:
    """Show the key of KEY_CLASS for this month. It is audited that you were shown it."""
    document, now = _document(database, key_class), datetime.now(UTC)
    for row in bypass_keys.list_entries(database, key_class=key_class, limit=100_000):
        if row.entry.period and state_of(row.entry, document.key_classes, now) is KeyState.VALID:
            _tell(bypass_keys.reveal(database, _sealing(), row.entry.id, by=operator(), now=now), document, as_json)
            return
    fail(f"there is no key of the class {key_class} for this month; the scheduler makes it, or `gatepost key rotate`")


def _tell(revealed: Revealed, document: Document, as_json: bool) -> None:
    if as_json:
        emit_json({"key": revealed.key, **_as_row(revealed.entry)})
        return
    click.echo(revealed.key)
    ends = revealed.entry.expires_at
    if ends is not None:
        local = ends.astimezone(zone_of(document.time_zone))
        click.echo(f"It changes on {local:%Y-%m-%d at %H:%M} ({document.time_zone}).", err=True)


def _as_row(entry: BypassKey) -> dict[str, object]:
    """Return what is told of a key: all but its hash."""
    return {name: getattr(entry, name) for name in entry.__struct_fields__ if name != "digest"}


@key.command(name="list")
@click.option("--class", "key_class", default="", help="Only keys of this class.")
@click.option("--ended", is_flag=True, help="Revoked ones as well.")
@json_option
@with_database
def list_(database: Database, key_class: str, ended: bool, as_json: bool) -> None:
    """List the keys, without what they are."""
    _version, document = policies.load(database)
    rows = bypass_keys.list_entries(database, key_class=key_class, with_ended=ended, limit=100_000)
    now = datetime.now(UTC)
    if as_json:
        emit_json(
            [{**_as_row(row.entry), "state": _state(row, document, now), "opened": row.use_count} for row in rows]
        )
        return
    table(HEADINGS, [_cells(row, document, now) for row in rows], empty="There are no keys.")


def _state(row: Listed[BypassKey], document: Document, now: datetime) -> str:
    return "revoked" if row.ended_at else state_of(row.entry, document.key_classes, now)


def _cells(row: Listed[BypassKey], document: Document, now: datetime) -> tuple[object, ...]:
    entry = row.entry
    whom = entry.period or ", ".join((*entry.recipients, *(f"from {one}" for one in entry.senders))) or "anybody"
    limit = entry.uses or "no limit"
    state = _state(row, document, now)
    used = row.last_used_at or "never"
    return (entry.key_class, whom, state, entry.valid_from, entry.expires_at, limit, used, row.use_count, entry.id)


@key.command()
@click.argument("key_class")
@click.option("--recipient", "recipients", multiple=True, help="Our address or domain that it opens for; repeatable.")
@click.option("--sender", "senders", multiple=True, help="Author address or domain that may use it; repeatable.")
@click.option("--type", "types", multiple=True, help="Ending of file names that it is for, e.g. xlsm; repeatable.")
@click.option("--uses", type=click.IntRange(0, 1_000_000), default=0, help="How often it opens; 0: without limit.")
@click.option("--until", type=UNTIL, required=True, help="End of the key.")
@click.option("--owner", required=True, help="Who answers for it.")
@click.option("--reason", default="", help="What it is for.")
@json_option
@with_database
def add(
    database: Database,
    key_class: str,
    recipients: tuple[str, ...],
    senders: tuple[str, ...],
    types: tuple[str, ...],
    uses: int,
    until: datetime,
    owner: str,
    reason: str,
    as_json: bool,
) -> None:
    """Make a personal key of KEY_CLASS and show it, this once without `show`."""
    document, now = _document(database, key_class), datetime.now(UTC)
    entry = BypassKey(
        id="",
        key_class=key_class,
        digest="",
        length=document.key_classes[key_class].length,
        valid_from=now,
        expires_at=until,
        uses=uses,
        recipients=tuple(map(_party, recipients)),
        senders=tuple(map(_party, senders)),
        types=tuple([one.lower().removeprefix(".") for one in types]),
        owner=owner,
        reason=reason,
    )
    _tell(bypass_keys.add(database, _sealing(), entry, by=operator(), now=now), document, as_json)


def _party(text: str) -> str:
    try:
        return parse_mailbox(text).key if "@" in text else domain_of_text(text)
    except ValueError as error:
        fail(f"{text}: {error}")


@key.command()
@click.argument("key_class")
@click.option("--comment", "-m", default="", help="Why.")
@json_option
@with_database
def rotate(database: Database, key_class: str, comment: str, as_json: bool) -> None:
    """Change the key of KEY_CLASS now: the ones before, and any made ahead, open nothing from now on, without grace."""
    document, now = _document(database, key_class), datetime.now(UTC)
    if not document.key_classes[key_class].monthly:
        fail(f"the class {key_class} has no monthly key; `gatepost key revoke` ends a personal one")
    zone = zone_of(document.time_zone)
    entry = monthly_key(key_class, document.key_classes[key_class], period_of(now, zone), zone, since=now)
    _tell(bypass_keys.rotate(database, _sealing(), entry, by=operator(), now=now, comment=comment), document, as_json)


@key.command()
@click.argument("id")
@click.option("--comment", "-m", default="", help="Why.")
@with_database
def revoke(database: Database, id: str, comment: str) -> None:
    """End the key ID now. A monthly one is made again by the scheduler; `rotate` changes it at once."""
    bypass_keys.revoke(database, id, by=operator(), now=datetime.now(UTC), comment=comment)
    click.echo(f"The key {id} opens nothing any more.")
