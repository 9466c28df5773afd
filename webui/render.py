"""Templates: jinja2 with autoescape on and undefined names as errors, and the filters that pages share."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.mail.reference import reference

TEMPLATES = Path(__file__).parent / "templates"
# The pages' words for stored states (UX: the same six outcomes everywhere): chip, word, glyph.
OUTCOMES = {
    "deliver": ("delivered", "Taken", "✓"),
    "delivered": ("delivered", "Delivered", "✓"),
    "queued": ("deferred", "Waiting", "…"),
    "active": ("deferred", "On its way", "→"),
    "held": ("held", "Held", "‖"),
    "quarantine": ("held", "Held", "‖"),
    "hold_for_sender": ("held", "Held", "‖"),
    "reject": ("refused", "Refused", "✗"),
    "failed": ("refused", "Failed", "✗"),
    "defer": ("deferred", "Deferred", "…"),
    "return": ("returned", "Returned", "↩"),
    "redirect": ("returned", "Redirected", "↪"),
    "discard": ("discarded", "Discarded", "∅"),
    "discarded": ("discarded", "Discarded", "∅"),
    "deleted": ("discarded", "Deleted", "∅"),
}


def size(octets: int) -> str:
    """Return octets as people read them."""
    if octets < 1000:
        return f"{octets} bytes"
    if octets < 1_000_000:
        return f"{octets / 1000:.1f} kB"
    return f"{octets / 1_000_000:.1f} MB"


def instant(moment: datetime) -> str:
    """Return a UTC time to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def outcome(state: str) -> tuple[str, str, str]:
    """Return chip colour name, word and glyph of a stored action or state."""
    return OUTCOMES.get(state, ("off", state, "·"))


ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
ENVIRONMENT.filters.update(size=size, instant=instant, outcome=outcome, reference=reference)


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render one page."""
    html = ENVIRONMENT.get_template(template).render(path=request.url.path, **values)
    return HTMLResponse(html, status_code=status)


def error_page(request: Request, status: int, title: str, text: str) -> HTMLResponse:
    """Say what happened and what to do next."""
    return page(request, "error.html", status=status, title=title, text=text)
