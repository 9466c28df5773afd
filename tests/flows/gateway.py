"""The whole product for flow tests: its three listeners, a ledger from the start, and what it says of its mail."""

import contextlib
import json
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner

from gateway.accepted import State
from gateway.commands import cli, migrate
from gateway.commands.policy import check_document
from gateway.mail.errors import Conflict
from gateway.policy.document import Document
from gateway.policy.ledger import LedgerEntry, RelaySource, SendsAsUs, WhitelistEntry
from gateway.settings import Settings
from gateway.store import messages, policies, refused, relay_sources, sends_as_us, traces, whitelist
from gateway.store.messages import DeliveryRow, MessageRow
from gateway.store.refused import RefusedSession
from gateway.verdict import Trace
from tests import make
from tests.flows.peer import PARTNER, PARTNER_IP, Answer, Peer
from tests.nexthop import NextHop
from tests.product import Product, free_port, wait_until

SECONDS = 30.0
WORKERS = ("smtp-1", "smtp-2")
HOSTNAME = "gate.corp.example"
PORTAL = "https://portal.corp.example"
SERVER_IP = "10.20.0.5"  # of a server of ours, which is an approved relay source
SERVER_NAME = "app5.corp.internal"


def document(inside: NextHop, outside: NextHop | None = None, **changes: Any) -> dict[str, Any]:
    """Return the policy of a test: corp.example with any recipient, and XCLIENT believed from this machine."""
    limits = {"connections": 2000, "connections_per_network": 2000, "connects_per_minute": 1_000_000, "errors": 1000}
    routes = {"inside": {"hops": [hop_at(inside)]}, **({"outside": {"hops": [hop_at(outside)]}} if outside else {})}
    usual: dict[str, Any] = {
        "company": "Corp",
        "hostname": HOSTNAME,
        "portal_url": PORTAL,
        "postmaster": "postmaster@corp.example",
        "domains": {"corp.example": {"any_recipient": True}},
        "internal_names": ["corp.internal"],
        "routes": {**routes, **changes.pop("routes", {})},
        "inbound_route": "inside",
        "outbound_route": "outside" if outside else "",
        "trust": {"xclient": ["127.0.0.0/8"]},
        "limits": {**limits, **changes.pop("limits", {})},
    }
    return {**usual, **changes}


def hop_at(hop: NextHop, host: str = "127.0.0.1") -> dict[str, Any]:
    return {"host": host, "port": hop.port}


def server(**replaced: Any) -> RelaySource:
    """Return the approved relay source that most tests send from."""
    return make.relay_source(f"{SERVER_IP}/32", **replaced)


def processes(events: Iterable[dict[str, Any]]) -> set[str]:
    """Return which processes these lines of the log are from."""
    return {str(event["process"]) for event in events}


_ADD: dict[type, Callable[..., LedgerEntry]] = {
    RelaySource: relay_sources.add,
    WhitelistEntry: whitelist.add,
    SendsAsUs: sends_as_us.add,
}


