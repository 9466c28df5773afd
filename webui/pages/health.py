"""`/health` and `/metrics` for machines, and the health page for people."""

import msgspec
from fastapi import APIRouter, Request, Response

from gateway import health, metrics
from webui.render import page

router = APIRouter()


@router.get("/health")
def health_json(request: Request) -> Response:
    """Return 200 when all is well and 503 otherwise, with every check and its reason."""
    state = request.app.state
    report = health.report(state.settings, state.database)
    return Response(msgspec.json.encode(report), 200 if report.ok else 503, media_type="application/json")


@router.get("/metrics")
def metrics_text(request: Request) -> Response:
    """Return Prometheus' text form of all processes' figures."""
    shots = metrics.read_snapshots(request.app.state.settings.run_dir)
    return Response(metrics.render(shots), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/admin/health")
def health_page(request: Request) -> Response:
    """Show the checks, failing first."""
    state = request.app.state
    return page(request, "admin/health.html", report=health.report(state.settings, state.database))
