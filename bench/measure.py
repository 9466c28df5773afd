"""What a running mail gateway costs per message.

    python -m bench.measure --pid PID [--pid PID ...] --control SINK_CONTROL_PORT -- LOAD_ARGUMENTS

It empties the sink's counters, runs load.py with the arguments after `--` against the server, waits until every
accepted message has come out in the sink (or --drain-seconds have passed), and prints one JSON object:

    cpu_ms_per_msg     user+system CPU milliseconds of the process trees under the given pids, dead children
                       included, from before the load to after the drain, per accepted message.  On a shared
                       machine this is the figure to compare; wall figures depend on who else is running.
    delivered_per_s    accepted messages / time from the first connection to the last one's arrival in the sink
    accepted_per_s, latency_ms   as the client saw it
    peak_rss_mb, peak_pss_mb     of the whole tree, sampled every 0.5 s / every 2 s (PSS: shared pages counted once)
    after_pss_mb       PSS of the tree once all is quiet again, REST_SECONDS after the CPU was taken
    high_water_mb      sum of the live processes' own highest RSS since they started (catches peaks between samples)
    lost, duplicates, foreign    accepted ids that never came, ids that came twice, messages that are none of this run's
    machine_busy_pct, steal_pct  of the whole machine during the run: noise indicators

As a library:  measure(pids, control_port, load_args) -> dict.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

from bench.sink import ask

PROJECT = pathlib.Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
REST_SECONDS = 1.5  # until a server has given back what it gives back


def processes():
    """Return pid -> (parent, own CPU ticks + those of children waited for, resident pages)."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as f:
                    fields = f.read().rpartition(b")")[2].split()
            except OSError:
                continue
            table[int(name)] = (int(fields[1]), sum(map(int, fields[11:15])), int(fields[21]))
    return table


def tree(roots, table=None):
    """Return the pids under (and with) the roots that are alive."""
    table = table or processes()
    children: dict[int, list[int]] = {}
    for pid, (parent, _, _) in table.items():
        children.setdefault(parent, []).append(pid)
    found, todo = set(), [r for r in roots if r in table]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children.get(pid, [])
    return found


def cpu_seconds(roots):
    """Return the CPU of the trees: each live process's own time and that of the dead children it has waited for."""
    table = processes()
    return sum(table[pid][1] for pid in tree(roots, table)) / TICK


def pss_kb(pid):
    """Return a process's proportional set size, 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as f:
            for line in f:
                if line.startswith("Pss:"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def high_water_kb(pid):
    """Return a process's highest resident size since it began, 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/status") as f:
            for line in f:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def machine_ticks():
    """Return (busy, stolen) ticks of the whole machine."""
    with open("/proc/stat") as f:
        v = [int(x) for x in f.readline().split()[1:]]
    return v[0] + v[1] + v[2] + v[5] + v[6], v[7]


class Watcher(threading.Thread):
    """Peak memory of the trees, sampled."""

    def __init__(self, roots):
        super().__init__(daemon=True)
        self.roots, self.stop = roots, threading.Event()
        self.rss = self.pss = self.count = 0

    def run(self):
        turn = 0
        while True:
            table = processes()
            pids = tree(self.roots, table)
            self.count = max(self.count, len(pids))
            self.rss = max(self.rss, sum(table[p][2] for p in pids) * PAGE)
            if turn % 4 == 0 or self.stop.is_set():
                self.pss = max(self.pss, sum(pss_kb(p) for p in pids) * 1024)
            turn += 1
            if self.stop.is_set() or self.stop.wait(0.5):
                return


