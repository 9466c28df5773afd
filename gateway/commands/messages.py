"""`gatepost messages`: what came in and where it went, newest first; and the refused connections."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import click
import msgspec

from gateway.accepted import State
from gateway.commands.output import emit_json, json_option, limit_option, table, with_database
from gateway.commands.terms import PEER
from gateway.explanation import WOULD, words_of, would_of
from gateway.mail.envelope import Direction
from gateway.mail.reference import reference
from gateway.store import messages as store
from gateway.store import refused, traces
from gateway.store.database import Database
from gateway.verdict import Action


@click.command(
    epilog="""\b
Examples:
  gatepost messages
  gatepost messages --recipient anna@corp.example --hours 24
  gatepost messages --action reject --json
  gatepost messages --refused-sessions
"""
)
@limit_option(50)
@click.option("--hours", type=click.FloatRange(0, 1_000_000, min_open=True), help="Only the last so many hours.")
@click.option("--from", "mail_from", default="", help="Envelope sender: address or domain.")
@click.option("--recipient", default="", help="Address or domain.")
@click.option("--peer", type=PEER, default="", help="IP address that handed it to us.")
@click.option("--search", default="", help="Words in addresses, Subject, Message-ID.")
@click.option("--direction", type=click.Choice([one.value for one in Direction]))
@click.option("--action", type=click.Choice([one.value for one in Action]))
@click.option("--state", type=click.Choice([one.value for one in State]), help="State of a delivery.")
@click.option("--refused-sessions", is_flag=True, help="Show sessions of which something was refused before DATA.")
@json_option
@with_database
def messages(
    database: Database,
    limit: int,
    hours: float | None,
    mail_from: str,
    recipient: str,
    peer: str,
    search: str,
    direction: str | None,
    action: str | None,
    state: str | None,
    refused_sessions: bool,
    as_json: bool,
) -> None:
    """Show messages, newest first.

    What observe mode or shadow kept from happening is told in brackets.
    """
    since = datetime.now(UTC) - timedelta(hours=hours) if hours else None
    if refused_sessions:
        _show_sessions(database, limit, peer, as_json)
        return
    rows = store.recent(
        database,
        limit,
        since=since,
        direction=Direction(direction) if direction else None,
        action=Action(action) if action else None,
        state=State(state) if state else None,
        peer_ip=peer,
        mail_from=mail_from,
        recipient=recipient,
        search=search,
    )
    states = store.states(database, [row.id for row in rows])
    would = {row.id: _would(database, row) for row in rows}
    if as_json:
        emit_json([{**_fields(row), "states": states.get(row.id, []), "would": would[row.id]} for row in rows])
        return
    table(
        ("reference", "time", "from", "to", "subject", "outcome", "reason"),
        [
            (
                reference(row.id),
                row.accepted_at,
                row.author or row.mail_from or "<>",
                row.recipients[0] + (f" and {row.recipient_count - 1} more" if row.recipient_count > 1 else ""),
                row.subject[:50] or "(no subject)",
                _outcome(states.get(row.id, []) or [str(row.action)], would[row.id]),
                words_of(row.reason or (would[row.id] or {}).get("reason", "")) or "-",
            )
            for row in rows
        ],
        empty="Nothing matches.",
    )


def _fields(row: store.MessageRow) -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


def _would(database: Database, row: store.MessageRow) -> dict[str, str] | None:
    """Return what observe mode or shadow kept from happening: the row does not say, its trace does."""
    if row.reason:
        return None
    try:
        trace = traces.load(database, row.id)
    except msgspec.DecodeError:
        return None
    kept = would_of(trace) if trace else None
    return {"action": str(kept[0]), "reason": kept[1]} if kept else None


def _outcome(states: Sequence[str], would: dict[str, str] | None) -> str:
    text = ", ".join(states)
    return f"{text} (would be {WOULD[Action(would['action'])]})" if would else text


def _show_sessions(database: Database, limit: int, peer: str, as_json: bool) -> None:
    rows = refused.sessions(database, limit=limit, peer_ip=peer)
    if as_json:
        emit_json(rows)
        return
    table(
        ("last", "peer", "helo", "refusals", "at", "reason", "reply", "from", "to"),
        [
            (
                row.last_at,
                row.peer_ip,
                row.helo or "-",
                row.refused_count,
                row.stage,
                words_of(row.reason),
                row.reply,
                row.mail_from or "<>",
                row.rcpt_to or "-",
            )
            for row in rows
        ],
        empty="No session was refused anything.",
    )
