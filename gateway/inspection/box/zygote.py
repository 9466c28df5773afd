"""The zygote: an interpreter that has imported all parsers and forks children of the box, a millisecond each.

`become` is what the parent of all runs in a process of its own, and runs again when that has died. The interpreter is a
fresh one each time, not a fork of the parent: it never held the parent's secrets, its environment is empty and its
argument is the number of a descriptor.
"""

import encodings
import gc
import importlib
import locale
import os
import pkgutil
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn

from gateway.inspection import second_opinion
from gateway.inspection.box import child, sandbox
from gateway.inspection.box.channel import STARTED, Channel
from gateway.inspection.formats import openers
from gateway.inspection.look import Walk
from gateway.inspection.task import Errand, Task

DRAIN_POLL_SECONDS = 0.05


def become(channel: Channel) -> NoReturn:
    """Replace this process by the zygote. Children are asked for by `channel`."""
    requests = channel.zygote_end.fileno()
    os.set_inheritable(requests, True)
    arguments, environment = command(requests)
    sandbox.forget_capabilities()  # to listen on port 25, say
    os.execve(sys.executable, arguments, environment)


def command(requests: int) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the environment of the interpreter that reads requests from this descriptor."""
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
    return [sys.executable, "-s", "-m", "gateway.inspection.box.zygote", str(requests)], environment


def prepare() -> None:
    """Import whatever a child may need: it cannot open files, modules among them."""
    locale.setlocale(locale.LC_CTYPE, "C.UTF-8")  # libarchive gives no name that it cannot convert
    openers()
    for module in pkgutil.iter_modules(encodings.__path__):
        with suppress(ImportError):  # those of other systems: mbcs, oem
            importlib.import_module(f"encodings.{module.name}")
    # What is set up at its first use is set up now, for all children.
    second_opinion.warm_up()
    errand = Errand((Task("1", 0, 1),))
    Walk(errand).run(b"\n", errand.tasks)


def serve(requests: socket.socket) -> None:
    """Fork children until nobody is left to ask, or, after SIGTERM, until there is none.

    Workers that are told to end at the same time finish their messages with the children they have.
    """
    room = sandbox.address_space() + sandbox.ROOM_BYTES
    parent = os.getppid()
    sandbox.leave_host()
    sandbox.end_with_parent(signal.SIGTERM, parent)
    wakeups = _watch_signals()
    requests.setblocking(False)
    gc.collect()
    gc.freeze()
    watched = select.poll()
    watched.register(requests, select.POLLIN)
    watched.register(wakeups, select.POLLIN)
    is_ending = False
    while not (is_ending and _is_childless()):
        ready = [number for number, _ in watched.poll(DRAIN_POLL_SECONDS * 1000 if is_ending else None)]
        if wakeups.fileno() in ready:
            is_ending = bool(wakeups.recv(64)) or is_ending
        if requests.fileno() in ready and not _answer(requests, room):
            return


def _watch_signals() -> socket.socket:
    """SIGTERM makes the socket returned readable; SIGINT is the terminal's, and the parent sends SIGTERM then."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the children (wait(2))
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    return reader


def _is_childless() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def _answer(requests: socket.socket, room: int) -> bool:
    """Fork one child. False when nobody is left to ask for one."""
    try:
        asked, descriptors, _, _ = socket.recv_fds(requests, 1, 1)
    except BlockingIOError:
        return True
    for connection in descriptors:
        # A worker that hears nothing of its child sees the socket closed and asks again.
        with suppress(OSError):
            _fork(connection, room)
        os.close(connection)
    return bool(asked)


def _fork(connection: int, room: int) -> None:
    zygote = os.getpid()
    pid = os.fork()
    if pid == 0:
        child.run(connection, room, zygote)
    process = os.pidfd_open(pid)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, os.dup(connection)) as theirs:
            socket.send_fds(theirs, [STARTED], [process])
    finally:
        os.close(process)


def main() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, int(sys.argv[1])) as requests:
        requests.set_inheritable(False)
        prepare()
        serve(requests)


if __name__ == "__main__":
    main()
