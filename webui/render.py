"""Templates: jinja2 with autoescape on and undefined names as errors, and the filters that pages share.

What came with mail is hostile: it is shown as text only, and characters that could hide or turn it around are shown as
what they are.
"""

import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.explanation import WOULD, names, words_of
from gateway.mail.reference import reference
from webui.page import GROUPS, Page

TEMPLATES = Path(__file__).parent / "templates"
# The pages' words for stored states and actions (the same few outcomes everywhere): colour, word, icon.
OUTCOMES = {
    "deliver": ("delivered", "Taken", "check"),
    "delivered": ("delivered", "Delivered", "check"),
    "queued": ("off", "Waiting", "clock"),
    "active": ("off", "On its way", "clock"),
    "held": ("held", "Held", "pause"),
    "quarantine": ("held", "Held", "pause"),
    "hold_for_sender": ("held", "Held", "pause"),
    "reject": ("refused", "Refused", "cross"),
    "failed": ("refused", "Failed", "triangle"),
    "defer": ("deferred", "Deferred", "clock-pause"),
    "return": ("returned", "Returned", "back"),
    "redirect": ("returned", "Redirected", "redirect"),
    "discard": ("discarded", "Discarded", "bin"),
    "discarded": ("discarded", "Discarded", "bin"),
    "deleted": ("discarded", "Deleted", "bin"),
}
WORST_FIRST = ("refused", "held", "deferred", "returned", "off", "discarded", "delivered")
DIRECTIONS = {
    "inbound": "Incoming",
    "outbound": "Outgoing",
    "internal": "Internal",
    "returned": "Back from the second scanner",
}


def size(octets: int) -> str:
    """Return octets as people read them."""
    if octets < 1000:
        return f"{octets} bytes"
    if octets < 1_000_000:
        return f"{octets / 1000:.1f} kB"
    return f"{octets / 1_000_000:.1f} MB"


def instant(moment: datetime) -> str:
    """Return a time in UTC to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def clock(moment: datetime) -> str:
    """Return a time of day in UTC to the millisecond."""
    return moment.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def ago(moment: datetime, now: datetime) -> str:
    """Return a past time as lists show it: by the minute within an hour, then by day and time of day in UTC."""
    moment, now = moment.astimezone(UTC), now.astimezone(UTC)
    age = now - moment
    if timedelta(0) <= age < timedelta(minutes=1):
        return "just now"
    if timedelta(0) <= age < timedelta(hours=1):
        return f"{age.seconds // 60} min ago"
    days = (now.date() - moment.date()).days
    if days in (0, 1):
        return f"{'today' if days == 0 else 'yesterday'} {moment:%H:%M}"
    if 1 < days < 7:
        return f"{moment:%a %H:%M}"
    return f"{moment.day} {moment:%b}" if moment.year == now.year else f"{moment.day} {moment:%b %Y}"


def took(milliseconds: float) -> str:
    """Return a duration as people read it."""
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def outcome(state: str) -> tuple[str, str, str]:
    """Return colour name, word and icon of a stored action or state."""
    return OUTCOMES.get(state, ("off", state, "dot"))


def worst(states: Iterable[str]) -> str:
    """Return the colour name of the worst of some states."""
    return min((outcome(state)[0] for state in states), key=WORST_FIRST.index, default="off")


def visible(text: object) -> str:
    """Return foreign text on one line in which nothing hides: controls and marks of direction are shown as symbols."""
    shown = str(text)
    return shown if shown.isprintable() else "".join(map(_symbol, shown))


def _symbol(char: str) -> str:
    if char.isprintable():
        return char
    if char < " " or char == "\x7f":
        return chr(0x2421 if char == "\x7f" else 0x2400 + ord(char))  # Unicode's pictures of control characters
    if unicodedata.category(char) == "Zs":
        return " "
    return f"[U+{ord(char):04X}]"


def ascii_form(address: object) -> str:
    """Return the other form of an international domain, so that look-alikes show; "" for a plain one."""
    domain = str(address).rpartition("@")[2]
    try:
        if not domain.isascii():
            return domain.encode("idna").decode("ascii")
        if "xn--" in domain:
            return domain.encode("ascii").decode("idna")
    except UnicodeError:
        pass
    return ""


ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
ENVIRONMENT.filters.update(
    size=size,
    instant=instant,
    clock=clock,
    ago=ago,
    took=took,
    from_unix=lambda seconds: datetime.fromtimestamp(seconds, UTC),
    outcome=outcome,
    worst=worst,
    visible=visible,
    ascii_form=ascii_form,
    reference=reference,
    words_of=words_of,
    names=names,
    would_be=WOULD.__getitem__,
    direction=lambda direction: DIRECTIONS.get(str(direction), str(direction)),
)


def sidebar(pages: Iterable[Page]) -> list[tuple[str, list[Page]]]:
    """Return the pages under their headings, headings without a page left out."""
    shown = list(pages)
    groups = [(group, [page for page in shown if page.group == group]) for group in GROUPS]
    return [(group, inside) for group, inside in groups if inside]


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render one page."""
    html = ENVIRONMENT.get_template(template).render(
        path=request.url.path, sidebar=request.app.state.sidebar, now=datetime.now(UTC), **values
    )
    return HTMLResponse(html, status_code=status)


def error_page(request: Request, status: int, title: str, text: str) -> HTMLResponse:
    """Say what happened and what to do next."""
    return page(request, "error.html", status=status, title=title, text=text)
