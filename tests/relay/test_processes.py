"""The parent of all processes: what dies is started again while its port keeps accepting, and all end together."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SECONDS = 20.0


class Family:
    """The supervisor and its children; only these are ever signalled."""

    def __init__(self, folder: Path, *roles: str) -> None:
        self.folder = folder
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.relay.supervised", folder, *roles],
                cwd=PROJECT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        host, _, port = self.process.stdout.readline().strip().rpartition(":")
        self.address = (host, int(port))
        assert self.process.stdout.readline() == "up\n"

    def pids(self, role: str) -> list[int]:
        """Return the pids that a role has had, oldest first."""
        file = self.folder / role
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = (self.folder / "log").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def ask(self) -> int:
        """Return the pid of who answers on the port."""
        with socket.create_connection(self.address, SECONDS) as connection:
            return int(connection.recv(100))

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def close(self) -> None:
        family = [pid for role in ("listener", "lazy", "sleeper", "deaf") for pid in self.pids(role)]
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in family:
            if is_child_alive(pid):
                os.kill(pid, signal.SIGKILL)
        assert self.process.stdout is not None
        self.process.stdout.close()


def is_child_alive(pid: int) -> bool:
    """Tell whether one of our own processes is left under this pid."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"tests.relay.supervised" in status
    return False


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Callable[..., Family]]:
    with contextlib.ExitStack() as stack:

        def start(*roles: str) -> Family:
            one = Family(tmp_path, *roles)
            stack.callback(one.close)
            return one

        yield start


def test_who_is_killed_is_started_again_and_the_port_keeps_accepting(family: Callable[..., Family]) -> None:
    one = family("listener", "sleeper")
    first = one.ask()
    os.kill(first, signal.SIGKILL)
    until(lambda: not is_child_alive(first))  # until then it may still take a connection
    # At once: the connection waits in the socket, which the parent holds, until the next process takes it.
    second = one.ask()
    assert second != first
    until(lambda: one.pids("listener") == [first, second])
    [died] = one.events("process.died")
    assert (died["name"], died["pid"], died["status"]) == ("listener", first, -9)
    # The others were not touched.
    assert len(one.pids("sleeper")) == 1
    assert one.end() == 0


def test_who_waits_for_a_connection_begins_with_the_first_one(family: Callable[..., Family]) -> None:
    one = family("lazy", "sleeper")
    until(lambda: one.pids("sleeper"))
    assert one.pids("lazy") == []
    first = one.ask()
    assert one.pids("lazy") == [first]
    os.kill(first, signal.SIGKILL)
    until(lambda: one.events("process.died"))
    assert one.pids("lazy") == [first]  # nobody needs it
    assert one.ask() != first
    assert one.end() == 0


def test_who_cannot_start_is_tried_again_ever_more_rarely(family: Callable[..., Family]) -> None:
    one = family("failing", "listener")
    until(lambda: len(one.events("process.died")) >= 3)
    assert [event["again_in_seconds"] for event in one.events("process.died")][:3] == [0.4, 0.8, 1.6]
    failed = one.events("process.failed")[0]
    assert failed["error"] == "RuntimeError: cannot start"
    assert "supervised.py:" in failed["where"]
    assert one.ask() in one.pids("listener")
    assert one.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_of_them_in_good_order(family: Callable[..., Family], number: signal.Signals) -> None:
    one = family("sleeper", "listener")
    until(lambda: one.pids("sleeper") and one.pids("listener"))
    pids = [one.ask(), *one.pids("sleeper")]
    assert one.end(number) == 0
    assert not any(map(is_child_alive, pids))
    assert one.events("process.died") == []


def test_who_does_not_end_is_killed_and_that_is_a_failure(family: Callable[..., Family]) -> None:
    one = family("deaf", "sleeper")
    until(lambda: one.pids("deaf"))
    assert one.end() == 1
    assert not any(map(is_child_alive, one.pids("deaf") + one.pids("sleeper")))


def test_the_children_end_when_their_parent_is_killed(family: Callable[..., Family]) -> None:
    one = family("sleeper", "listener")
    until(lambda: one.pids("sleeper") and one.pids("listener"))
    pids = one.pids("sleeper") + one.pids("listener")
    assert all(map(is_child_alive, pids))
    one.process.kill()
    one.process.wait()
    until(lambda: not any(map(is_child_alive, pids)))


def run_filling(**environment: str) -> tuple[int, int, int]:
    """Fill the gaps in a process of its own; return in how many used pools new objects were before and after it, and
    the octets that fill.
    """
    code = """
import sys
from gateway.relay.processes import POOL_BYTES, fill_gaps

def pools(objects):
    return {id(one) // POOL_BYTES for one in objects}

def objects():
    made = [bytes(size) for size in range(1, 480, 16) for _ in range(400)]
    return made + [1_000_000 + number for number in range(4000)]

kept = [one for number, one in enumerate(objects()) if number % 2]  # every second one leaves a gap
before = pools(kept) & pools(objects())
filling = fill_gaps()
print(len(before), len(pools(kept) & pools(objects())), sum(map(sys.getsizeof, filling)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    before, after, octets = map(int, done.stdout.split())
    return before, after, octets


def test_new_objects_of_a_child_stay_out_of_pages_that_are_in_use() -> None:
    """Else each of them would cost a copy of a page that the processes share."""
    before, after, octets = run_filling(PYTHONMALLOC="pymalloc")
    assert before > 100
    assert after <= before / 20
    assert 0 < octets < 8_000_000


def test_with_another_allocator_nothing_is_filled() -> None:
    assert run_filling(PYTHONMALLOC="malloc")[2] == 0
