"""Who may read which page, and what every answer carries."""

import json

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from gateway import log
from gateway.settings import Settings
from gateway.store.database import Database
from tests.web.conftest import LOCAL
from tests.web.markup import read
from webui.app import HEADERS, create_app

MAIL_PAGES = ["/", "/admin/messages", "/admin/messages/7KQ2-M9PX", "/admin/messages/connections", "/admin/health"]
ALL_PAGES = [*MAIL_PAGES, "/health", "/metrics", "/static/app.css", "/static/nowhere", "/nowhere"]


def asked_from(app: FastAPI, peer: str = "127.0.0.1", base: str = LOCAL) -> TestClient:
    return TestClient(app, base, client=(peer, 50000), raise_server_exceptions=False)


@pytest.fixture
def app(settings: Settings, database: Database) -> FastAPI:
    return create_app(settings, database)


@pytest.mark.parametrize("path", ["/", "/admin"])
def test_the_start_leads_to_the_messages(client: TestClient, path: str) -> None:
    answer = client.get(path, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/messages")


@pytest.mark.parametrize("path", MAIL_PAGES)
@pytest.mark.parametrize("peer", ["192.0.2.7", "10.1.2.3", "2001:db8::1"])
def test_pages_with_mail_are_closed_to_other_machines(app: FastAPI, path: str, peer: str) -> None:
    answer = asked_from(app, peer).get(path)
    assert answer.status_code == 403
    assert "only on this machine" in answer.text
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
def test_pages_with_mail_are_closed_to_who_comes_through_a_proxy(client: TestClient, name: str) -> None:
    assert client.get("/admin/messages", headers={name: "192.0.2.7"}).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "192.0.2.1:8080", "127.0.0.1.evil.example"])
def test_pages_with_mail_are_closed_to_web_sites_whose_name_leads_here(app: FastAPI, host: str) -> None:
    assert asked_from(app, base=f"http://{host}").get("/admin/messages").status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "127.0.0.1"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1"])
def test_pages_with_mail_are_open_to_this_machine(app: FastAPI, host: str, peer: str) -> None:
    assert asked_from(app, peer, f"http://{host}").get("/admin/messages").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/metrics"])
def test_health_and_figures_are_open_to_all(app: FastAPI, path: str) -> None:
    assert asked_from(app, "192.0.2.7", "http://gate.corp.example").get(path).status_code in (200, 503)


@pytest.mark.parametrize("path", ALL_PAGES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "192.0.2.7"])
def test_every_answer_carries_the_security_headers(app: FastAPI, path: str, method: str, peer: str) -> None:
    answer = asked_from(app, peer).request(method, path, follow_redirects=False)
    expected = {**HEADERS, **({"Cache-Control": "max-age=3600"} if answer.headers.get("etag") else {})}
    assert {name: answer.headers.get(name) for name in expected} == expected


def test_the_policy_for_content_allows_no_inline_script_or_style() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")
    for rule in ("frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "script-src 'self'"):
        assert rule in policy


def test_what_is_not_there_says_so_as_a_page(client: TestClient) -> None:
    answer = client.get("/admin/nowhere")
    assert answer.status_code == 404
    assert read(answer.text).headings == ["There is nothing here"]


def test_a_page_cannot_be_posted_to(client: TestClient) -> None:
    answer = client.post("/admin/messages")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert read(answer.text).headings == ["Method Not Allowed"]


def test_there_is_no_description_of_an_interface(client: TestClient) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py"])
def test_only_static_files_are_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/admin/messages", "/admin/messages/7KQ2-M9PX", "/admin/messages/connections"])
def test_while_the_database_is_away_the_pages_say_so(client: TestClient, settings: Settings, path: str) -> None:
    settings.database_file.rename(settings.data_dir / "elsewhere")
    answer = client.get(path)
    assert answer.status_code == 503
    page = read(answer.text)
    assert page.headings == ["The database cannot be reached"]
    assert "Mail goes on" in page.text
    (settings.data_dir / "elsewhere").rename(settings.database_file)
    assert client.get("/admin/messages").status_code == 200


def test_a_page_that_fails_says_so_and_the_log_says_why(app: FastAPI, capsys: pytest.CaptureFixture[str]) -> None:
    @app.get("/admin/broken")
    def broken() -> None:
        raise RuntimeError("a mistake of ours")

    log.configure()
    answer = asked_from(app).get("/admin/broken")
    log.flush()
    assert answer.status_code == 500
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    page = read(answer.text)
    assert page.headings == ["This page failed"]
    assert "mistake" not in answer.text
    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["error"]) == ("page.failed", "RuntimeError: a mistake of ours")
    assert event["reference"] in page.text
