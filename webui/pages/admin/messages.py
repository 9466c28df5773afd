"""Recent messages and why each went where it went: read-only."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from gateway.explanation import sentence
from gateway.mail.errors import NotFound
from gateway.store import messages, policies, traces
from gateway.store.database import Database
from gateway.store.messages import MessageRow
from webui.render import error_page, page

PAGE_ROWS = 50
SEARCH_DAYS = 30
MAX_QUERY = 200

router = APIRouter(prefix="/admin/messages")


@router.get("")
def list_page(request: Request, q: str = "", before: str = "") -> Response:
    """List messages, newest first, or what a search finds; a reference leads to its message at once."""
    database = request.app.state.database
    query = q.strip()[:MAX_QUERY]
    if query and len(found := messages.find(database, query)) == 1:
        return RedirectResponse(f"/admin/messages/{found[0].id}", status_code=303)
    rows = search(database, query, before)
    return page(
        request,
        "admin/messages.html",
        rows=rows[:PAGE_ROWS],
        states={row.id: _states(database, row) for row in rows[:PAGE_ROWS]},
        older=rows[PAGE_ROWS - 1].id if len(rows) > PAGE_ROWS else "",
        q=query,
        observe=_is_observing(database),
    )


def search(database: Database, query: str, before: str) -> list[MessageRow]:
    """Return one row more than a page has, so that it is known whether there are older ones."""
    return messages.recent(database, PAGE_ROWS + 1, before or None, **_filter(query))


def _filter(query: str) -> dict[str, Any]:
    """Recognise what is typed: an IP address, else words in addresses, Subject and Message-ID."""
    if not query:
        return {}
    try:
        return {"peer_ip": str(ip_address(query))}
    except ValueError:
        return {"search": query, "since": datetime.now(UTC) - timedelta(days=SEARCH_DAYS)}


def _states(database: Database, row: MessageRow) -> list[str]:
    """Return how the message fares: the states of its deliveries, or what was done at the door."""
    states = sorted({str(delivery.state) for delivery in messages.outcomes(database, row.id)})
    return states or [str(row.action)]


def _is_observing(database: Database) -> bool:
    try:
        return policies.load(database)[1].observe
    except NotFound:
        return False


@router.get("/{id}")
def message_page(request: Request, id: str) -> Response:
    """Show one message with its trace."""
    database = request.app.state.database
    found = messages.find(database, id)
    if not found:
        return error_page(request, 404, "No such message", "The reference is unknown, or past its retention.")
    message = found[0]
    trace = traces.load(database, message.id)
    return page(
        request,
        "admin/message.html",
        message=message,
        trace=trace,
        deliveries=messages.outcomes(database, message.id),
        sentence=sentence(trace, message.action, message.reason),
    )
