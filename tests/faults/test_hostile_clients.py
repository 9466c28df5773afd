"""Clients that stall, flood and never end: memory and time stay bounded, and everybody else is served meanwhile."""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from bench.memory import resident_kb, set_back
from tests.faults.hop import NextHop
from tests.faults.raw_client import RawClient
from tests.faults.sender import send_one
from tests.product import Product, policy_for, wait_until

IDLE_SECONDS = 2
PER_NETWORK = 40
RECIPIENTS = 1000
COMMANDS = 3000
MESSAGE_BYTES = 20 << 20
MB = 1 << 20
ENVELOPE = b"MAIL FROM:<load@partner.example.com>\r\nRCPT TO:<anna@corp.example.com>\r\nDATA\r\n"
OTHER_NETWORK = "127.0.0.2"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A Gatepost with tight limits, for all tests of this file."""
    limits = {
        "idle_seconds": IDLE_SECONDS,
        "session_seconds": 12,
        "connections_per_network": PER_NETWORK,
        "recipients": RECIPIENTS,
        "commands": COMMANDS,
        "message_bytes": MESSAGE_BYTES,
    }
    with NextHop() as hop:
        policy = policy_for(hop.port, limits=limits)
        with Product(tmp_path_factory.mktemp("guarded") / "gatepost", hop.port, policy=policy) as product:
            yield product


@pytest.fixture
def memory(guarded: Product) -> Iterator[None]:
    """The processes that take mail may not grow by more than two messages of the greatest size."""
    workers = [guarded.pid_of("smtp-1"), guarded.pid_of("smtp-2")]
    before = {}
    for pid in workers:
        set_back(pid)
        before[pid] = resident_kb(pid)[0]
    yield
    for pid, resident in before.items():
        highest = resident_kb(pid)[1]
        assert highest, f"worker {pid} is gone"
        assert (highest - resident) * 1024 < 2 * MESSAGE_BYTES


def assert_served(product: Product, source: str = "127.0.0.1") -> None:
    """An ordinary client gets its greeting and its 250 within a second or two."""
    began = time.monotonic()
    with RawClient(product.port, source) as client:
        client.hello()
        client.send(ENVELOPE)
        assert [client.code() for _ in range(3)] == [250, 250, 354]
        client.send(b"From: load@partner.example.com\r\n\r\nHello\r\n.\r\n")
        assert client.code() == 250
    assert time.monotonic() - began < 3


def test_a_silent_peer_is_cut_off_and_nobody_waits_for_it(guarded: Product) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(RawClient(guarded.port)) for _ in range(PER_NETWORK - 5)]
        assert_served(guarded)
        for client in silent:
            assert client.codes_until_closed() == [220, 421]


@pytest.mark.parametrize(
    "opening",
    [
        b"",
        b"EH",
        b"EHLO client.example\r\nMAIL FROM:<a@partner.example.com>\r\n",
        b"EHLO c.example\r\n" + ENVELOPE + b"X: 1\r\n",
    ],
    ids=["nothing", "half a command", "half an envelope", "half a message"],
)
def test_whoever_stops_in_the_middle_is_cut_off(guarded: Product, opening: bytes) -> None:
    with RawClient(guarded.port) as client:
        client.send(opening)
        began = time.monotonic()
        assert client.is_closed_within(IDLE_SECONDS + 4)
        assert time.monotonic() - began > IDLE_SECONDS - 1


def test_one_network_cannot_take_all_connections(guarded: Product) -> None:
    with ExitStack() as stack:
        greetings = Counter(stack.enter_context(RawClient(guarded.port)).code() for _ in range(2 * PER_NETWORK))
        assert greetings == {220: PER_NETWORK, 421: PER_NETWORK}
        assert_served(guarded, OTHER_NETWORK)
    wait_until(lambda: is_greeted(guarded), 10, "connections are free again")


def is_greeted(product: Product) -> bool:
    with RawClient(product.port) as client:
        return client.code() == 220


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_flood_of_connections_leaves_nothing_behind(guarded: Product) -> None:
    workers = [guarded.pid_of("smtp-1"), guarded.pid_of("smtp-2")]
    before = {pid: open_files(pid) for pid in workers}
    for _ in range(500):
        with RawClient(guarded.port):
            pass  # gone before the greeting
    wait_until(lambda: is_greeted(guarded), 10, "a greeting after the flood")
    assert_served(guarded)
    # A few more may serve what was just delivered.
    wait_until(lambda: all(open_files(pid) < before[pid] + 10 for pid in workers), 10, "the end of all sockets")
    assert [guarded.pid_of("smtp-1"), guarded.pid_of("smtp-2")] == workers


@pytest.mark.usefixtures("memory")
def test_endless_commands_come_to_an_end(guarded: Product) -> None:
    with RawClient(guarded.port) as client:
        client.hello()
        sender = threading.Thread(target=client.send_until_cut, args=(b"NOOP\r\n" * 1000, 1000), daemon=True)
        sender.start()
        codes = client.codes_until_closed()
        sender.join(30)
    assert codes[-1] == 421
    assert set(codes[:-1]) == {250}
    assert len(codes) <= COMMANDS + 1


@pytest.mark.usefixtures("memory")
def test_endless_errors_come_to_an_end_sooner(guarded: Product) -> None:
    with RawClient(guarded.port) as client:
        client.hello()
        client.send_until_cut(b"FROB\r\n" * 1000, 10)
        codes = client.codes_until_closed()
    assert codes[-1] == 421
    assert len(codes) < 50


@pytest.mark.usefixtures("memory")
def test_of_100_000_recipients_only_so_many_are_taken(guarded: Product) -> None:
    with RawClient(guarded.port) as client:
        client.hello()
        client.send(b"MAIL FROM:<load@partner.example.com>\r\n")
        assert client.code() == 250
        batch = b"".join(b"RCPT TO:<person%d@corp.example.com>\r\n" % number for number in range(1000))
        sender = threading.Thread(target=client.send_until_cut, args=(batch, 100), daemon=True)
        sender.start()
        codes = Counter(client.codes_until_closed())
        sender.join(30)
    assert codes[250] <= RECIPIENTS
    assert set(codes) <= {250, 452, 421}
    assert_served(guarded)


def stream(product: Product, opening: bytes, piece: bytes, times: int, closing: bytes) -> list[int]:
    """Send a long thing while somebody reads, and return the codes that came after the envelope's."""
    with RawClient(product.port) as client:
        client.hello()
        client.send(ENVELOPE)
        assert [client.code() for _ in range(3)] == [250, 250, 354]

        def write() -> None:
            client.send(opening)
            if client.send_until_cut(piece, times) == times:
                client.send_until_cut(closing, 1)

        sender = threading.Thread(target=write, daemon=True)
        sender.start()
        codes = client.codes_until_closed()
        sender.join(30)
    return codes


