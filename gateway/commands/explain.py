"""`gatepost explain REF`: why one message went where it went."""

import click
import msgspec

from gateway.commands.output import emit_json, fail, json_option, plain, with_database
from gateway.explanation import sentence
from gateway.mail.reference import reference
from gateway.store import messages, traces
from gateway.store.database import Database
from gateway.store.messages import DeliveryRow, MessageRow
from gateway.verdict import Action, Finding, Trace


@click.command(epilog="\b\nExample:\n  gatepost explain 7KQ2-M9PX\n")
@click.argument("ref")
@json_option
@with_database
def explain(database: Database, ref: str, as_json: bool) -> None:
    """Show the decision about the message with reference (or id) REF, and everything it rests on."""
    found = messages.find(database, ref)
    if not found:
        fail(f"no message has the reference {ref}: it is unknown, or past its retention")
    if as_json:
        emit_json([_all_of(database, row) for row in found])
        return
    for row in found:
        trace = traces.load(database, row.id)
        click.echo("\n".join(_lines(row, trace, messages.outcomes(database, row.id))))


def _all_of(database: Database, row: MessageRow) -> dict[str, object]:
    trace = traces.load(database, row.id)
    deliveries = messages.outcomes(database, row.id)
    return {
        "message": row,
        "sentence": sentence(row, trace, deliveries),
        "deliveries": deliveries,
        "trace": msgspec.to_builtins(trace, str_keys=True) if trace else None,
    }


def _lines(row: MessageRow, trace: Trace | None, deliveries: list[DeliveryRow]) -> list[str]:
    lines = [
        f"{reference(row.id)}  {plain(row.subject) or '(no subject)'}",
        plain(sentence(row, trace, deliveries)),
        "",
        f"  received   {row.accepted_at:%Y-%m-%d %H:%M:%S} UTC, {row.direction}, {row.size} octets",
        f"  peer       {plain(row.peer_ip)}, HELO {plain(row.helo)}, {plain(row.tls) or 'in clear'}",
        f"  envelope   {plain(row.mail_from) or '<>'} -> {plain(', '.join(row.recipients))}",
        f"  author     {plain(row.author) or 'none'}",
        f"  policy     version {row.policy_version}",
    ]
    if row.source:
        lines.append(f"  source     {plain(row.source)}")
    if trace:
        lines += ["", "Findings", *(f"  {plain(_finding(one))}" for one in trace.findings)]
        if trace.off:
            lines.append(f"  off: {', '.join(trace.off)}")
        if trace.changes:
            lines += ["", "Changes"]
        for change in trace.changes:
            lines += [f"  - {plain(change.before)}"] if change.before is not None else []
            lines += [f"  + {plain(change.after)}"] if change.after is not None else []
    lines += ["", "Deliveries", *(f"  {plain(_delivery(one))}" for one in deliveries)]
    if not deliveries:
        lines.append("  none")
    return lines


def _finding(finding: Finding) -> str:
    effect = "noted" if finding.action is Action.DELIVER else str(finding.action)
    return f"{finding.reason}: {finding.detail} [{effect}{', in shadow' if finding.shadow else ''}]"


def _delivery(delivery: DeliveryRow) -> str:
    tried = f"{delivery.attempts} attempt{'' if delivery.attempts == 1 else 's'}"
    where = f" at {delivery.last_host}" if delivery.last_host else ""
    due = f", next {delivery.due_at:%Y-%m-%d %H:%M} UTC" if delivery.due_at else ""
    return f"{delivery.recipient}: {delivery.state}, {tried}{where}{due}: {delivery.last_reply or 'no reply yet'}"
