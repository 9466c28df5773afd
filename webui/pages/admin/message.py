"""Why did this message go where it went? The decision in a sentence, what each filter saw, and what happened."""

from collections.abc import Sequence

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import Struct

from gateway.explanation import Effect, clauses, effect, timeline
from gateway.mail.errors import NotFound
from gateway.store import ledger, messages, policies, traces
from gateway.store.database import Database
from gateway.store.messages import MessageRow
from gateway.verdict import Change, Finding, KeyUseQuestion, SentMessageQuestion, Trace, Unknown
from webui.pages.admin.messages import PAGE
from webui.render import error_page, page

router = APIRouter()


class Row(Struct, frozen=True):
    """One finding, and what it did for each group of recipients (None: it is not about them)."""

    finding: Finding
    effects: tuple[Effect | None, ...]
    entry: str  # the ledger entry that it rests on, in words


@router.get(PAGE.path + "/{id}")
def message_page(request: Request, id: str) -> Response:
    """Show one message with its trace."""
    database = request.app.state.database
    found = messages.find(database, id)
    if not found:
        return error_page(request, 404, "No such message", "The reference is unknown, or past its retention.")
    message = found[0]
    trace, is_readable = _load(database, message)
    deliveries = messages.outcomes(database, message.id)
    return page(
        request,
        "admin/message.html",
        message=message,
        others=found[1:],
        trace=trace,
        is_readable=is_readable,
        deliveries=deliveries,
        clauses=clauses(message, trace, deliveries),
        steps=timeline(message, trace, deliveries, _portal_url(database, message)),
        findings=rows_of(database, trace) if trace else [],
        unknown=unknown_of(trace) if trace else [],
        changes=changes_of(trace.changes) if trace else [],
        source=entry_words(database, message.source),
    )


def _load(database: Database, message: MessageRow) -> tuple[Trace | None, bool]:
    """Return the trace, and whether what is kept can be read: another release may have written it."""
    try:
        return traces.load(database, message.id), True
    except msgspec.DecodeError:
        return None, False


def _portal_url(database: Database, message: MessageRow) -> str:
    """Return the portal's address in the policy that judged: it stood in the refusal."""
    try:
        return policies.load(database, message.policy_version)[1].portal_url
    except (NotFound, ValueError):
        return ""


def rows_of(database: Database, trace: Trace) -> list[Row]:
    """Return the findings: the one that decided first, then what was kept from deciding, then the rest."""
    rows = [
        Row(
            finding,
            tuple(effect(finding, verdict) for verdict in trace.verdicts),
            entry_words(database, finding.entry),
        )
        for finding in trace.findings
    ]
    return sorted(rows, key=lambda row: min((one.rank for one in row.effects if one), default=99))


def entry_words(database: Database, id: str) -> str:
    """Return what a ledger entry is about and who answers for it; "" for none and for one that nobody knows."""
    found = ledger.find(database, id) if id else None
    if found is None:
        return ""
    entry = found.entry
    about = next((str(value) for name in ("network", "value", "domain") if (value := getattr(entry, name, ""))), id)
    reason = found.reason or getattr(entry, "purpose", "")
    ended = f", ended {found.ended_at:%Y-%m-%d}" if found.ended_at else ""
    return f"{about}, owned by {found.owner or 'nobody'}{f': {reason}' if reason else ''}{ended}"


def unknown_of(trace: Trace) -> list[tuple[str, str]]:
    """Return what was not answered or not asked, and why."""
    asked = [
        (_asked(question), f"Unknown: {answer.why}")
        for question, answer in trace.answers
        if isinstance(answer, Unknown)
    ]
    return [*asked, *((name, "Off in this policy") for name in trace.off)]


def _asked(question: object) -> str:
    if isinstance(question, SentMessageQuestion):
        return f"Did we send {', '.join(question.message_ids)}?"
    if isinstance(question, KeyUseQuestion):
        return f"Has the bypass key {question.entry} uses left?"
    return str(question)


def changes_of(changes: Sequence[Change]) -> list[tuple[tuple[str, ...], list[Change]]]:
    """Return the changed header lines by the recipients that they were made for."""
    groups: dict[tuple[str, ...], list[Change]] = {}
    for change in changes:
        groups.setdefault(tuple(map(str, change.recipients)), []).append(change)
    return list(groups.items())
