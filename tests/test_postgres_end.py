"""A test's PostgreSQL does not outlive the process that started it."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.postgres_end import server_of
from tests.product import PROJECT, wait_until

START = """
import sys, time
from tests.faults.database_box import PostgresBox
with PostgresBox() as box:
    print(box._folder, flush=True)
    sys.stdin.read()
"""


def start() -> tuple[subprocess.Popen[str], Path]:
    """Start a process with a server; return it and the server's folder."""
    command = [sys.executable, "-c", START]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    assert server_of(folder)
    return process, folder


def test_it_ends_when_its_owner_is_killed() -> None:
    process, folder = start()
    with process:
        process.kill()
    assert process.returncode == -signal.SIGKILL
    wait_until(lambda: not folder.exists(), 20, "the server's end")
    assert not server_of(folder)


def test_it_ends_with_its_owner() -> None:
    process, folder = start()
    with process:
        process.communicate()
    assert not folder.exists()
    assert process.returncode == 0
