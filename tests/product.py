"""The whole product as a test runs it: `gatepost run` in a folder of its own, with a scripted next hop behind it.

It is started, killed process by process or all together, started again on the same folder, and asked through its own
commands and log. Only processes that were started here are ever signalled.
"""

import contextlib
import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.commands import migrate
from gateway.commands.whitelist import entry_of
from gateway.policy.document import Document
from gateway.settings import Settings
from gateway.store import policies, whitelist
from gateway.store.database import Database
from tests.rows import Rows

PROJECT = Path(__file__).resolve().parents[1]
OUR_DOMAIN = "corp.example.com"
PARTNER = "partner.example.com"
START_SECONDS = 60.0
STOP_SECONDS = 60.0
PORTS = (20000, 32000)  # below the range from which the kernel gives clients their ports
RESERVED = Path(tempfile.gettempdir()) / f"gatepost-test-ports-{os.getuid()}"  # a locked file for each in use


def wait_until(condition: Callable[[], Any], seconds: float, what: str | Callable[[], object]) -> Any:
    """Return the first true value of `condition`; fail after so many seconds, naming `what` (asked only then)."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what() if callable(what) else what}")
        time.sleep(0.05)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on, and that no other test gets while this process lives."""
    RESERVED.mkdir(exist_ok=True)
    while True:
        port = random.SystemRandom().randrange(*PORTS)
        lock = os.open(RESERVED / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until this process ends
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
            return port
        os.close(lock)


def policy_for(hop_port: int, **changes: Any) -> dict[str, Any]:
    """Return the policy document of the tests: one domain, any recipient, one next hop, limits out of the way."""
    limits = {"connections": 2000, "connections_per_network": 2000, "connects_per_minute": 1_000_000}
    document: dict[str, Any] = {
        "company": "Corp",
        "hostname": "gate.example.com",
        "portal_url": "https://portal.example.com",
        "postmaster": f"postmaster@{OUR_DOMAIN}",
        "domains": {OUR_DOMAIN: {"any_recipient": True}},
        "filters": {"business_only": {"mode": "enforce"}},
        "routes": {"inside": {"hops": [{"host": "127.0.0.1", "port": hop_port}]}},
        "inbound_route": "inside",
        "limits": {**limits, **changes.pop("limits", {})},
    }
    return {**document, **changes}


class Product:
    """One Gatepost. `settings` become GATEPOST_* variables; `database_url` "" is SQLite in the folder."""

    def __init__(self, folder: Path, hop_port: int, *, policy: dict[str, Any] | None = None, **settings: Any) -> None:
        self.folder = folder
        self.data = Path(settings.pop("data_dir", folder / "data"))
        self.port = free_port()
        self.web_port = free_port()
        self.drop_port = free_port()
        self.log = folder / "gatepost.log"
        self.policy = policy or policy_for(hop_port)
        self.database_url = str(settings.get("database_url", ""))
        self._settings = settings
        self.killed_at = 0.0  # monotonic: when the last SIGKILL had been sent
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        values: dict[str, Any] = {
            "data_dir": self.data,
            "listeners": json.dumps([{"kind": "inbound", "address": f"127.0.0.1:{self.port}"}]),
            "web_bind": f"127.0.0.1:{self.web_port}",
            "drop_bind": f"127.0.0.1:{self.drop_port}",
            "workers": 2,
            "hostname": "gate.example.com",
            "min_free_mb": 64,
            "connect_seconds": 5,
            **self._settings,
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GATEPOST_")}
        return clean | {f"GATEPOST_{name.upper()}": str(value) for name, value in values.items() if value != ""}

    # -- life

    def prepare(self) -> None:
        """Make the database, publish the policy, admit the partner: what three commands do, without three starts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        migrate.prepare(Settings(data_dir=self.data, database_url=self.database_url))
        now = datetime.now(UTC)
        with self.database() as database:
            document = Document.model_validate(self.policy)
            policies.publish(database, document, by="tests", comment="tests", now=now)
            whitelist.add(database, entry_of(PARTNER, owner="tests", reason="sends mail"), by="tests", now=now)

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """The product's database, opened for the test."""
        database = Database(self.database_url or f"sqlite:///{self.data / 'gatepost.db'}", data_dir=self.data)
        try:
            yield database
        finally:
            database.close()

    def start(self) -> "Product":
        """Start `gatepost run` and wait for its greeting."""
        assert self._process is None, "it runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run"],
                cwd=PROJECT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._greets, START_SECONDS, lambda: f"a greeting from port {self.port}; log:\n{self.log_tail()}")
        return self

    def _greets(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"`gatepost run` ended:\n{self.log_tail()}"
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as client:
                client.settimeout(2)
                greeting = client.recv(512)
                client.sendall(b"QUIT\r\n")
                client.recv(512)
        except OSError:
            return False
        return greeting.startswith(b"220")

    def stop(self) -> int:
        """End in good order; return the exit status. What does not end in time is killed, and that is a failure."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise AssertionError(f"did not stop within {STOP_SECONDS:g} s:\n{self.log_tail()}") from None
        self._process = None
        return status

    def close(self) -> None:
        """End whatever still runs, however."""
        if self._process is not None:
            self.kill_all()

    def __enter__(self) -> "Product":
        self.prepare()
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- processes

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def processes(self) -> list[int]:
        """Return the pids of all processes that run, the parent first."""
        if self._process is None:
            return []
        return descendants(self._process.pid)

    def kill_one(self, chance: random.Random) -> str:
        """Kill one process, by chance the parent, with SIGKILL; return what was killed."""
        victims = self.processes()
        victim = chance.choice(victims)
        name = self.name_of(victim)
        if victim == self.pid:
            # The children end by themselves when the parent is gone; a start before that would share their sockets.
            self._kill_parent(victims)
        else:
            os.kill(victim, signal.SIGKILL)
            self.killed_at = time.monotonic()
        return name

    def _kill_parent(self, family: Sequence[int]) -> None:
        assert self._process is not None
        self._process.kill()
        self.killed_at = time.monotonic()
        self._process.wait()
        self._process = None
        wait_until(lambda: not any(map(is_alive, family)), STOP_SECONDS, "the orphans' end")

    def kill_all(self) -> None:
        """Kill every process with SIGKILL at once, as a power cut would, but that the disk keeps its cache."""
        assert self._process is not None
        family = self.processes()
        for pid in family:  # the parent first: it restarts nobody
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.killed_at = time.monotonic()
        self._process.wait()
        self._process = None
        wait_until(lambda: not any(map(is_alive, family)), 10, "the end of killed processes")

    def name_of(self, pid: int) -> str:
        """Return the role of a process, by its own line in the log."""
        for event in self.events("process.started"):
            if event.get("pid") == pid:
                return str(event["process"])
        return "parent" if self._process is not None and pid == self._process.pid else str(pid)

    def pid_of(self, role: str) -> int:
        """Return the pid of the living process whose role begins with `role`."""
        alive = set(self.processes())
        found = [
            e["pid"] for e in self.events("process.started") if e["process"].startswith(role) and e["pid"] in alive
        ]
        assert found, f"no process {role} runs"
        return int(found[-1])

    # -- questions

    def command(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one `gatepost` command."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *map(str, arguments)],
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if check and done.returncode:
            raise AssertionError(
                f"gatepost {' '.join(map(str, arguments))}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    @property
    def rows(self) -> Rows:
        """The database, as it is now."""
        return Rows(self.database)

    def retry_now(self) -> None:
        """Make everything that waits due, as the operator's command does."""
        self.command("queue", "retry", "--all", "--reason", "tests")

    def publish(self, document: dict[str, Any], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Publish a policy document."""
        file = self.folder / "policy.yaml"
        file.write_text(json.dumps(document, indent=1))
        return self.command("policy", "publish", file, "--comment", "test", check=check)

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """Return the log's events of that name, oldest first."""
        return [event for event in self._lines() if not name or event.get("event") == name]

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.log.exists():
            return
        for line in self.log.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    yield event

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def memory_mb(self) -> float:
        """Return the resident memory of all processes that take mail, shared pages counted in each."""
        return sum(resident_kb(pid) for pid in self.processes()) / 1000


def parents() -> dict[int, int]:
    """Return pid -> parent of all processes that are not zombies."""
    table = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            if fields[0] != b"Z":
                table[int(entry)] = int(fields[1])
    return table


def descendants(root: int) -> list[int]:
    """Return a process and all below it, parents before children."""
    table = parents()
    found = [root] if root in table else []
    for pid in found:
        found += [child for child, parent in table.items() if parent == pid]
    return found


def is_alive(pid: int) -> bool:
    return pid in parents()


def resident_kb(pid: int) -> int:
    """Return a process's resident size, 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")), 0)
