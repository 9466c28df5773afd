"""Find any message and its reason: recent ones first, a line of filters, each of which can be taken away again."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from msgspec import Struct

from gateway.accepted import State
from gateway.explanation import would_of
from gateway.mail.envelope import Direction
from gateway.mail.errors import NotFound
from gateway.store import messages, policies, traces
from gateway.store.database import Database
from gateway.store.messages import MessageRow
from gateway.verdict import Action
from webui.page import WATCH, Page
from webui.render import DIRECTIONS, page

PAGE = Page("/admin/messages", "Messages", WATCH, "mail")
PAGE_ROWS = 50
SEARCH_DAYS = 30  # words are looked for in so many days, unless the time is given
MAX_QUERY = 200

router = APIRouter()

# Choice -> what it is called, and what the store is asked for.
OUTCOMES: dict[str, tuple[str, dict[str, Any]]] = {
    "delivered": ("Delivered", {"state": State.DELIVERED}),
    "waiting": ("Waiting", {"state": State.QUEUED}),
    "active": ("On its way", {"state": State.ACTIVE}),
    "held": ("Held", {"state": State.HELD}),
    "refused": ("Refused", {"action": Action.REJECT}),
    "deferred": ("Deferred", {"action": Action.DEFER}),
    "failed": ("Failed", {"state": State.FAILED}),
    "deleted": ("Deleted", {"state": State.DELETED}),
    "discarded": ("Discarded", {"action": Action.DISCARD}),
}
TIMES = {"1": "1 hour", "24": "24 hours", "168": "7 days", "720": "30 days"}


class Chosen(Struct, frozen=True):
    """What the reader looks for; "" where all are meant. Unknown choices are left out, never an error."""

    q: str = ""
    outcome: str = ""
    direction: str = ""
    hours: str = ""

    @property
    def given(self) -> dict[str, str]:
        """The filters in force, by their names in the address."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name))}

    def address(self, **changes: str) -> str:
        """Return the page's address with these filters."""
        values = {**self.given, **changes}
        query = urlencode({name: value for name, value in values.items() if value})
        return f"{PAGE.path}?{query}" if query else PAGE.path

    @property
    def chips(self) -> list[tuple[str, str, str]]:
        """What each filter is called, its value in words, and the address without it."""
        words = {
            "q": ("contains", self.q),
            "outcome": ("outcome", OUTCOMES[self.outcome][0] if self.outcome else ""),
            "direction": ("direction", DIRECTIONS.get(self.direction, "")),
            "hours": ("in the last", TIMES.get(self.hours, "")),
        }
        return [(*words[name], self.address(**{name: ""})) for name in self.given]

    def asked(self, now: datetime) -> dict[str, Any]:
        """Return what the store is asked for."""
        asked: dict[str, Any] = dict(OUTCOMES[self.outcome][1]) if self.outcome else {}
        if self.direction:
            asked["direction"] = Direction(self.direction)
        if self.q:
            asked |= _meant(self.q)
        if self.hours:
            asked["since"] = now - timedelta(hours=int(self.hours))
        elif "search" in asked:
            asked["since"] = now - timedelta(days=SEARCH_DAYS)
        return asked


def _meant(query: str) -> dict[str, Any]:
    """Recognise what is typed: an IP address, else words in addresses, Subject and Message-ID."""
    try:
        return {"peer_ip": str(ip_address(query))}
    except ValueError:
        return {"search": query}


def choose(q: str, outcome: str, direction: str, hours: str) -> Chosen:
    """Read what came with the address."""
    return Chosen(
        " ".join(q.split())[:MAX_QUERY],
        outcome if outcome in OUTCOMES else "",
        direction if direction in DIRECTIONS else "",
        hours if hours in TIMES else "",
    )


@router.get(PAGE.path)
def list_page(
    request: Request,
    q: Annotated[str, Query()] = "",
    outcome: Annotated[str, Query()] = "",
    direction: Annotated[str, Query()] = "",
    hours: Annotated[str, Query()] = "",
    before: Annotated[str, Query()] = "",
) -> Response:
    """List messages, newest first, or what a search finds; a reference leads to its message at once."""
    database = request.app.state.database
    chosen = choose(q, outcome, direction, hours)
    if chosen.given.keys() == {"q"} and len(found := messages.find(database, chosen.q)) == 1:
        return RedirectResponse(f"{PAGE.path}/{found[0].id}", status_code=303)
    now = datetime.now(UTC)
    rows = messages.recent(database, PAGE_ROWS + 1, before or None, **chosen.asked(now))
    shown = rows[:PAGE_ROWS]
    return page(
        request,
        "admin/messages.html",
        rows=shown,
        states=states(database, shown),
        would={row.id: _would(database, row) for row in shown},
        older=chosen.address(before=shown[-1].id) if len(rows) > PAGE_ROWS else "",
        newest=chosen.address() if before else "",
        chosen=chosen,
        near=nearest(database, chosen, now) if not rows else None,
        outcomes={name: words for name, (words, _) in OUTCOMES.items()},
        directions=DIRECTIONS,
        times=TIMES,
        observe=_is_observing(database),
        listeners=request.app.state.settings.listeners,
    )


def states(database: Database, rows: Sequence[MessageRow]) -> dict[str, list[str]]:
    """Return how each message fares: the states of its deliveries, or what was done at the door."""
    found = messages.states(database, [row.id for row in rows])
    return {row.id: [str(state) for state in found.get(row.id, [row.action])] for row in rows}


def _would(database: Database, row: MessageRow) -> tuple[Action, str] | None:
    """Return what observe mode or shadow kept from happening: the row does not say, its trace does."""
    if row.reason or row.is_notice:
        return None
    try:
        trace = traces.load(database, row.id)
    except msgspec.DecodeError:
        return None
    return would_of(trace) if trace else None


def nearest(database: Database, chosen: Chosen, now: datetime) -> tuple[str, str, int] | None:
    """Return the filter to drop when nothing matches: its words, the address without it, and what is found then."""
    best: tuple[str, str, int] | None = None
    for name, (label, words, address) in zip(chosen.given, chosen.chips, strict=True):
        without = msgspec.structs.replace(chosen, **{name: ""})
        count = len(messages.recent(database, PAGE_ROWS + 1, **without.asked(now))) if without.given else 0
        if count and (best is None or count > best[2]):
            best = f"{label} {words}", address, count
    return best


def _is_observing(database: Database) -> bool:
    try:
        return policies.load(database)[1].observe
    except (NotFound, ValueError):
        return False
