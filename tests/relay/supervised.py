"""A small family of processes under the real supervisor: `python -m tests.relay.supervised FOLDER [ROLE…]`.

Roles: `listener` answers each connection with its pid (the port is printed first), `lazy` does so and begins with the
first one, `sleeper` waits for SIGTERM, `failing` raises at once, `deaf` ignores SIGTERM. Each process notes its pid in
a file of its role's name.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.relay import processes
from gateway.relay.processes import Role
from gateway.relay.sockets import bind

DEAF_SECONDS = 1.0  # until who does not end is killed


def note_pid(folder: Path, name: str) -> None:
    with (folder / name).open("a") as file:
        file.write(f"{os.getpid()}\n")


def listen(listening: socket.socket) -> None:
    listening.setblocking(True)
    while True:
        connection, _ = listening.accept()
        connection.sendall(f"{os.getpid()}\n".encode())
        connection.close()


def wait() -> None:
    while True:
        time.sleep(60)


def fail() -> None:
    raise RuntimeError("cannot start")


def main(folder: Path, names: list[str]) -> int:
    bound = bind("test", "127.0.0.1:0", 1)
    print(bound.address, flush=True)
    works: dict[str, Callable[[], None]] = {
        "listener": lambda: listen(bound.sockets[0]),
        "lazy": lambda: listen(bound.sockets[0]),
        "sleeper": wait,
        "deaf": wait,
        "failing": fail,
    }
    handlers: dict[str, Any] = {"sleeper": lambda *_: sys.exit(0), "deaf": signal.SIG_IGN}

    def role(name: str) -> Role:
        def run() -> None:
            signal.signal(signal.SIGTERM, handlers.get(name, signal.SIG_DFL))
            note_pid(folder, name)
            works[name]()

        return Role(name, run, bound.sockets[0] if name == "lazy" else None)

    processes.STOP_SECONDS = DEAF_SECONDS
    return processes.supervise(
        [role(name) for name in names], log_level="info", on_started=lambda: print("up", flush=True)
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
