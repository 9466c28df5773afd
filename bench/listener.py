"""What receiving alone costs: the real listener before a spool that forgets, against aiosmtpd with an empty handler.

    python -m bench.listener [--pairs 5] [--messages 6000]
    python -m bench.listener --serve --port 2525 [--loop uvloop] [--profile FILE]

One process each, uvloop, nothing judged and nothing kept; aiosmtpd reads DATA in chunks. The target: 0.8 of aiosmtpd's
messages per second, with all that the listener checks on top.
"""

import argparse
import asyncio
import contextlib
import cProfile
import pathlib
import signal
import statistics
import sys

from bench import corpus
from bench.ceiling import listener_on
from bench.load import run_loop
from bench.measure import measure
from bench.peerlib import PROJECT, free_block, spawn, stop_pid, wait_banner
from gateway.filters import registry
from gateway.mail import reply as replies
from gateway.mail.envelope import ListenerKind
from gateway.policy.compile import Policy, compile
from gateway.policy.document import Document
from gateway.relay.admission import AdmissionTable
from gateway.relay.listener import make_protocol
from gateway.relay.services import ListenerSettings, Services

HOSTNAME = "gate.example.com"
POLICY = {
    "hostname": HOSTNAME,
    "domains": {"corp.example.com": {"any_recipient": True}},
    "limits": {
        "connections": 2000,
        "connections_per_network": 2000,
        "connects_per_minute": 1000000,
        "commands": 1000000,
    },
}


class ForgettingIntake:
    """Takes every message and keeps nothing: a spool that forgets."""

    def has_room(self, size=0):
        """There is always room for nothing."""

    async def take(self, session, envelope, raw, policy, *, has_dots=True):
        """Answer 250, untruthfully."""
        return replies.QUEUED


class Silence:
    """Events that nobody hears."""

    def connected(self, listener, ip):
        """A connection came."""

    def refused(self, session, stage, reply, reason, mail_from, rcpt):
        """Something was refused."""

    def disconnected(self, session, messages):
        """A connection is over."""


async def serve(port, seconds):
    """Serve on the port until SIGTERM or the time is up."""
    loop = asyncio.get_running_loop()
    policy = Policy.of(compile(Document.model_validate(POLICY), registry(), hostname=HOSTNAME), 1, 1)
    services = Services(lambda: policy, ForgettingIntake(), AdmissionTable().column(0), Silence())
    settings = ListenerSettings(ListenerKind.INBOUND, HOSTNAME)
    await loop.create_server(make_protocol(settings, services), sock=listener_on(port), backlog=1024)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def compare(work, messages, first="gatepost"):
    """Measure both, one after the other; returns {"gatepost": result, "aiosmtpd": result}."""
    place = work / "corpus-small"
    if not place.exists():
        corpus.make(place, mix="small")
    servers = {
        "gatepost": ["bench.listener", "--serve"],
        "aiosmtpd": ["bench.peer_aiosmtpd", "--chunked", "--loop", "uvloop"],
    }
    found = {}
    for name in sorted(servers, key=lambda name: name != first):
        port, log = free_block(1), work / f"listener-{name}.log"
        pid = spawn([sys.executable, "-m", *servers[name], "--port", port, "--max-seconds", 300], log)
        try:
            wait_banner(port, log=log)
            load = ["--port", port, "--corpus", place, "--connections", 20, "--max-seconds", 120]
            measure([pid], 0, [*load, "--messages", 400])
            found[name] = measure([pid], 0, [*load, "--messages", messages])
        finally:
            stop_pid(pid)
    return found


def main():
    """Compare, or serve, by command line."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--serve", action="store_true", help="only run the listener")
    p.add_argument("--port", type=int, default=2525)
    p.add_argument("--loop", choices=("asyncio", "uvloop"), default="uvloop")
    p.add_argument("--profile", metavar="FILE", help="with --serve: write a cProfile file")
    p.add_argument("--max-seconds", type=float, default=600)
    p.add_argument("--pairs", type=int, default=5)
    p.add_argument("--messages", type=int, default=6000)
    p.add_argument("--work", default=str(PROJECT / "build/bench"))
    args = p.parse_args()
    if args.serve:
        profile = cProfile.Profile()
        work = run_loop if not args.profile else lambda *a: profile.runcall(run_loop, *a)
        work(serve(args.port, args.max_seconds), args.loop)
        if args.profile:
            profile.dump_stats(args.profile)
        return 0
    folder = pathlib.Path(args.work)
    folder.mkdir(parents=True, exist_ok=True)
    ratios = []
    for number in range(args.pairs):
        found = compare(folder, args.messages, ("gatepost", "aiosmtpd")[number % 2])
        ours, theirs = found["gatepost"], found["aiosmtpd"]
        ratios.append(ours["accepted_per_s"] / theirs["accepted_per_s"])
        print(
            f"listener {ours['accepted_per_s']}/s, {ours['cpu_ms_per_msg']} CPU ms; "
            f"aiosmtpd {theirs['accepted_per_s']}/s, {theirs['cpu_ms_per_msg']} CPU ms; ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f}, target 0.8")
    return 0 if statistics.median(ratios) >= 0.8 else 1


if __name__ == "__main__":
    sys.exit(main())
