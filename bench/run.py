"""Gatepost and its peers turn by turn in one run: targets, figures, history.

    python -m bench [--pairs 5] [--workloads small,business,5MB,50MB,...] [--scale 1] [--profile] [--no-history]

The peers stay up; Gatepost is started afresh for each pair, so that its memory is that of one pass. In every second
pair the order is turned round. Exits 1 when the median of a figure misses its target, 2 when one is over 15 % worse
than in the last five runs on this machine, 3 for both. `make bench` keeps bench/results.md and bench/history.jsonl.
"""

import argparse
import datetime
import json
import pathlib
import shutil
import signal
import sys

from bench import corpus, database, history, listener, machine, memory, profiled, report
from bench.measure import measure
from bench.peer_gatepost import Gatepost
from bench.peer_postfix import Postfix
from bench.peerlib import PROJECT, free_block, start_sink
from bench.sink import ask
from bench.targets import judge

BENCH = PROJECT / "bench"
CONNECTIONS = 20
SETTLE_SECONDS = 1.0  # Imports and queue files come after the reply; their CPU belongs to the message.
MAIL = ("small", "business", "5MB")
WORKLOADS = (*MAIL, "50MB", "listener", "database")
# Messages of one run. The business corpus holds its mix for multiples of 200.
MESSAGES = {
    "gatepost": {"small": 6000, "business": 1200, "5MB": 100},
    "postfix": {"small": 2000, "business": 400, "5MB": 60},
    "rspamd": {"small": 1000, "business": 200, "5MB": 10},
}


def parse():
    """Read the command line."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--work", default=str(PROJECT / "build/bench"), help="corpora, the servers' files, raw figures")
    p.add_argument("--pairs", type=int, default=5)
    p.add_argument("--workloads", default=",".join(WORKLOADS))
    p.add_argument("--peers", default="postfix,rspamd")
    p.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    p.add_argument("--scale", type=float, default=1.0, help="times the usual number of messages")
    p.add_argument("--profile", action="store_true", help="one more run under cProfile")
    p.add_argument("--results", default=str(BENCH / "results.md"))
    p.add_argument("--no-history", action="store_true", help="neither compare with earlier runs nor add this one")
    return p.parse_args()


def load_arguments(work, port, workload, messages):
    """Return load.py's arguments for one run."""
    kind = ["--size", 5_000_000] if workload == "5MB" else ["--corpus", work / f"corpus-{workload}"]
    return ["--port", port, "--connections", CONNECTIONS, "--messages", messages, "--max-seconds", 300, *kind]


def count_for(name, workload, scale):
    """Return the number of messages of one run."""
    return max(4, int(MESSAGES[name][workload] * scale))


