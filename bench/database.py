"""What writers do to each other: a third process beside the relay at full speed, and the pruning of 100,000 rows.

    python -m bench.database [--work DIR] [--seconds 10]

The database is SQLite, where all writers take turns. `third writer`: how long a small transaction of another process (a
page, a command) takes while mail comes in as fast as it can. `pruning`: by how much the slowest 250 is later while old
rows are removed than it is without.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

from bench import corpus
from bench.load import percentile
from bench.measure import run_load
from bench.peer_gatepost import Gatepost
from bench.peerlib import PROJECT, free_block, start_sink
from bench.sink import ask
from gateway.accepted import Accepted, Settled, State
from gateway.mail.address import Address
from gateway.mail.envelope import Direction, Recipient
from gateway.mail.reference import new_id
from gateway.policy.document import Retention
from gateway.store import imports, leases, retention
from gateway.store.database import Database

OLD_ROWS = 100_000
WRITE_EVERY_SECONDS = 0.02
SERVER = Address("load", "partner.example.com")
READER = Address("staff", "corp.example.com")


def write_often(database, seconds):
    """Write one small row again and again; return the milliseconds that each transaction took."""
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.perf_counter()
        leases.take(database, "bench", "bench", 60, datetime.now(UTC))
        times.append(1000 * (time.perf_counter() - begun))
        time.sleep(WRITE_EVERY_SECONDS)
    return times


def old_item(number, then):
    """Return one delivered message of long ago."""
    accepted = Accepted(
        id=new_id(int(then.timestamp() * 1000) + number),
        group=0,
        mail_from=SERVER,
        recipients=(Recipient(READER, Direction.INBOUND),),
        direction=Direction.INBOUND,
        accepted_at=then,
        expires_at=then,
        size=4000,
        subject="An old message",
        message_id=f"<{number}@partner.example.com>",
    )
    settled = Settled(accepted.id, 0, READER, State.DELIVERED, "250 2.0.0 Ok", "127.0.0.1", then, 1)
    return imports.ImportItem(accepted, None, (settled,), "", then)


def fill(database, count):
    """Import so many messages that every retention is over for."""
    then = datetime.now(UTC) - timedelta(days=4000)
    for at in range(0, count, 500):
        imports.import_batch(database, [old_item(number, then) for number in range(at, at + 500)])


def prune(database):
    """Remove what is too old, as the schedule does it; return the seconds it took."""
    begun = time.monotonic()
    retention.prune(database, Retention(), datetime.now(UTC))
    return time.monotonic() - begun


def act(name, url, data_dir, seconds):
    """Be the other process: do one of the above and print what came of it as JSON."""
    database = Database(url, data_dir=pathlib.Path(data_dir))
    try:
        works = {
            "write": lambda: write_often(database, seconds),
            "fill": lambda: fill(database, OLD_ROWS),
            "prune": lambda: prune(database),
        }
        json.dump(works[name](), sys.stdout)
    finally:
        database.close()


def begin(name, gatepost, seconds=0.0):
    """Start another process on the database of `gatepost`."""
    data = gatepost.folder / "data"
    arguments = ["--act", name, "--url", f"sqlite:///{data / 'gatepost.db'}", "--data-dir", data, "--seconds", seconds]
    command = [sys.executable, "-m", "bench.database", *map(str, arguments)]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)


def outcome(process):
    """Wait for another process and return what it printed; RuntimeError when it failed."""
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{process.args} ended with {process.returncode}")
    return json.loads(said)


def send(gatepost, work, seconds, connections):
    """Send small messages for so long; return load.py's report."""
    load = ["--port", gatepost.port, "--corpus", work / "corpus-small", "--connections", connections]
    return run_load([*load, "--messages", 10_000_000, "--max-seconds", seconds], work / "ids", sys.executable)


def third_writer(gatepost, work, seconds):
    """Measure a writer beside the relay at full speed."""
    writer = begin("write", gatepost, seconds)
    report = send(gatepost, work, seconds + 1, 20)
    times = sorted(outcome(writer))
    return {
        "p99_ms": round(percentile(times, 0.99), 2),
        "max_ms": round(times[-1], 2),
        "writes": len(times),
        "accepted_per_s": report["accepted_per_s"],
    }


def pruning(gatepost, work, seconds):
    """Measure the slowest 250 without and with the pruning of 100,000 rows."""
    outcome(begin("fill", gatepost))
    before = send(gatepost, work, 3 * seconds, 4)  # as long as the other, else its maximum is no match
    pruner = begin("prune", gatepost)
    during = send(gatepost, work, 3 * seconds, 4)
    took = outcome(pruner)
    slowest = {name: report["latency_ms"]["max"] for name, report in (("before", before), ("during", during))}
    return {
        "delay_ms": round(max(0.0, slowest["during"] - slowest["before"]), 2),
        "slowest_before_ms": slowest["before"],
        "slowest_during_ms": slowest["during"],
        "prune_seconds": round(took, 2),
        "accepted_per_s": during["accepted_per_s"],
    }


def run(work, seconds=10.0):
    """Measure both on a Gatepost of its own; returns {"third writer": result, "pruning": result}."""
    if not (work / "corpus-small").exists():
        corpus.make(work / "corpus-small", mix="small")
    sink, control, port = range(first := free_block(30), first + 30, 10)
    start_sink(sink, control, work / "sink-database.log")
    gatepost = Gatepost(work / "gatepost-database", port, sink)
    try:
        gatepost.start()
        found = {"third writer": third_writer(gatepost, work, seconds), "pruning": pruning(gatepost, work, seconds)}
    finally:
        gatepost.stop()
        ask(control, "QUIT")
    return found


def main():
    """Measure by command line, or be one of the other processes."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--work", default=str(PROJECT / "build/bench"))
    p.add_argument("--seconds", type=float, default=10.0)
    p.add_argument("--act", choices=("write", "fill", "prune"), help=argparse.SUPPRESS)
    p.add_argument("--url", help=argparse.SUPPRESS)
    p.add_argument("--data-dir", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.act:
        act(args.act, args.url, args.data_dir, args.seconds)
        return 0
    work = pathlib.Path(args.work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    found = run(work, args.seconds)
    print(json.dumps(found, indent=1))
    return 0 if found["third writer"]["p99_ms"] <= 50 and found["pruning"]["delay_ms"] <= 50 else 1


if __name__ == "__main__":
    sys.exit(main())
