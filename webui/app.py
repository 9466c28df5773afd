"""The web process's application: health, metrics, and a read-only look at recent messages with their traces.

There is no sign-in yet, so the pages with mail on them are answered only to a peer on this machine's loopback; health
and metrics, which name no person, are answered to anybody who can reach the port.
"""

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

from gateway.settings import Settings
from gateway.store.database import Database, DatabaseAway
from webui.pages import health
from webui.pages.admin import messages
from webui.render import error_page

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

Next = Callable[[Request], Awaitable[Response]]


def create_app(settings: Settings, database: Database) -> FastAPI:
    """Build the application on an open database."""
    app = FastAPI(title="Gatepost", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.settings = settings
    app.state.database = database
    app.include_router(health.router)
    app.include_router(messages.router)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.add_exception_handler(DatabaseAway, _database_away)
    app.add_exception_handler(404, _not_found)
    app.middleware("http")(_guard)

    @app.get("/", include_in_schema=False)
    def start() -> RedirectResponse:
        return RedirectResponse("/admin/messages", status_code=303)

    return app


async def _guard(request: Request, call_next: Next) -> Response:
    """Keep mail from peers elsewhere, and put the security headers on every answer."""
    path = request.url.path
    if not path.startswith(OPEN_TO_ALL) and not is_local(request):
        response: Response = PlainTextResponse(
            "This page is answered only on this machine until the console has sign-in.\n"
            "Use `gatepost messages` and `gatepost explain`.\n",
            status_code=403,
        )
    else:
        response = await call_next(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if path.startswith("/static/"):
        response.headers["Cache-Control"] = "max-age=3600"
    return response


def is_local(request: Request) -> bool:
    """True when the peer is this machine and no proxy stands between."""
    forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via"))
    if request.client is None or forwarded:
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


async def _database_away(request: Request, _error: Exception) -> Response:
    return error_page(
        request,
        503,
        "The database cannot be reached",
        "Mail goes on with the last good policy; messages are shown again when the database is back.",
    )


async def _not_found(request: Request, _error: Exception) -> Response:
    return error_page(
        request, 404, "There is nothing here", "The address may be cut short, or what was here is past its retention."
    )
