"""The pages in a real browser: nothing is blocked or complained of, nothing scrolls sideways, no script is needed."""

import asyncio
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from gateway import metrics
from gateway.accepted import State
from gateway.policy.document import Document
from gateway.settings import Settings
from gateway.store import policies, refused
from gateway.store.database import Database
from tests import make
from tests.judged import keep
from tests.store.conftest import migrated_file
from tests.store.make import accepted, item, settled, store
from tests.web.admin.test_connections import session
from webui.app import create_app

__all__ = ["migrated_file"]

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")

NOW = datetime.now(UTC)
LONG = "Unbroken" * 40
HOSTILE = "<img src=x onerror=alert(1)>‮\x1b[2J " + LONG
BOB = "bob@corp.example"
WAITS = {"state": State.QUEUED, "reply": f"450 4.2.0 {HOSTILE}", "attempts": 3, "due_at": NOW + timedelta(hours=1)}
# Before each page's own: what the content policy blocks, and what the page would say aloud.
LISTEN = """
window.__blocked = [];
document.addEventListener('securitypolicyviolation', event => __blocked.push(event.violatedDirective));
window.alert = text => __blocked.push('alert ' + text);
"""


class Site:
    """The application with mail of every kind in it, served on a port of its own."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.paths = ["/admin/messages", "/admin/messages/connections", "/admin/health"]
        self.paths += [f"/admin/messages/{id}" for id in fill(settings, database)]
        self.paths += ["/admin/messages?q=nowhere&outcome=refused&hours=24", "/admin/messages/connections?peer=none"]
        self._server = uvicorn.Server(uvicorn.Config(create_app(settings, database), log_config=None, lifespan="off"))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve([self._socket])), daemon=True)

    def __enter__(self) -> "Site":
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        self._socket.close()


def fill(settings: Settings, database: Database) -> list[str]:
    """Leave mail of every kind; return the ids of what has a page worth looking at."""
    policies.publish(database, Document(observe=True), by="ann", comment="", now=NOW)
    strict = make.policy(filters=make.ALL_FILTERS)
    observing = make.policy(filters=make.ALL_FILTERS, observe=True)
    hostile = make.message(("X-Long", HOSTILE), subject=HOSTILE, from_=f'"{HOSTILE}" <ann@bücher.example>')
    from_evil = make.session(helo=HOSTILE, peer_name=HOSTILE)
    two = make.envelope("ann@partner.example", make.recipient("postmaster@corp.example"), make.recipient())
    outgoing = make.message(("X-Mailer", HOSTILE), from_=BOB, message_id="<1@pc7.corp.local>")
    many = [make.recipient(f"{LONG[:40]}{number}@corp.example") for number in range(20)]
    cases: list[tuple[Any, Any, dict[str, Any], bytes]] = [
        (make.case(now=NOW), strict, {}, b""),
        (make.case(now=NOW), observing, {BOB: {}}, b""),
        (
            make.case(hostile, session=from_evil, now=NOW),
            None,
            {BOB: WAITS},
            hostile,
        ),
        (make.case(envelope=two, now=NOW), strict, {"postmaster@corp.example": {}}, b""),
        (make.outbound(outgoing), strict, {}, outgoing),
        (make.case(envelope=make.envelope("", *many), now=NOW), None, {}, b""),
    ]
    ids = [keep(database, case, policy, results=results, raw=raw) for case, policy, results, raw in cases]
    notice = accepted(is_notice=True, reason="notice:failed", subject="Notice (failed): Offer")
    store(database, item(notice, settled(notice, State.DELIVERED)))
    refused.record(
        database, [session(last_at=NOW, started_at=NOW), session(helo=HOSTILE, mail_from=f"{LONG}@x.example")]
    )
    metrics.write_snapshot(settings.run_dir, "smtp-1")
    return [*ids, notice.id]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "gatepost.db").write_bytes(migrated_file.read_bytes())
    settings = Settings(data_dir=folder)
    database = Database(settings.url, data_dir=folder, creates=False)
    with Site(settings, database) as site:
        yield site
    database.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    yield context
    context.close()


def listen(page: Page) -> list[str]:
    """Return the list in which everything is noted that the browser complains of on this page."""
    said: list[str] = []
    page.add_init_script(LISTEN)
    page.on("console", lambda message: said.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"script: {error}"))
    page.on("requestfailed", lambda request: said.append(f"not loaded: {request.url}"))
    page.on("response", lambda answer: said.append(f"{answer.status}: {answer.url}") if answer.status > 399 else None)
    return said


def sideways(page: Page) -> int:
    """Return how far a page scrolls to the side, with all that can be opened open."""
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_every_page_is_in_order(browser: Browser, site: Site, width: int, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    said = listen(page)
    for path in site.paths:
        page.goto(site.url + path, wait_until="networkidle")
        wide = sideways(page)
        assert [*said, *page.evaluate("__blocked")] == [], path
        assert wide == 0, path
    context.close()


@pytest.mark.parametrize("width", [320, 768])
def test_nothing_scrolls_sideways_at_other_widths(browser: Browser, site: Site, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    for path in site.paths:
        page.goto(site.url + path)
        assert sideways(page) == 0, path
    context.close()


def test_both_themes_have_their_own_colours(browser: Browser, site: Site) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(f"{site.url}/admin/health")
        colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert len(colours) == 2


def test_the_menu_opens_on_a_phone_without_any_script(browser: Browser, site: Site) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.url}/admin/messages")
    link = page.get_by_role("navigation", name="Console").get_by_role("link", name="Health")
    assert not link.is_visible()
    page.get_by_role("button", name="Menu").click()
    link.click()
    page.wait_for_url("**/admin/health")
    context.close()


def test_by_keyboard_the_content_comes_first(context: BrowserContext, site: Site) -> None:
    page = context.new_page()
    page.goto(f"{site.url}/admin/messages")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_reference_in_the_search_opens_the_message(context: BrowserContext, site: Site) -> None:
    page = context.new_page()
    page.goto(f"{site.url}/admin/health")
    id = site.paths[3].rpartition("/")[2]
    page.get_by_role("search", name="Everything").get_by_role("searchbox").fill(f"{id[-8:-4]}-{id[-4:]}".lower())
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{site.paths[3]}")
    assert page.get_by_role("heading", level=1).text_content() == "Hello"


def test_a_filter_is_chosen_and_dropped_again(context: BrowserContext, site: Site) -> None:
    page = context.new_page()
    page.goto(f"{site.url}/admin/messages")
    every = page.get_by_role("row").count()
    page.get_by_label("Outcome", exact=True).select_option("Refused")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**outcome=refused**")
    assert page.get_by_role("row").count() == 2  # its head, and the one that was refused
    page.get_by_role("link", name="Drop this filter: outcome Refused").click()
    page.wait_for_url("**/admin/messages")
    assert page.get_by_role("row").count() == every


def test_controls_are_large_enough_for_a_finger(context: BrowserContext, site: Site) -> None:
    page = context.new_page()
    page.goto(f"{site.url}/admin/messages")
    heights = page.evaluate(
        "[...document.querySelectorAll('button, input, select, .tabs a')].filter(one => one.checkVisibility())"
        ".map(one => one.getBoundingClientRect().height)"
    )
    assert min(heights) >= 34
