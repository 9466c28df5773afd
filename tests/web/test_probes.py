"""`/health` and `/metrics`, as monitoring reads them."""

import time
from datetime import UTC, datetime

import msgspec
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from gateway import metrics
from gateway.policy.document import Document
from gateway.settings import Settings
from gateway.store import policies
from gateway.store.database import Database


@pytest.fixture
def alive(settings: Settings, database: Database) -> None:
    """What a machine in good order looks like."""
    policies.publish(database, Document(), by="ann", comment="", now=datetime.now(UTC))
    for process in ("smtp-1", "smtp-2", "deliver", "schedule", "web"):
        metrics.reset()
        if process != "schedule":
            metrics.watch("policy_version", lambda: 1)
        metrics.write_snapshot(settings.run_dir, process)
    metrics.reset()


def failing(client: TestClient) -> dict[str, str]:
    answer = client.get("/health")
    checks = {check["name"]: check for check in answer.json()["checks"]}
    wrong = {name: check["says"] for name, check in checks.items() if not check["ok"]}
    assert answer.status_code == (503 if wrong else 200)
    assert answer.json()["ok"] is not bool(wrong)
    assert all(checks[name]["advice"] for name in wrong)
    return wrong


def test_all_is_well(client: TestClient, alive: None) -> None:
    assert failing(client) == {}
    assert client.head("/health").status_code == 200


def test_every_reason_is_told(client: TestClient, settings: Settings, alive: None) -> None:
    (settings.run_dir / "deliver.json").unlink()
    settings.database_file.rename(settings.data_dir / "elsewhere")
    wrong = failing(client)
    assert set(wrong) == {"deliver", "database"}
    assert "what waits is not tried again" in wrong["deliver"]


def test_a_process_that_is_silent_fails_the_check(client: TestClient, settings: Settings, alive: None) -> None:
    file = settings.run_dir / "smtp-2.json"
    late = metrics.read_snapshots(settings.run_dir)[-2]
    assert late.process == "smtp-2"
    late.at = time.time() - 60
    file.write_bytes(msgspec.json.encode(late))
    assert failing(client) == {"processes": "no sign of life from smtp-2 for 60 s"}


def test_figures_are_read_by_prometheus(client: TestClient, settings: Settings) -> None:
    metrics.reset()
    metrics.count("messages", "deliver", 3)
    metrics.count("messages", 'odd"\n\\label')
    metrics.count("messages_bytes", amount=4400)
    metrics.observe("judge_seconds", 0.004)
    metrics.watch("unimported", lambda: 7)
    metrics.write_snapshot(settings.run_dir, "smtp-1")
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    here = ("process", "smtp-1")
    assert samples["gatepost_messages_total", ("action", "deliver"), here] == 3
    assert samples["gatepost_messages_total", ("action", 'odd"\n\\label'), here] == 1
    assert samples["gatepost_messages_bytes_total", here] == 4400
    assert samples["gatepost_unimported", here] == 7
    assert samples["gatepost_judge_seconds_bucket", ("le", "0.005"), here] == 1
    assert samples["gatepost_judge_seconds_bucket", ("le", "0.0025"), here] == 0
    assert samples["gatepost_judge_seconds_count", here] == 1
    assert samples["gatepost_judge_seconds_sum", here] == 0.004
    names = {f"gatepost_{name}" for kind in (metrics.COUNTERS, metrics.GAUGES, metrics.HISTOGRAMS) for name in kind}
    assert set(families) == names
    assert all(family.documentation for family in families.values())
    metrics.reset()


def test_figures_name_nobody(client: TestClient, settings: Settings) -> None:
    assert "@" not in client.get("/metrics").text
