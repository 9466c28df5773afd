"""`gatepost explain REF`: why one message went where it went."""

from collections.abc import Iterator

import click
import msgspec

from gateway.commands.output import emit_json, fail, json_option, plain, with_database
from gateway.explanation import Effect, effect, sentence, timeline
from gateway.mail.errors import NotFound
from gateway.mail.reference import reference
from gateway.store import audit, held, messages, policies, traces
from gateway.store.audit import AuditEntry
from gateway.store.database import Database
from gateway.store.messages import MessageRow
from gateway.verdict import Finding, Trace

MAX_ORDERS = 100  # about one message


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
        for line in _lines(database, row):
            click.echo(plain(line))


def _all_of(database: Database, row: MessageRow) -> dict[str, object]:
    trace, deliveries = _trace(database, row), messages.outcomes(database, row.id)
    return {
        "message": row,
        "sentence": sentence(row, trace, deliveries),
        "deliveries": deliveries,
        "course": timeline(row, trace, deliveries, _portal_url(database, row)),
        "held": held.history(database, row.id),
        "orders": _orders(database, row),
        "trace": msgspec.to_builtins(trace, str_keys=True) if trace else None,
    }


def _trace(database: Database, row: MessageRow) -> Trace | None:
    try:
        return traces.load(database, row.id)
    except msgspec.DecodeError:  # another release wrote it
        return None


def _portal_url(database: Database, row: MessageRow) -> str:
    """Return the portal's address in the policy that judged: it stood in the refusal."""
    try:
        return policies.load(database, row.policy_version)[1].portal_url
    except (NotFound, ValueError):
        return ""


def _lines(database: Database, row: MessageRow) -> Iterator[str]:
    trace, deliveries = _trace(database, row), messages.outcomes(database, row.id)
    yield f"{reference(row.id)}  {row.subject or '(no subject)'}"
    yield sentence(row, trace, deliveries)
    yield ""
    yield f"  received   {row.accepted_at:%Y-%m-%d %H:%M:%S} UTC, {row.direction}, {row.size} octets"
    yield f"  peer       {row.peer_ip}, HELO {row.helo or 'none'}, {row.tls or 'in clear'}"
    yield f"  envelope   {row.mail_from or '<>'} -> {', '.join(row.recipients)}"
    yield f"  author     {row.author or 'none'}"
    yield f"  policy     version {row.policy_version}"
    if row.source:
        yield f"  source     {row.source}"
    if trace:
        yield from _facts(trace)
    yield from _held(database, row)
    yield ""
    yield "What happened (UTC)"
    for step in timeline(row, trace, deliveries, _portal_url(database, row)):
        yield f"  {step.at:%Y-%m-%d %H:%M:%S}  {step.what}{f': {step.said}' if step.said else ''}"


def _orders(database: Database, row: MessageRow) -> list[AuditEntry]:
    """Return what people did with the held mail, oldest first."""
    return audit.entries(database, subject="held item", subject_id=row.id, limit=MAX_ORDERS)[::-1]


def _held(database: Database, row: MessageRow) -> Iterator[str]:
    """Tell what is or was held, and what people did with it."""
    items = held.history(database, row.id)
    if not items:
        return
    yield ""
    yield "Held"
    for item in items:
        end = f", {item.state} {item.closed_at:%Y-%m-%d %H:%M} by {item.closed_by}" if item.closed_at else ""
        yield f"  group {item.group}: {item.kind}, since {item.held_at:%Y-%m-%d %H:%M}{end}"
        for one in item.objections:
            yield f"    {one.reason}: {one.detail}{' (safety floor)' if one.is_floor else ''}"
        if not item.objections and item.reason:
            yield f"    {item.reason}"
    for order in _orders(database, row):
        yield f"  {order.at:%Y-%m-%d %H:%M:%S}  {_order(order)}"


def _order(order: AuditEntry) -> str:
    whom = ", ".join((order.before or {}).get("recipients", ()))
    after = order.after or {}
    told = [f"waived {', '.join(after['waived'])}"] if after.get("waived") else []
    told += [f"policy {after['policy_version']}"] if after.get("policy_version") else []
    told += [f"still held by {one}" for one in after.get("held_by", ())]
    more = f" ({'; '.join(told)})" if told else ""
    return f"{order.action} by {order.by} for {whom}: {order.comment}{more}"


def _facts(trace: Trace) -> Iterator[str]:
    yield ""
    yield "Findings"
    for finding in trace.findings:
        yield f"  {_finding(finding, trace)}"
    if not trace.findings:
        yield "  none"
    if trace.off:
        yield f"  off: {', '.join(trace.off)}"
    if trace.changes:
        yield ""
        yield "Changes"
    for change in trace.changes:
        yield from [f"  - {change.before}"] if change.before is not None else []
        yield from [f"  + {change.after}"] if change.after is not None else []


def _finding(finding: Finding, trace: Trace) -> str:
    """Return one finding, with what it did for each group of recipients that it concerns."""
    effects = dict.fromkeys(_effect(found) for verdict in trace.verdicts if (found := effect(finding, verdict)))
    return f"{finding.reason}: {finding.detail} [{', '.join(effects)}]"


def _effect(found: Effect) -> str:
    done = f" {found.action}" if found.kind in ("decided", "would", "exempted", "agreed") else ""
    return f"{found.kind}{done}"
