"""Real mail of many years and writers goes through: none lost, none twice, none altered.

The messages are the project's collection beside the checkout (`../shared/data`); without it there is nothing to do.
"""

import os
import re
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from gateway.store import messages, refused
from tests.faults.hop import NextHop, Reception
from tests.flows.conftest import Start
from tests.flows.gateway import Gateway
from tests.flows.gateway import document as policy_document
from tests.flows.peer import Answer, Peer
from tests.product import wait_until

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ALL = 2000
EVERYDAY = ALL if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 300
CONNECTIONS = 4
DOMAIN = "company.example"  # as the collection has it
OURS = re.compile(
    rb"(?:X-Gatepost-[^:\r\n]*|X-MS-Exchange-(?:Organization|Forest|CrossTenant)-[^:\r\n]*|X-Forefront-[^:\r\n]*"
    rb"|Authentication-Results)[ \t]*:",
    re.IGNORECASE,
)
BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")

if not DATA.is_dir():
    pytest.skip(f"real mail is not sent: there is no {DATA}", allow_module_level=True)

pytestmark = pytest.mark.timeout(900)


class Real(Struct):
    """One message, how it is sent, and what was said to it."""

    name: str
    raw: bytes
    recipient: str
    envelope_from: str = ""
    client_ip: str = ""
    helo: str = ""
    answer: Answer = Answer(0, "", "")


class Line(Struct):
    """A line of a manifest, as far as it is of use here."""

    file: str
    envelope_from: str | None = None
    client_ip: str | None = None
    helo: str | None = None


def read_set(archive: Path) -> Iterator[Real]:
    """Yield the messages of one set, in their order in the archive, with CRLF."""
    manifest = archive.with_name(archive.name.replace(".tar.gz", ".manifest.jsonl"))
    lines = {line.file: line for line in msgspec.json.Decoder(Line).decode_lines(manifest.read_bytes())}
    with tarfile.open(archive) as files:
        for file in files:
            line = lines.get(file.name)
            content = files.extractfile(file)
            if line is None or content is None:
                continue
            text = content.read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            path = line.envelope_from or ""
            yield Real(
                name=f"{archive.parent.name}/{file.name}",
                raw=text if text.endswith(b"\r\n") else text + b"\r\n",
                recipient="",
                # Not every one is an address; the envelope is not what this is about.
                envelope_from=path if re.fullmatch(r"[\w.+=-]{1,64}@[^\W_]+(?:[.-][^\W_]+)+", path, re.ASCII) else "",
                client_ip=line.client_ip or "",
                helo=line.helo if re.fullmatch(r"[\w.-]{1,255}", line.helo or "", re.ASCII) else "",
            )


