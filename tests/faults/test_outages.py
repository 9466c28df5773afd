"""What the product stands on goes away and comes back: the next hop, the disk's room, the database."""

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import MakeProduct
from tests.faults.crash import Account
from tests.faults.database_box import PostgresBox
from tests.faults.hop import NextHop
from tests.faults.sender import Load, Refused, Sent, send_one
from tests.product import Product, policy_for, wait_until

# SQLite waits so long for a lock before it gives up (store/database.py); a lock must outlast it to be felt.
LOCKED_SECONDS = 7.0


def send_some(product: Product, prefix: str, count: int = 10) -> list[Sent]:
    return [send_one(product.port, f"{prefix}-{number}") for number in range(count)]


def assert_arrives(sent: list[Sent], hop: NextHop, seconds: float = 60) -> None:
    """Everything comes out, once and unaltered."""
    account = Account(sent, hop.receptions)
    wait_until(lambda: not account.missing(), seconds, lambda: f"delivery of {account.missing()[:3]}")
    assert account.problems() == []
    assert account.repeats() == 0


def assert_known(product: Product, sent: list[Sent], seconds: float = 60) -> None:
    """The database learns that all of it was delivered."""
    wanted = {(one.ident, recipient) for one in sent for recipient in one.recipients}

    def known() -> bool:
        states = product.rows.delivery_states()
        return all(states.get(pair) == ["delivered"] for pair in wanted)

    wait_until(known, seconds, lambda: f"{len(wanted)} delivered rows; there are {product.rows.states()}")


def test_mail_waits_for_a_next_hop_that_is_gone(product: Product, hop: NextHop) -> None:
    hop.close()
    sent = send_some(product, "gone")
    wait_until(lambda: product.rows.states()["queued"] == len(sent), 30, lambda: f"a queue; {product.rows.states()}")
    assert hop.receptions == []
    hop.open()
    product.retry_now()
    assert_arrives(sent, hop)
    assert_known(product, sent)


def test_the_queue_outlives_a_restart(product: Product, hop: NextHop) -> None:
    hop.close()
    sent = send_some(product, "restart")
    assert product.stop() == 0
    product.start()
    hop.open()
    product.retry_now()
    assert_arrives(sent, hop)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MB. Mounting needs root; elsewhere the test below with the setting has to do."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "gatepost", place], capture_output=True)
    if os.geteuid() != 0 or done.returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk_turns_mail_away_and_loses_none(make_product: MakeProduct, hop: NextHop, small_disk: Path) -> None:
    product = make_product(data_dir=small_disk / "data", min_free_mb=8, reserve_mb=4)
    sent = send_some(product, "before", 3)
    filler = small_disk / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        for _ in range(48):
            file.write(bytes(1 << 20))
            file.flush()
    assert shutil.disk_usage(small_disk).free < 1 << 20
    with pytest.raises(Refused) as refusal:
        wait_until(lambda: not send_one(product.port, f"full-{time.monotonic_ns()}"), 10, "a refusal")
    assert refusal.value.code == 452
    filler.unlink()
    wait_until(lambda: sent.append(send_when_possible(product, "after")) or True, 20, "mail is taken again")
    assert_arrives(sent, hop)
    assert_known(product, sent)


def send_when_possible(product: Product, ident: str) -> Sent:
    """Send one message as soon as it is taken."""

    def attempt() -> Sent | None:
        with contextlib.suppress(Refused):
            return send_one(product.port, f"{ident}-{time.monotonic_ns()}")
        return None

    sent = wait_until(attempt, 20, f"{ident} is taken")
    assert isinstance(sent, Sent)
    return sent


def test_below_the_wanted_free_space_mail_is_answered_452(make_product: MakeProduct, tmp_path: Path) -> None:
    more_than_there_is = shutil.disk_usage(tmp_path).total // (1 << 20) + 1000
    product = make_product(min_free_mb=more_than_there_is)
    with pytest.raises(Refused) as refusal:
        send_one(product.port, "none")
    assert refusal.value.code == 452
    assert refusal.value.text.startswith("4.3.1")


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold SQLite's write lock, as a backup tool or a stuck process may."""
    other = sqlite3.connect(file, isolation_level=None, timeout=30)
    try:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


