"""`/health` and `/metrics`, for machines: answered to anybody, so they name no person and no message."""

import msgspec
from fastapi import APIRouter, Request, Response

from gateway import health, metrics

router = APIRouter()


@router.api_route("/health", methods=["GET", "HEAD"])
def health_json(request: Request) -> Response:
    """Return 200 when all is well and 503 otherwise, with every check and its reason."""
    state = request.app.state
    report = health.report(state.settings, state.database)
    return Response(msgspec.json.encode(report), 200 if report.ok else 503, media_type="application/json")


@router.api_route("/metrics", methods=["GET", "HEAD"])
def metrics_text(request: Request) -> Response:
    """Return Prometheus' text form of all processes' figures."""
    shots = metrics.read_snapshots(request.app.state.settings.run_dir)
    return Response(metrics.render(shots), media_type="text/plain; version=0.0.4; charset=utf-8")