class Gateway(Product):
    """One Gatepost with listeners of the kinds inbound (`port`), outbound and any."""

    def __init__(
        self,
        folder: Path,
        policy: dict[str, Any],
        entries: Sequence[LedgerEntry] = (),
        *,
        variables: dict[str, str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(folder, 0, policy=policy, **settings)
        self.outbound_port = free_port()
        self.any_port = free_port()
        self._entries = entries
        self._variables = variables or {}
        kinds = {"inbound": self.port, "outbound": self.outbound_port, "any": self.any_port}
        listeners = [{"kind": kind, "address": f"127.0.0.1:{port}"} for kind, port in kinds.items()]
        self._settings = {"hostname": HOSTNAME, "listeners": json.dumps(listeners), **settings}

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | self._variables

    def prepare(self) -> None:
        """Make the database with policy and ledger."""
        self.folder.mkdir(parents=True, exist_ok=True)
        migrate.prepare(Settings(data_dir=self.data, database_url=self.database_url))
        self.publish_here(self.policy)
        for entry in self._entries:
            self.add(entry)

    def start(self) -> "Gateway":
        """Start, and wait until every process that takes or delivers mail is at work."""
        before = len(self.events("policy.loaded")), len(self.events("listener.listening"))
        super().start()

        def is_at_work() -> bool:
            loaded = self.events("policy.loaded")[before[0] :]
            listening = self.events("listener.listening")[before[1] :]
            return processes(loaded) >= {*WORKERS, "deliver"} and processes(listening) >= set(WORKERS)

        wait_until(is_at_work, SECONDS, f"all processes at work; log:\n{self.log_tail()}")
        return self

    def add(self, entry: LedgerEntry) -> LedgerEntry:
        """Add a ledger entry without the start of a command; return it with the id that it got."""
        with self.database() as database:
            return _ADD[type(entry)](database, msgspec.structs.replace(entry, id=""), by="tests", now=datetime.now(UTC))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold SQLite's write lock: the database can be read and takes no writes."""
        other = sqlite3.connect(self.data / "gatepost.db", isolation_level=None, timeout=30)
        other.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")
            other.close()

    # -- policy

    def arrange(self, policy: dict[str, Any], entries: Sequence[LedgerEntry] = ()) -> None:
        """Have another policy in force from now on, and more ledger entries; those that are there stay as they are."""
        self.policy = policy
        for entry in entries:
            with contextlib.suppress(Conflict):
                self.add(entry)
        self.put_in_force(policy)

    def publish_here(self, document: dict[str, Any]) -> int:
        """Publish a document without the start of a command, checked as the command does."""
        with self.database() as database:
            return policies.publish(
                database,
                Document.model_validate(document),
                by="tests",
                comment="tests",
                now=datetime.now(UTC),
                check=check_document,
            )

    def put_in_force(self, document: dict[str, Any]) -> int:
        """Publish a document and wait until every worker uses it."""
        version = self.publish_here(document)
        wait_until(lambda: self.loaded_at(version).keys() >= set(WORKERS), SECONDS, f"version {version} in force")
        return version

    @contextlib.contextmanager
    def under(self, document: dict[str, Any]) -> Iterator[int]:
        """Have another document in force for a while; its version is what it returns."""
        try:
            yield self.put_in_force(document)
        finally:
            self.put_in_force(self.policy)

    def loaded_at(self, version: int) -> dict[str, datetime]:
        """Return when each process took a version up, as its log says."""
        loaded = [event for event in self.events("policy.loaded") if event["version"] == version]
        return {event["process"]: datetime.fromisoformat(event["at"]) for event in loaded}

    def last_good_version(self) -> int:
        """Return the version of the policy that is kept on disk for a start without the database."""
        copy = self.data / "policy-last-good.json"
        return int(json.loads(copy.read_text())["version"]) if copy.exists() else 0

    # -- mail

    def partner(self, ip: str = PARTNER_IP, **options: Any) -> Peer:
        """Connect from outside."""
        return Peer(self.port, ip, **options)

    def server(self, ip: str = SERVER_IP, name: str = SERVER_NAME) -> Peer:
        """Connect from a server of ours."""
        return Peer(self.outbound_port, ip, name=name, helo=name)

    def receive(self, raw: bytes, *recipients: str, ip: str = PARTNER_IP, mail_from: str = PARTNER) -> Answer:
        """Send one message from outside on a connection of its own."""
        with self.partner(ip) as peer:
            return peer.offer(raw, *recipients, mail_from=mail_from)

    def message(self, ref: str) -> MessageRow:
        """Wait for a message in the database, and return it."""

        def look() -> list[MessageRow]:
            with self.database() as database:
                return messages.find(database, ref)

        found = wait_until(look, SECONDS, f"{ref} in the database")
        assert isinstance(found[0], MessageRow)
        return found[0]

    def trace(self, ref: str) -> Trace:
        """Wait for a message in the database, and return its trace."""
        message_id = self.message(ref).id
        with self.database() as database:
            trace = traces.load(database, message_id)
        assert trace is not None
        return trace

    def outcomes(self, ref: str) -> list[DeliveryRow]:
        message_id = self.message(ref).id
        with self.database() as database:
            return messages.outcomes(database, message_id)

    def settled(self, ref: str, **states: State) -> dict[str, DeliveryRow]:
        """Wait until the recipients with these local parts are in these states; return all by their local parts."""

        def look() -> dict[str, DeliveryRow] | None:
            rows = {row.recipient.local: row for row in self.outcomes(ref)}
            return rows if {name: rows[name].state for name in states if name in rows} == states else None

        found = wait_until(look, SECONDS, f"{states} for {ref}; there is {self.outcomes(ref)}")
        assert isinstance(found, dict)
        return found

    def refused_session(self, ip: str) -> RefusedSession:
        """Wait for the row of a session of which something was refused, and return it."""

        def look() -> list[RefusedSession]:
            with self.database() as database:
                return refused.sessions(database, limit=10, peer_ip=ip)

        (row,) = wait_until(look, SECONDS, f"a refused session of {ip}")
        assert isinstance(row, RefusedSession)
        return row

    # -- answers to people

    def command(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one `gatepost` command, in this process: to start one for each would take longest of all."""
        settings = {name: value for name, value in self.environment.items() if name.startswith("GATEPOST_")}
        words = list(map(str, arguments))
        done = CliRunner().invoke(cli, words, env=settings, catch_exceptions=False)
        assert not (check and done.exit_code), f"gatepost {' '.join(words)}: {done.exit_code}\n{done.output}"
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

    def ask(self, *arguments: object) -> Any:
        """Run a command with `--json` and return what it answers."""
        return json.loads(self.command(*arguments, "--json").stdout)

    def health(self) -> tuple[int, dict[str, Any]]:
        """Return the status of /health, and its checks by name."""
        status, body = self._get("/health")
        return status, {check["name"]: check for check in json.loads(body)["checks"]}

    def metrics(self) -> str:
        """Return the text of /metrics."""
        return self._get("/metrics")[1].decode()

    def _get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}{path}", timeout=SECONDS) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
