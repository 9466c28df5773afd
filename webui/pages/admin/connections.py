"""Who was refused something before a message: one row for each session, and the peers that came most often."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from gateway.store import refused
from webui.pages.admin.messages import PAGE as MESSAGES
from webui.render import page

PATH = f"{MESSAGES.path}/connections"
PAGE_ROWS = 50
PEERS_SHOWN = 10
PEER_HOURS = 24

router = APIRouter()


@router.get(PATH)
def list_page(request: Request, peer: Annotated[str, Query()] = "", before: Annotated[str, Query()] = "") -> Response:
    """List sessions with a refusal, newest first, of all peers or of one."""
    database = request.app.state.database
    address, wrong = _address(peer.strip())
    rows = [] if wrong else refused.sessions(database, limit=PAGE_ROWS + 1, peer_ip=address, before=_moment(before))
    shown = rows[:PAGE_ROWS]
    since = datetime.now(UTC) - timedelta(hours=PEER_HOURS)
    older = {"peer": address, "before": shown[-1].started_at.isoformat()} if len(rows) > PAGE_ROWS else {}
    return page(
        request,
        "admin/connections.html",
        rows=shown,
        peer=peer.strip(),
        wrong=wrong,
        older=f"{PATH}?{urlencode(older)}" if older else "",
        is_first=not before,
        peers=refused.peers(database, since=since, limit=PEERS_SHOWN) if not peer else [],
        peer_hours=PEER_HOURS,
        href=PATH,
    )


def _address(text: str) -> tuple[str, str]:
    """Return the address as it is stored, and what is wrong with it."""
    if not text:
        return "", ""
    try:
        return str(ip_address(text)), ""
    except ValueError:
        return "", f"Write an IP address, for example 192.0.2.7. “{text[:100]}” is none."


def _moment(text: str) -> datetime | None:
    """Read where the last page ended; what cannot be read begins anew."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