def run_load(load_args, ids_file, python):
    """Run load.py and return its report; RuntimeError when it said nothing."""
    command = [python, "-m", "bench.load", *map(str, load_args), "--accepted-ids", str(ids_file)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if not done.stdout.strip():
        raise RuntimeError(f"load.py said nothing: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def drain(control, accepted, seconds):
    """Wait until all accepted ids have come out in the sink, or the time is up; (counts, ids seen)."""
    end = time.time() + seconds
    while True:
        stats = ask(control, "STATS")
        enough = stats["ids"] >= len(accepted)
        if enough:
            arrived = ask(control, "IDS")["ids"]
            if accepted <= arrived.keys():
                return stats, arrived
        if time.time() > end:
            return stats, ask(control, "IDS")["ids"]
        time.sleep(0.5 if enough else 0.05)  # enough, but not all ours: something older was still queued


def measure(pids, control, load_args, drain_seconds=120.0, settle=0.3, python=sys.executable):
    """Run load.py once with the server's costs around it; control 0: nothing is expected in a sink."""
    if control:
        ask(control, "RESET")
    watcher = Watcher(pids)
    with tempfile.TemporaryDirectory() as folder:
        ids_file = pathlib.Path(folder) / "ids"
        ticks, cpu, begun = machine_ticks(), cpu_seconds(pids), time.time()
        watcher.start()
        load = run_load(load_args, ids_file, python)
        accepted = set(ids_file.read_text().split())
        stats = {"last_at": load["ended"], "duplicates": 0, "without_id": 0}
        arrived = dict.fromkeys(accepted, 1)
        if control:
            drain(control, accepted, drain_seconds)
        time.sleep(settle)  # queue files removed, logs written
        cpu = cpu_seconds(pids) - cpu
        high = sum(high_water_kb(p) for p in tree(pids)) * 1024
        machine = machine_share(ticks, time.time() - begun)
        time.sleep(REST_SECONDS)
        after = sum(pss_kb(p) for p in tree(pids)) * 1024
        watcher.stop.set()
        watcher.join()
        if control:
            stats, arrived = ask(control, "STATS"), ask(control, "IDS")["ids"]
    memory = {"peak_rss": watcher.rss, "peak_pss": watcher.pss, "after_pss": after, "high_water": high}
    return {
        **figures(load, cpu, stats["last_at"] - load["started"]),
        **{f"{name}_mb": round(octets / 1e6, 1) for name, octets in memory.items()},
        "processes": watcher.count,
        "lost": sum(1 for i in accepted if i not in arrived),
        "duplicates": stats["duplicates"],
        "foreign": stats["without_id"] + sum(1 for i in arrived if i not in accepted),
        **machine,
    }


def machine_share(before, seconds):
    """Return how busy the whole machine was since `before`, in per cent."""
    busy, steal = (after - earlier for after, earlier in zip(machine_ticks(), before, strict=True))
    whole = TICK * seconds * os.cpu_count()
    return {"machine_busy_pct": round(100 * busy / whole, 1), "steal_pct": round(100 * steal / whole, 1)}


def figures(load, cpu, wall):
    """Return the costs and rates: `cpu` in seconds, `wall` from the first connection to the last arrival."""
    count, megabytes = load["accepted"], load["bytes"] / 1e6
    kept = ("rejected", "tempfailed", "broken", "unsent", "mean_bytes", "accepted_per_s", "latency_ms")
    return {
        "accepted": count,
        **{name: load[name] for name in kept},
        "cpu_ms_per_msg": round(1000 * cpu / count, 4) if count else None,
        "cpu_ms_per_mb": round(1000 * cpu / megabytes, 3) if megabytes else None,
        "delivered_per_s": round(count / wall, 1) if count and wall > 0 else None,
        "mb_per_s": round(megabytes / wall, 2) if wall > 0 else None,
        "server_cpu_s": round(cpu, 2),
        "wall_s": round(wall, 3),
        "load_cpu_ms_per_msg": load["load_cpu_ms_per_msg"],
        "other_replies": load["other_replies"],
    }


def main():
    """Measure by command line; 1 when nothing was accepted or something was lost."""
    argv = sys.argv[1:]
    cut = argv.index("--") if "--" in argv else len(argv)
    p = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        usage="python -m bench.measure --pid PID ... --control PORT -- LOAD_ARGUMENTS",
    )
    p.add_argument("--pid", type=int, action="append", required=True, help="root of a process tree of the server")
    p.add_argument(
        "--control",
        type=int,
        default=0,
        help="the sink's control port (leave out for a server that keeps or drops its messages)",
    )
    p.add_argument("--drain-seconds", type=float, default=120)
    p.add_argument(
        "--repeat", type=int, default=1, help="run so often; the run with the median CPU per message is shown"
    )
    args = p.parse_args(argv[:cut])
    missing = [x for x in args.pid if not os.path.exists(f"/proc/{x}")]
    if missing:
        p.error(f"no such process: {missing}")
    runs = [measure(args.pid, args.control, argv[cut + 1 :], args.drain_seconds) for _ in range(args.repeat)]
    runs.sort(key=lambda r: r["cpu_ms_per_msg"] or 0)
    result = dict(runs[len(runs) // 2])
    if len(runs) > 1:
        result["all_cpu_ms_per_msg"] = [r["cpu_ms_per_msg"] for r in runs]
        result["all_delivered_per_s"] = [r["delivered_per_s"] for r in runs]
        result["lost"] = sum(r["lost"] for r in runs)
        result["duplicates"] = sum(r["duplicates"] for r in runs)
    json.dump(result, sys.stdout, indent=1)
    print()
    return 0 if result["accepted"] and not result["lost"] else 1


if __name__ == "__main__":
    sys.exit(main())
