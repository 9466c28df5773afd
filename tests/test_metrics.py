"""Figures: counted in memory, written as a snapshot, read and rendered by another process."""

import os
import subprocess
import time
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway import metrics


@pytest.fixture(autouse=True)
def fresh() -> None:
    metrics.reset()


def samples(folder: Path) -> dict[tuple[str, ...], float]:
    """Return name, process and the other label's value -> value."""
    text = metrics.render(metrics.read_snapshots(folder)).decode()
    return {
        (sample.name, sample.labels.pop("process"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_add_up_by_label(tmp_path: Path) -> None:
    metrics.count("messages", "deliver")
    metrics.count("messages", "deliver", 2)
    metrics.count("messages", "reject")
    metrics.count("imported", amount=7)
    metrics.write_snapshot(tmp_path, "smtp-1")
    found = samples(tmp_path)
    assert found["gatepost_messages_total", "smtp-1", "deliver"] == 3
    assert found["gatepost_messages_total", "smtp-1", "reject"] == 1
    assert found["gatepost_imported_total", "smtp-1"] == 7


def test_what_is_not_among_the_figures_cannot_be_counted() -> None:
    with pytest.raises(KeyError):
        metrics.count("no_such_figure")
    with pytest.raises(KeyError):
        metrics.observe("no_such_figure", 1)
    with pytest.raises(KeyError):
        metrics.watch("no_such_figure", lambda: 1)


def test_gauges_are_read_when_the_snapshot_is_made() -> None:
    waiting = [1, 2, 3]
    metrics.watch("unimported", lambda: len(waiting))
    waiting.append(4)
    assert metrics.snapshot("smtp-1").gauges == {"unimported": 4.0}


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [(0.0, "0.001"), (0.001, "0.001"), (0.0011, "0.0025"), (60.0, "60.0"), (61.0, "+Inf")],
)
def test_a_duration_falls_into_its_bucket_and_all_above(tmp_path: Path, seconds: float, bound: str) -> None:
    metrics.observe("judge_seconds", seconds)
    metrics.write_snapshot(tmp_path, "smtp-1")
    found = samples(tmp_path)
    bounds = [*map(str, metrics.BUCKETS), "+Inf"]
    counted = {one: found["gatepost_judge_seconds_bucket", "smtp-1", one] for one in bounds}
    assert counted == {one: float(bounds.index(one) >= bounds.index(bound)) for one in bounds}
    assert found["gatepost_judge_seconds_sum", "smtp-1"] == seconds


def test_every_process_is_rendered_under_its_name(tmp_path: Path) -> None:
    for process in ("smtp-1", "smtp-2"):
        metrics.reset()
        metrics.count("messages_bytes", amount=100)
        metrics.write_snapshot(tmp_path, process)
    found = samples(tmp_path)
    assert found["gatepost_messages_bytes_total", "smtp-1"] == found["gatepost_messages_bytes_total", "smtp-2"] == 100


def test_a_new_snapshot_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    metrics.write_snapshot(tmp_path, "smtp-1")
    metrics.count("imported")
    metrics.write_snapshot(tmp_path, "smtp-1")
    assert [path.name for path in tmp_path.iterdir()] == ["smtp-1.json"]
    [shot] = metrics.read_snapshots(tmp_path)
    assert (shot.counters["imported"], shot.pid) == ({"": 1.0}, os.getpid())
    assert time.time() - shot.at < 60


def test_what_is_no_snapshot_is_passed_over(tmp_path: Path) -> None:
    metrics.write_snapshot(tmp_path, "smtp-1")
    (tmp_path / "torn.json").write_bytes((tmp_path / "smtp-1.json").read_bytes()[:20])
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "folder.json").mkdir()
    assert [shot.process for shot in metrics.read_snapshots(tmp_path)] == ["smtp-1"]
    assert metrics.read_snapshots(tmp_path / "nowhere") == []


def test_a_snapshot_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    metrics.write_snapshot(tmp_path / "file" / "run", "smtp-1")
    metrics.remove_snapshot(tmp_path / "file" / "run", "smtp-1")
    assert metrics.read_snapshots(tmp_path / "file" / "run") == []
    assert (tmp_path / "file").read_bytes() == b""


def test_an_orderly_end_takes_the_snapshot_along(tmp_path: Path) -> None:
    metrics.write_snapshot(tmp_path, "smtp-1")
    metrics.write_snapshot(tmp_path, "smtp-2")
    metrics.remove_snapshot(tmp_path, "smtp-1")
    metrics.remove_snapshot(tmp_path, "smtp-1")
    assert [shot.process for shot in metrics.read_snapshots(tmp_path)] == ["smtp-2"]


def test_a_start_sweeps_away_what_the_dead_left(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    metrics.write_snapshot(tmp_path, "smtp-1")
    shot = metrics.snapshot("smtp-9")
    shot.pid = dead.pid
    (tmp_path / "smtp-9.json").write_bytes(msgspec.json.encode(shot))
    (tmp_path / "torn.json").write_bytes(b"{")
    metrics.sweep_snapshots(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["smtp-1.json", "torn.json"]


def test_a_fork_begins_from_nothing() -> None:
    metrics.count("imported")
    metrics.watch("unimported", lambda: 1)
    metrics.reset()
    shot = metrics.snapshot("smtp-1")
    assert (shot.counters, shot.gauges, shot.histograms) == ({}, {}, {})