class Bench:
    """The servers of one run and what each pair measured."""

    def __init__(self, args, work):
        self.args, self.work = args, work
        self.workloads = args.workloads.split(",")
        # A server takes the few ports after its own as well.
        self.sink, self.control, self.port, postfix, rspamd = range(first := free_block(50), first + 50, 10)
        makers = {
            "postfix": lambda: Postfix(work / "postfix", postfix, self.sink, "plain"),
            "rspamd": lambda: Postfix(work / "rspamd", rspamd, self.sink, "rspamd"),
        }
        self.peers = {name: makers[name]() for name in args.peers.split(",") if name}
        self.pairs = []

    def start(self):
        """Start sink and peers, each warmed up."""
        for mix in ("small", "business"):
            if mix in self.workloads and not (self.work / f"corpus-{mix}").exists():
                corpus.make(self.work / f"corpus-{mix}", mix=mix)
        start_sink(self.sink, self.control, self.work / "sink.log")
        for name, peer in self.peers.items():
            shutil.rmtree(peer.folder / "queue", ignore_errors=True)  # of a run that was cut short
            peer.start()
            self.warm_up(name, peer)

    def stop(self):
        """End peers and sink."""
        for peer in self.peers.values():
            peer.stop()
        ask(self.control, "QUIT")

    def warm_up(self, name, peer):
        """Send a few messages of each kind, unmeasured."""
        for workload in self.workloads:
            if workload in MAIL:
                self.measure(name, peer, workload, 40 if workload != "5MB" else 4)

    def measure(self, name, peer, workload, messages):
        """Measure one server under one workload."""
        arguments = load_arguments(self.work, peer.port, workload, messages)
        result = measure(peer.pids, self.control, arguments, 300, SETTLE_SECONDS)
        if result["lost"] or not result["accepted"]:
            raise SystemExit(f"{name} under {workload}: {result}")
        return result

    def gatepost(self, **options):
        """Return a Gatepost that is set up anew when it starts."""
        return Gatepost(self.work / "gatepost", self.port, self.sink, self.args.database, **options)

    def pair(self, number):
        """Measure all servers once under all workloads."""
        gatepost = self.gatepost()
        gatepost.start()
        found = {}
        try:
            self.warm_up("gatepost", gatepost)
            servers = [("gatepost", gatepost), *self.peers.items()]
            for workload in filter(MAIL.__contains__, self.workloads):
                for name, peer in servers if number % 2 == 0 else reversed(servers):
                    result = self.measure(name, peer, workload, count_for(name, workload, self.args.scale))
                    found.setdefault(name, {})[workload] = result
                    say(number, name, workload, result)
            if "50MB" in self.workloads:
                added = memory.added_by_one(gatepost.pids, self.control, gatepost.port)
                found.setdefault("gatepost", {})["50MB"] = added
        finally:
            gatepost.stop()
        self.pairs.append(found | self.alone(number, found))

    def alone(self, number, found):
        """Measure what needs no peer that is a mail server; returns the pair's figures with these added."""
        ours = dict(found.get("gatepost", {}))
        added = {}
        if "listener" in self.workloads:
            first = ("gatepost", "aiosmtpd")[number % 2]
            both = listener.compare(self.work, int(6000 * self.args.scale), first)
            ours["listener"], added["aiosmtpd"] = both["gatepost"], {"listener": both["aiosmtpd"]}
        if "database" in self.workloads and number == 0:  # takes a minute, and compares with nobody
            ours |= database.run(self.work)
        return {**added, "gatepost": ours}

    def profile(self):
        """Return the most expensive functions of the SMTP workers, for each workload."""
        found = {}
        for workload in self.workloads:
            if workload not in MAIL:
                continue
            folder = self.work / f"profile-{workload}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            gatepost = self.gatepost(profile_dir=folder)
            gatepost.start()
            try:
                messages = count_for("gatepost", workload, self.args.scale)
                self.measure("gatepost", gatepost, workload, messages)
            finally:
                gatepost.stop()
            found[workload] = profiled.table(sorted(folder.glob("smtp*.prof")), messages, PROJECT)
        return found


def say(number, name, workload, result):
    """Print one line for each run, as it comes."""
    print(
        f"pair {number + 1}  {name:9} {workload:9} {result['cpu_ms_per_msg']:8} CPU ms/msg "
        f"{result['delivered_per_s']:8} msgs/s  p99 {result['latency_ms']['p99']:8} ms  "
        f"PSS {result['after_pss_mb']} MB",
        flush=True,
    )


def conclude(args, bench, work, profiles):
    """Judge, compare with earlier runs, write the page; return the exit status."""
    outcomes = judge(bench.pairs)
    about = machine.facts(work)
    options = f"{args.pairs} pairs, scale {args.scale:g}, {args.database}, {args.workloads}"
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    one = history.entry(outcomes, at=now, commit=machine.commit(PROJECT), machine=about, options=options)
    worse = []
    if not args.no_history:
        file = BENCH / history.FILE_NAME
        worse = history.regressions(history.load(file), one, outcomes)
        history.append(file, one)
    page = report.markdown(
        machine=about,
        versions=machine.versions(PROJECT),
        options=options,
        outcomes=outcomes,
        pairs=bench.pairs,
        worse=worse,
        profiles=profiles,
    )
    pathlib.Path(args.results).write_text(page)
    print("\n".join(report.target_rows(outcomes)))
    for line in worse:
        print(f"*** REGRESSION *** {line}", file=sys.stderr)
    missed = any(not outcome.is_met for outcome in outcomes)
    return (1 if missed else 0) + (2 if worse else 0)


def main():
    """Run the whole benchmark."""
    args = parse()
    work = pathlib.Path(args.work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(args, work)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the servers are stopped too
    try:
        bench.start()
        for number in range(args.pairs):
            bench.pair(number)
        profiles = bench.profile() if args.profile else {}
    finally:
        bench.stop()
    (work / "pairs.json").write_text(json.dumps(bench.pairs, indent=1))
    return conclude(args, bench, work, profiles)


if __name__ == "__main__":
    sys.exit(main())
