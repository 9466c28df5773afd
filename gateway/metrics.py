"""Figures of the live processes: plain numbers in memory, written as a snapshot file once a second.

A counter costs a dictionary update; nothing is shared between processes while mail flows. Whoever renders (the web
process) reads the snapshots of all processes in the run directory. A process that restarts counts from 0 again, which
Prometheus expects of a counter.
"""

import bisect
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

# Name -> help, and what its label names ("" for a figure without one). A figure that is not here cannot be counted, and
# every one here is rendered.
COUNTERS = {
    "connections": ("Connections accepted", "listener"),
    "connections_refused": ("Connections turned away", "reason"),
    "commands_refused": ("Commands refused before DATA", "reason"),
    "messages": ("Verdicts on messages: one for each group of recipients", "action"),
    "messages_bytes": ("Octets of messages accepted", ""),
    "findings": ("Findings, by filter and code", "finding"),
    "deliveries": ("Results of delivery attempts, per recipient", "state"),
    "imported": ("Messages imported into the database", ""),
    "imports_failed": ("Imports that failed and are tried again", ""),
    "traces_dropped": ("Traces of refused mail that were dropped because too many waited", ""),
    "spool_flushes": ("Flushes of the spool", ""),
    "notices": ("Notifications queued", "kind"),
    "log_lines_lost": ("Log lines that could not be written", ""),
}
GAUGES = {
    "connections_open": "Connections open now",
    "policy_version": "Policy version in force",
    "ledger_revision": "Ledger revision in force",
    "unimported": "Messages accepted and not yet imported",
    "first_attempts": "Messages held in memory for their first attempt",
    "spool_bytes": "Octets in the spool's segments of this process",
    "spool_segments": "Segments of this process",
    "queue_depth": "Recipients waiting for delivery",
    "queue_held": "Recipients held for a person",
    "queue_oldest_seconds": "Age of the oldest waiting recipient",
    "spool_free_bytes": "Free octets where the spool lies",
    "database_away": "1 while the database cannot be used",
}
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
HISTOGRAMS = {
    "transaction_seconds": "From the end of DATA to the reply",
    "judge_seconds": "To inspect and judge one message",
    "flush_seconds": "From handing a message to the spool to its being durable",
    "import_seconds": "One import transaction",
    "delivery_seconds": "One delivery conversation",
}


class Snapshot(Struct):
    """What one process says of itself."""

    process: str
    pid: int
    at: float  # Unix time of writing: the heartbeat
    started_at: float
    counters: dict[str, dict[str, float]]
    gauges: dict[str, float]
    histograms: dict[str, list[float]]  # bucket counts, then overflow, then sum


class _Figures:
    def __init__(self) -> None:
        self.counters: dict[str, dict[str, float]] = {name: {} for name in COUNTERS}
        self.gauges: dict[str, float] = {}
        self.histograms: dict[str, list[float]] = {name: [0.0] * (len(BUCKETS) + 2) for name in HISTOGRAMS}
        self.started_at = time.time()
        self.watches: dict[str, Callable[[], float]] = {}


_figures = _Figures()


def reset() -> None:
    """Begin from nothing: called by each process after its fork."""
    global _figures
    _figures = _Figures()


def count(name: str, label: str = "", amount: float = 1) -> None:
    """Add to a counter."""
    values = _figures.counters[name]
    values[label] = values.get(label, 0.0) + amount


def watch(name: str, read: Callable[[], float]) -> None:
    """Let a gauge be read by calling `read` whenever a snapshot is made."""
    if name not in GAUGES:
        raise KeyError(name)
    _figures.watches[name] = read


def observe(name: str, seconds: float) -> None:
    """Add one duration to a histogram."""
    counts = _figures.histograms[name]
    counts[bisect.bisect_left(BUCKETS, seconds)] += 1
    counts[-1] += seconds


def snapshot(process: str) -> Snapshot:
    """Return this process's figures as they are now."""
    figures = _figures
    gauges = {name: float(read()) for name, read in figures.watches.items()}
    return Snapshot(
        process=process,
        pid=os.getpid(),
        at=time.time(),
        started_at=figures.started_at,
        counters={name: dict(values) for name, values in figures.counters.items() if values},
        gauges=gauges,
        histograms={name: list(values) for name, values in figures.histograms.items() if any(values)},
    )


def write_snapshot(folder: Path, process: str) -> None:
    """Write this process's snapshot for others to read; a full disk is no reason to stop."""
    partial = folder / f".{process}.{os.getpid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(msgspec.json.encode(snapshot(process)))
        partial.replace(folder / f"{process}.json")


def remove_snapshot(folder: Path, process: str) -> None:
    """Take this process's snapshot away at an orderly end: one that stays tells of a process that hangs or died."""
    with contextlib.suppress(OSError):
        (folder / f"{process}.json").unlink(missing_ok=True)


def sweep_snapshots(folder: Path, prefix: str = "") -> None:
    """Remove at a start what killed processes left. A living one of another container writes its own again at once."""
    for file in folder.glob(f"{prefix}*.json"):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            pid = msgspec.json.decode(file.read_bytes(), type=Snapshot).pid
            try:
                os.kill(pid, 0)  # signal 0 only asks
            except ProcessLookupError:
                file.unlink()


def read_snapshots(folder: Path) -> list[Snapshot]:
    """Return the snapshots of all processes, the stale ones too: `at` tells."""
    found = []
    for file in sorted(folder.glob("*.json")):
        try:
            found.append(msgspec.json.decode(file.read_bytes(), type=Snapshot))
        except (OSError, msgspec.DecodeError):
            continue
    return found


class _Collector:
    def __init__(self, snapshots: list[Snapshot]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        for name, (text, label) in COUNTERS.items():
            counter = CounterMetricFamily(
                f"gatepost_{name}", text, labels=("process", label) if label else ("process",)
            )
            for shot in self._snapshots:
                for value, number in shot.counters.get(name, {}).items():
                    counter.add_metric((shot.process, value) if label else (shot.process,), number)
            yield counter
        for name, text in GAUGES.items():
            gauge = GaugeMetricFamily(f"gatepost_{name}", text, labels=("process",))
            for shot in self._snapshots:
                if name in shot.gauges:
                    gauge.add_metric((shot.process,), shot.gauges[name])
            yield gauge
        for name, text in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(f"gatepost_{name}", text, labels=("process",))
            for shot in self._snapshots:
                if name in shot.histograms:
                    histogram.add_metric((shot.process,), *_cumulative(shot.histograms[name]))
            yield histogram


def _cumulative(counts: list[float]) -> tuple[list[tuple[str, float]], float]:
    """Turn counts per bucket into Prometheus' running sums; return them with the sum of all durations."""
    total = 0.0
    buckets = []
    for bound, value in zip((*map(str, BUCKETS), "+Inf"), counts[:-1], strict=True):
        total += value
        buckets.append((bound, total))
    return buckets, counts[-1]


def render(snapshots: list[Snapshot]) -> bytes:
    """Return Prometheus' text form of all snapshots."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshots))
    return generate_latest(registry)
