"""End a test's PostgreSQL when the process that started it is gone: SIGKILL leaves no time to clean up.

The server is no child of the test's process, so no signal of the kernel reaches it by itself. A small process of its
own session waits for the end of the other one; killed with a whole process group, tests do not take it along.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 5.0  # a server that was being started when its owner died may yet come
END_SECONDS = 10.0


@contextlib.contextmanager
def ends_with_us(data: Path, folder: Path) -> Iterator[None]:
    """If this process dies in the block, end the server whose data are in `data`, and remove `folder`."""
    command = [sys.executable, "-IS", __file__, str(os.getpid()), str(data.resolve()), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd="/", start_new_session=True) as watcher:
        try:
            yield
        finally:
            watcher.kill()


def watch(parent: int, data: Path, folder: Path) -> None:
    """Wait for the parent's end, then clean up after it."""
    with contextlib.suppress(ProcessLookupError):
        end = os.pidfd_open(parent)
        if os.getppid() == parent:  # else it died before, and the number may be another's
            select.select([end], [], [])
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server := server_of(data):
            os.kill(server, signal.SIGQUIT)  # "immediate": the data are of no use to anybody
            deadline = time.monotonic() + END_SECONDS
            while server_of(data) and time.monotonic() < deadline:
                time.sleep(0.05)
            break
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def server_of(data: Path) -> int:
    """Return the pid of the server that runs on these data, 0 when there is none."""
    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        # The file may be older than the process that has its number now.
        is_server = os.fsencode(data) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, IndexError):
        return 0
    return pid if is_server else 0


if __name__ == "__main__":
    watch(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