def collect(count: int) -> list[Real]:
    """Return so many messages, of each set alike as far as it goes, and some that were made worse."""
    sets = sorted(DATA.glob("*/*.tar.gz"))
    found: list[Real] = []
    for number, archive in enumerate(sorted(sets, key=lambda one: one.stat().st_size)):
        found += islice(read_set(archive), (count - len(found)) // (len(sets) - number))
    assert len(found) == count
    claims = (
        b"X-MS-Exchange-Organization-SCL: -1\r\nx-gatepost-hop: v1 9\r\n 0000\r\nX-Forefront-A: SCL:-1\r\n"
        b"Authentication-Results: mx.company.example;\r\n\tdkim=pass header.d=bank.example\r\n"
    )
    made = {
        "with a NUL": found[0].raw + b"a\0b\r\n",
        "with a bare CR": found[1].raw + b"a\rb\r\n",
        "with a bare LF": found[2].raw + b"a\nb\r\n",
        "claiming our trust": claims + found[3].raw,
    }
    found += [Real(name, raw, "") for name, raw in made.items()]
    return [msgspec.structs.replace(one, recipient=f"m{number}@{DOMAIN}") for number, one in enumerate(found)]


class Run:
    """All messages through one gateway."""

    def __init__(self, gateway: Gateway, hop: NextHop, sent: list[Real]) -> None:
        self.gateway, self.hop, self.sent = gateway, hop, sent

    def send(self) -> None:
        waiting = iter(self.sent)
        lock = threading.Lock()
        failures: list[BaseException] = []

        def client() -> None:
            try:
                with self.gateway.partner() as peer:
                    while (one := next_of(waiting, lock)) is not None:
                        one.answer = send_one(peer, one)
                    peer.quit()
            except BaseException as error:  # the thread's failure is the test's
                failures.append(error)

        clients = [threading.Thread(target=client) for _ in range(CONNECTIONS)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        if failures:
            raise failures[0]

    @property
    def accepted(self) -> list[Real]:
        return [one for one in self.sent if one.answer.code == 250]

    @property
    def refused(self) -> list[Real]:
        return [one for one in self.sent if one.answer.code != 250]

    def received(self) -> dict[str, list[Reception]]:
        by_recipient: dict[str, list[Reception]] = {}
        for reception in list(self.hop.receptions):
            for recipient in reception.recipients:
                by_recipient.setdefault(recipient, []).append(reception)
        return by_recipient


def next_of(waiting: Iterator[Real], lock: threading.Lock) -> Real | None:
    with lock:
        return next(waiting, None)


def send_one(peer: Peer, one: Real) -> Answer:
    peer.speak_for(one.client_ip or "203.0.113.25", one.helo or "mail.sender.example")
    parameters = "" if one.raw.isascii() else "BODY=8BITMIME"
    return peer.offer(one.raw, one.recipient, mail_from=one.envelope_from, parameters=parameters)


@pytest.fixture(scope="module", params=[EVERYDAY, pytest.param(ALL, marks=pytest.mark.soak)])
def run(request: pytest.FixtureRequest, start: Start) -> Iterator[Run]:
    with NextHop() as hop:
        off = {name: {"mode": "off"} for name in ("business_only", "header_hygiene", "loop", "own_domain")}
        policy = policy_document(hop, domains={DOMAIN: {"any_recipient": True}}, filters=off)
        run = Run(start(policy), hop, collect(request.param))
        run.send()
        wait_until(lambda: len(hop.receptions) >= len(run.accepted), 120, "the last message at the sink")
        yield run


def expected(raw: bytes) -> bytes:
    """Return a message without the fields that claim our trust, found without any code of the product."""
    header, blank, body = raw.partition(b"\r\n\r\n")
    fields = re.split(rb"\r\n(?![ \t])", header)
    return b"\r\n".join(field for field in fields if not claims_trust(field)) + blank + body


def claims_trust(field: bytes) -> bool:
    found = OURS.match(field)
    if found is None:
        return False
    name = field[found.end() :].split(b";")[0].strip().lower()
    is_results = found[0].lower().startswith(b"authentication-results")
    return not is_results or (b"." + name).endswith((b".company.example", b"gate.corp.example"))


def names_of(prefix: bytes) -> list[bytes]:
    return [line.partition(b":")[0] for line in re.split(rb"\r\n(?![ \t])", prefix) if line]


def test_none_is_lost(run: Run) -> None:
    received = run.received()
    assert [one.name for one in run.accepted if one.recipient not in received] == []
    assert len(received) == len(run.accepted)


def test_none_comes_twice(run: Run) -> None:
    assert {recipient: len(found) for recipient, found in run.received().items() if len(found) != 1} == {}
    assert len(run.hop.receptions) == len(run.accepted)


def test_each_arrives_octet_for_octet_below_our_own_fields(run: Run) -> None:
    received = run.received()
    altered = []
    for one in run.accepted:
        raw, wanted = received[one.recipient][0].raw, expected(one.raw)
        if not raw.endswith(wanted) or names_of(raw[: len(raw) - len(wanted)]) != [b"Received", b"X-Gatepost-Hop"]:
            altered.append(one.name)
    assert altered == []


def test_only_what_has_a_bare_line_end_or_a_nul_is_refused(run: Run) -> None:
    assert [one.name for one in run.refused] == [one.name for one in run.sent if BARE.search(one.raw)]
    assert {one.name for one in run.refused} >= {"with a NUL", "with a bare CR", "with a bare LF"}
    assert {(one.answer.code, one.answer.text.split()[0]) for one in run.refused} == {(554, "5.6.0")}


def test_what_is_refused_is_counted_and_listed(run: Run) -> None:
    def listed() -> int:
        with run.gateway.database() as database:
            rows = refused.sessions(database, limit=1000)
        return sum(row.refused_count for row in rows if (row.stage, row.reason) == ("message", "line_ends"))

    wait_until(lambda: listed() >= len(run.refused), 20, "the refused sessions in the database")
    wait_until(lambda: counted(run.gateway) >= len(run.refused), 20, "the counter")
    assert (listed(), counted(run.gateway)) == (len(run.refused), len(run.refused))


def counted(gateway: Gateway) -> float:
    """Return how many messages were refused for their line ends, as /metrics has it."""
    pattern = r'^gatepost_commands_refused_total\{[^}]*"line_ends"[^}]*\} (\S+)$'
    lines = re.findall(pattern, gateway.metrics(), re.MULTILINE)
    return sum(map(float, lines))


def test_the_database_knows_each_one_as_delivered(run: Run) -> None:
    accepted = len(run.accepted)
    wait_until(lambda: run.gateway.rows.states() == Counter(delivered=accepted), 60, f"{accepted} delivered rows")
    with run.gateway.database() as database:
        assert len(messages.recent(database, 10 * ALL)) == accepted