def test_a_database_locked_for_long_delays_no_mail(product: Product, hop: NextHop) -> None:
    sent = send_some(product, "before", 2)
    with locked(product.data / "gatepost.db"):
        until = time.monotonic() + LOCKED_SECONDS
        while time.monotonic() < until:
            began = time.monotonic()
            sent.append(send_one(product.port, f"locked-{len(sent)}"))
            assert time.monotonic() - began < 2
            time.sleep(0.5)
        assert_arrives(sent, hop, 5)
    assert_known(product, sent)


def move_database(product: Product, source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for file in source.glob("gatepost.db*"):
        file.rename(target / file.name)


def test_a_database_that_is_gone_stops_no_mail(product: Product, hop: NextHop, tmp_path: Path) -> None:
    sent = send_some(product, "before", 2)
    assert_known(product, sent)
    away = tmp_path / "away"
    move_database(product, product.data, away)
    sent += send_some(product, "gone")
    assert_arrives(sent, hop)
    for leftover in product.data.glob("gatepost.db*"):
        leftover.unlink()
    move_database(product, away, product.data)
    sent += send_some(product, "back", 2)
    assert_arrives(sent, hop)
    assert_known(product, sent)
    assert product.rows.states() == {"delivered": sum(len(one.recipients) for one in sent)}


def test_started_without_its_database_it_goes_on_with_the_last_good_policy(
    product: Product, hop: NextHop, tmp_path: Path
) -> None:
    sent = send_some(product, "before", 2)
    assert_known(product, sent)
    assert product.stop() == 0
    away = tmp_path / "away"
    move_database(product, product.data, away)
    (product.data / "gatepost.db").mkdir()  # so that no new database can be made in its place
    product.start()
    sent += send_some(product, "gone", 5)
    assert_arrives(sent, hop)
    (product.data / "gatepost.db").rmdir()
    move_database(product, away, product.data)
    assert_known(product, sent)


def test_postgresql_may_stop_and_come_back(make_product: MakeProduct, hop: NextHop) -> None:
    with PostgresBox() as box:
        product = make_product(database_url=box.url)
        sent = send_some(product, "before", 2)
        assert_known(product, sent)
        box.stop()
        sent += send_some(product, "stopped")
        assert_arrives(sent, hop)
        box.start()
        sent += send_some(product, "back", 2)
        assert_arrives(sent, hop)
        assert_known(product, sent)
        assert product.stop() == 0


def test_with_the_database_away_too_long_mail_is_deferred_not_lost(make_product: MakeProduct, hop: NextHop) -> None:
    product = make_product(max_unimported=20, workers=1)
    with locked(product.data / "gatepost.db"), Load(product.port, seed=7, connections=1, pause=0.02) as load:
        wait_until(lambda: load.refusals, 30, "a refusal")
    assert load.refusals[0].startswith("451 4.3.0")
    assert_arrives(load.accepted, hop)
    assert_known(product, load.accepted)
    send_when_possible(product, "again")


SLOW = "anna@slow.example.com"


def test_a_next_hop_that_hangs_holds_up_only_its_own_mail(make_product: MakeProduct, hop: NextHop) -> None:
    # The other domain's hop takes connections and never says a word.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        routes = {
            "inside": {"hops": [{"host": "127.0.0.1", "port": hop.port}]},
            "silent": {"hops": [{"host": "127.0.0.1", "port": silent.getsockname()[1]}]},
        }
        domains = {"corp.example.com": {"any_recipient": True}, "slow.example.com": {"any_recipient": True}}
        policy = policy_for(hop.port, routes=routes, domains=domains, domain_routes={"slow.example.com": "silent"})
        product = make_product(policy=policy)
        slow = 30
        for number in range(slow):
            send_one(product.port, f"slow-{number}", (SLOW,))
        sent = send_some(product, "fast")
        assert_arrives(sent, hop, 10)
        assert_known(product, sent, 10)
        # Nobody gave the slow ones up, or delivered them elsewhere.
        wait_until(lambda: product.rows.open_count() == slow, 10, lambda: f"the slow ones: {product.rows.states()}")
        assert {recipient for one in hop.receptions for recipient in one.recipients}.isdisjoint({SLOW})
