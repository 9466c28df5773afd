"""S28: while the database is away the relay goes on with the last good policy, and says so in log and /health."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from gateway.store import policies
from tests import make
from tests.faults.database_box import PostgresBox
from tests.flows.conftest import Start
from tests.flows.edge import arrival
from tests.flows.gateway import WORKERS, Gateway, document, processes
from tests.flows.peer import Answer
from tests.nexthop import NextHop
from tests.product import wait_until

NOTICED_SECONDS = 20.0  # a locked SQLite file is waited for, five seconds


@pytest.fixture(scope="module")
def on_sqlite(start: Start, inside: NextHop) -> Gateway:
    return start(document(inside, filters={"own_domain": {"mode": "enforce"}}))


@pytest.fixture(scope="module")
def box() -> Iterator[PostgresBox]:
    with PostgresBox() as box:
        yield box


@pytest.fixture(scope="module")
def on_postgresql(box: PostgresBox, start: Start, inside: NextHop) -> Gateway:
    return start(document(inside, filters={"own_domain": {"mode": "enforce"}}), database_url=box.url)


@contextmanager
def moved(gateway: Gateway, folder: Path) -> Iterator[None]:
    """Take the database file away."""
    files = list(gateway.data.glob("gatepost.db*"))
    for file in files:
        file.rename(folder / file.name)
    try:
        yield
    finally:
        for leftover in gateway.data.glob("gatepost.db*"):
            leftover.unlink()
        for file in files:
            (folder / file.name).rename(file)


@contextmanager
def stopped(box: PostgresBox) -> Iterator[None]:
    box.stop()
    try:
        yield
    finally:
        box.start()


def version_of(gateway: Gateway) -> int:
    with gateway.database() as database:
        return policies.load(database)[0]


def assert_goes_on(gateway: Gateway, inside: NextHop) -> list[Answer]:
    """Mail is judged by the policy, taken, answered in little time and delivered."""
    answers = []
    for _ in range(4):
        began = time.monotonic()
        answers.append(gateway.receive(make.message()))
        assert answers[-1].code == 250
        assert time.monotonic() - began < 5
    for one in answers:
        assert arrival(inside, one.ref)
    assert gateway.receive(make.message(from_="boss@corp.example")).code == 550
    with gateway.partner() as peer:
        assert peer.offer(make.message(), "ann@world.example").code == 550
    return answers


def assert_well_again(gateway: Gateway, answers: list[Answer], version: int) -> None:
    """What was taken meanwhile is known, under the policy that judged it."""
    assert {gateway.message(one.ref).policy_version for one in answers} == {version}
    wait_until(lambda: gateway.health()[0] == 200, 30, "/health is well again")


def assert_told(gateway: Gateway, version: int) -> None:
    """Every worker says in the log, once, that it goes on with the version; /health says it as well."""
    wait_until(lambda: processes(gateway.events("database.away")) >= set(WORKERS), NOTICED_SECONDS, "database.away")
    assert {event["policy_version"] for event in gateway.events("database.away")} == {version}
    status, checks = gateway.health()
    assert status == 503
    assert not checks["database"]["ok"]
    assert checks["policy"]["says"] == f"goes on with version {version}"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_without_its_database_the_relay_goes_on_with_the_last_good_version_and_says_so(
    request: pytest.FixtureRequest, inside: NextHop, tmp_path: Path, kind: str
) -> None:
    gateway = request.getfixturevalue(f"on_{kind}")
    version = version_of(gateway)
    away: AbstractContextManager[None] = moved(gateway, tmp_path)
    if kind == "postgresql":
        away = stopped(request.getfixturevalue("box"))
    with away:
        answers = assert_goes_on(gateway, inside)
        assert_told(gateway, version)
        answers += assert_goes_on(gateway, inside)
    assert_well_again(gateway, answers, version)
    assert processes(gateway.events("database.back")) >= set(WORKERS)


def test_a_database_that_takes_no_writes_is_told_too(on_sqlite: Gateway, inside: NextHop) -> None:
    version = version_of(on_sqlite)
    with on_sqlite.locked():
        answers = assert_goes_on(on_sqlite, inside)
        wait_until(lambda: on_sqlite.events("import.failed"), NOTICED_SECONDS, "import.failed")
        wait_until(lambda: on_sqlite.health()[0] == 503, NOTICED_SECONDS, "/health says so")
        assert not on_sqlite.health()[1]["database"]["ok"]
        answers += assert_goes_on(on_sqlite, inside)
    assert_well_again(on_sqlite, answers, version)
    assert on_sqlite.events("import.resumed")


def test_what_was_published_before_is_in_force_again_once_the_database_is_back(
    on_sqlite: Gateway, inside: NextHop, tmp_path: Path
) -> None:
    with moved(on_sqlite, tmp_path):
        assert_goes_on(on_sqlite, inside)
    domains = {"corp.example": {"any_recipient": True}, "late.example": {"any_recipient": True}}
    with on_sqlite.under(document(inside, domains=domains)):
        assert on_sqlite.receive(make.message(), "bob@late.example").code == 250


def test_started_without_its_database_it_goes_on_as_well_and_begins_no_new_one(
    on_sqlite: Gateway, inside: NextHop, tmp_path: Path
) -> None:
    version = version_of(on_sqlite)
    wait_until(lambda: on_sqlite.last_good_version() == version, 20, "the copy on disk")
    with moved(on_sqlite, tmp_path):
        on_sqlite.stop()
        on_sqlite.start()
        answers = assert_goes_on(on_sqlite, inside)
        assert {event["version"] for event in on_sqlite.events("policy.last_good")} == {version}
        assert not (on_sqlite.data / "gatepost.db").exists()
    assert_well_again(on_sqlite, answers, version)
