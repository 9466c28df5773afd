"""The web process's application: health, metrics, and a read-only look at recent messages with their traces.

There is no sign-in yet, so the pages with mail on them are answered only to a peer on this machine's loopback that asks
for it by a name of this machine; health and metrics, which name no person, are answered to anybody who can reach the
port.
"""

import contextlib
import secrets
import traceback
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from gateway import log
from gateway.settings import Settings
from gateway.store.database import Database, DatabaseAway
from webui.pages import probes
from webui.pages.admin import connections, health, message, messages
from webui.render import error_page, sidebar

HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
OPEN_TO_ALL = ("/health", "/metrics", "/static/")
LOCAL_ONLY = (
    "This page is answered only on this machine until the console has sign-in.\n"
    "Use `gatepost messages` and `gatepost explain` there, or a tunnel: ssh -L 8080:127.0.0.1:8080 HOST\n"
)

Next = Callable[[Request], Awaitable[Response]]


def create_app(settings: Settings, database: Database) -> FastAPI:
    """Build the application on an open database."""
    app = FastAPI(title="Gatepost", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.settings = settings
    app.state.database = database
    app.state.sidebar = sidebar((messages.PAGE, health.PAGE))
    # One message takes whatever path is left below /admin/messages.
    for module in (probes, health, messages, connections, message):
        app.include_router(module.router)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.add_exception_handler(DatabaseAway, _database_away)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _failed)
    app.middleware("http")(_guard)

    @app.get("/")
    @app.get("/admin")
    def start() -> RedirectResponse:
        return RedirectResponse(messages.PAGE.path, status_code=303)

    return app


async def _guard(request: Request, call_next: Next) -> Response:
    """Keep mail from peers elsewhere, and put the security headers on every answer."""
    if not request.url.path.startswith(OPEN_TO_ALL) and not is_local(request):
        response: Response = PlainTextResponse(LOCAL_ONLY, status_code=403)
    else:
        response = await call_next(request)
    return _secured(request, response)


def _secured(request: Request, response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.url.path.startswith("/static/") and response.status_code == HTTPStatus.OK:
        response.headers["Cache-Control"] = "max-age=3600"
    return response


def is_local(request: Request) -> bool:
    """True when the peer is this machine, no proxy stands between, and it was asked for by a name of this machine.

    The name keeps out web sites that let their own name lead to 127.0.0.1, so that a browser here reads for them (DNS
    rebinding).
    """
    forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via"))
    if request.client is None or forwarded:
        return False
    return _is_loopback(request.client.host) and _is_loopback(request.url.hostname or "")


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


async def _database_away(request: Request, _error: Exception) -> Response:
    return error_page(
        request,
        503,
        "The database cannot be reached",
        "Mail goes on with the last good policy; messages are shown again when the database is back.",
    )


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == HTTPStatus.NOT_FOUND:
        title, text = "There is nothing here", "The address may be cut short, or what was here is past its retention."
    else:
        title, text = HTTPStatus(status).phrase, "This page cannot be asked in that way. Go back and try its links."
    response = error_page(request, status, title, text)
    response.headers.update((error.headers or {}) if isinstance(error, HTTPException) else {})
    return response


async def _failed(request: Request, error: Exception) -> Response:
    """The border of one request: what went wrong is in the log, the reader gets words and what to look for."""
    id = secrets.token_hex(4).upper()
    where = traceback.extract_tb(error.__traceback__)[-1]
    log.error(
        "page.failed",
        reference=f"{id[:4]}-{id[4:]}",
        path=request.url.path,
        error=f"{type(error).__name__}: {error}",
        where=f"{where.name}:{where.lineno}",
    )
    text = f"Mail is not affected. The log says more: look for {id[:4]}-{id[4:]}."
    return _secured(request, error_page(request, 500, "This page failed", text))
