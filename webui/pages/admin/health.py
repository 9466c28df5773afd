"""Is each part well, and what is the one thing to do next? The checks of `/health`, for people."""

from fastapi import APIRouter, Request, Response

from gateway import health, metrics
from webui.page import SYSTEM, Page
from webui.render import page

PAGE = Page("/admin/health", "Health", SYSTEM, "heartbeat")
router = APIRouter()


@router.get(PAGE.path)
def health_page(request: Request) -> Response:
    """Show the checks, failing first, and the processes."""
    settings = request.app.state.settings
    return page(
        request,
        "admin/health.html",
        report=health.report(settings, request.app.state.database),
        processes=metrics.read_snapshots(settings.run_dir),
        stale_seconds=health.STALE_SECONDS,
    )
