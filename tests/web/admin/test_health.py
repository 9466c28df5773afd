"""The health page: failing checks first, with what to do; and the processes."""

from fastapi.testclient import TestClient

from gateway import metrics
from gateway.settings import Settings
from gateway.store.database import Database
from tests.web.markup import read
from tests.web.test_probes import alive

__all__ = ["alive"]


def test_when_all_is_well_it_says_so(client: TestClient, alive: None) -> None:
    page = read(client.get("/admin/health").text)
    assert page.title == "Health · Gatepost"
    assert "All is well." in page.text
    assert "Failing" not in page.text
    for process in ("smtp-1", "smtp-2", "deliver", "schedule", "web"):
        assert f"{process} pid" in page.text


def test_a_failing_check_is_first_and_says_what_to_do(client: TestClient, settings: Settings, alive: None) -> None:
    metrics.remove_snapshot(settings.run_dir, "deliver")
    page = read(client.get("/admin/health").text)
    assert page.title == "Health: 1 failing · Gatepost"
    assert (
        "1 of 8 checks fails. Deliver: no deliver process runs here: what waits is not tried again. Start gatepost run"
        in page.text
    )
    assert page.text.index("Deliver Failing no deliver process runs here") < page.text.index("Well")


def test_the_page_stands_while_the_database_is_away(client: TestClient, settings: Settings, alive: None) -> None:
    settings.database_file.rename(settings.data_dir / "elsewhere")
    answer = client.get("/admin/health")
    assert answer.status_code == 200
    page = read(answer.text)
    assert "Database Failing cannot be used" in page.text
    assert "bring the database back" in page.text


def test_before_anything_runs_it_says_how_to_start(client: TestClient, database: Database) -> None:
    page = read(client.get("/admin/health").text)
    assert "None is running here." in page.text
    assert "Start gatepost run or gatepost smtp." in page.text