@pytest.mark.usefixtures("memory")
def test_a_header_of_10_mb_is_refused(guarded: Product) -> None:
    codes = stream(
        guarded,
        b"From: load@partner.example.com\r\n",
        b"X-Long: " + b"a" * 500 + b"\r\n",
        20_000,
        b"\r\nHi\r\n.\r\nQUIT\r\n",
    )
    assert codes[0] == 552


@pytest.mark.usefixtures("memory")
def test_one_field_of_10_mb_is_refused(guarded: Product) -> None:
    codes = stream(guarded, b"Subject: ", b"a" * MB, 10, b"\r\n\r\nHi\r\n.\r\nQUIT\r\n")
    assert codes[0] == 552


@pytest.mark.usefixtures("memory")
def test_a_line_of_100_mb_in_a_message_is_refused(guarded: Product) -> None:
    codes = stream(guarded, b"From: load@partner.example.com\r\n\r\n", b"a" * MB, 100, b"\r\n.\r\nQUIT\r\n")
    assert codes[0] == 552


@pytest.mark.usefixtures("memory")
def test_a_command_line_of_100_mb_is_skipped(guarded: Product) -> None:
    with RawClient(guarded.port) as client:
        client.hello()
        whole = client.send_until_cut(b"a" * MB, 100) == 100
        client.send_until_cut(b"\r\nNOOP\r\nQUIT\r\n", 1)
        codes = client.codes_until_closed()
    # Either the line is passed over, or somebody who sends such lines is not worth a reply.
    assert codes in ([500, 250, 221], [500, 421], [500], [421]), codes
    assert whole or codes != [500, 250, 221]


def test_slow_clients_slow_down_nobody_else_and_are_cut_off(guarded: Product) -> None:
    stop = threading.Event()
    with ExitStack() as stack:
        slow = [stack.enter_context(RawClient(guarded.port, OTHER_NETWORK)) for _ in range(20)]
        for client in slow:
            client.hello()
            client.send(ENVELOPE)

        def trickle() -> None:
            while not stop.wait(0.3):
                for client in slow:
                    client.send_until_cut(b"x", 1)

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        try:
            for number in range(20):
                began = time.monotonic()
                send_one(guarded.port, f"quick-{number}")
                assert time.monotonic() - began < 2
            # A byte now and then keeps the idle timer quiet; the session's length ends it.
            assert all(client.is_closed_within(20) for client in slow)
        finally:
            stop.set()
            thread.join()
