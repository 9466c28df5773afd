"""A real zygote with scripted openers: what its children may do is what those of the product may do."""

import ctypes
import errno
import os
import re
import resource
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.inspection import look
from gateway.inspection.box import sandbox, wire, zygote
from gateway.inspection.box.channel import Channel
from gateway.inspection.facts import Link, Part
from gateway.inspection.look import Look
from gateway.inspection.task import Bounds, Errand, Opened, Task

HOST_SOCKET = "\0gatepost-box.test"  # an abstract socket that the tests listen at


def task(kind: str, path: str = "1", start: int = 0, end: int = 5) -> Task:
    """A part that the opener `kind` opens."""
    return Task(path, start, end, declared_types=(kind,), names=("a.bin",), is_attachment=True)


def errand(*kinds: str, seconds: float = 5.0) -> Errand:
    """Parts 1, 2, ... of a message, five octets each."""
    tasks = (task(kind, str(number), 5 * (number - 1), 5 * number) for number, kind in enumerate(kinds, 1))
    return Errand(tuple(tasks), bounds=Bounds(seconds=seconds))


def whole(raw: bytes) -> Errand:
    """One part that is the whole message."""
    return Errand((task("large", end=len(raw)),))


@contextmanager
def running(channel: Channel, *, uid: int = 0, without: str = "") -> Iterator[int]:
    """Run a zygote whose openers are those below; yield its process id. `without`: "seccomp" or "landlock"."""
    pid = os.fork()
    if pid == 0:
        be_zygote(channel, uid, without)
    try:
        yield pid
    finally:
        end(pid)


def be_zygote(channel: Channel, uid: int = 0, without: str = "") -> None:
    try:
        channel.worker_end.close()
        if without:
            getattr(sandbox, without).restrict = lambda libc: False
        look.openers = lambda: {kind: (opener,) for kind, opener in OPENERS.items()}
        look.found_types = lambda data, names, declared_types: declared_types[:1]
        zygote.prepare()
        if uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        zygote.serve(channel.zygote_end)
    finally:
        os._exit(0)


def end(pid: int) -> None:
    """End a process that the test has started, unless it has ended."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# --- Openers that try to get out --------------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_PRESENT = ctypes.create_string_buffer(16)


def _call(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def _connect(family: int, address: object) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.connect(address)


def _read_memory(pid: int) -> None:
    """Read a few octets that lie at the same place in the process that this one was forked from."""
    kept = (ctypes.c_void_p * 2)(ctypes.addressof(_PRESENT), len(_PRESENT))
    got = ctypes.create_string_buffer(len(_PRESENT))
    into = (ctypes.c_void_p * 2)(ctypes.addressof(got), len(_PRESENT))
    _call(_libc.process_vm_readv(pid, into, 1, kept, 1, 0))


def _raise_limit() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


ESCAPES: dict[str, Callable[[], object]] = {
    "reads a file": lambda: open("/etc/passwd", "rb").close(),
    "reads another's environment": lambda: open("/proc/1/environ", "rb").close(),
    "reads its own environment": lambda: open("/proc/self/environ", "rb").close(),
    "writes a file": lambda: open("/tmp/gatepost-box.test", "wb").close(),
    "lists a folder": lambda: os.listdir("/"),
    "removes a file": lambda: os.unlink("/tmp/gatepost-box-kept.test"),
    "makes a folder": lambda: os.mkdir("/tmp/gatepost-box-folder.test"),
    "makes a socket": lambda: socket.socket().close(),
    "connects by TCP": lambda: _connect(socket.AF_INET, ("127.0.0.1", 9)),
    "connects to an abstract socket": lambda: _connect(socket.AF_UNIX, HOST_SOCKET),
    "makes a pipe": lambda: os.pipe(),
    "makes a memfd": lambda: os.memfd_create("a"),
    "doubles its descriptor": lambda: os.dup(0),
    "forks": _fork,
    "starts a thread": lambda: threading.Thread(target=len).start(),
    "executes a program": lambda: os.execv("/bin/true", ["/bin/true"]),
    "traces its parent": lambda: _call(_libc.ptrace(16, os.getppid(), 0, 0)),
    "reads its parent's memory": lambda: _read_memory(os.getppid()),
    "signals its parent": lambda: os.kill(os.getppid(), signal.SIGTERM),
    "signals all": lambda: os.kill(-1, signal.SIGTERM),
    "becomes root": lambda: os.setuid(0),
    "makes a namespace": lambda: _call(_libc.unshare(0x10000000)),
    "raises its limit of files": _raise_limit,
    "becomes dumpable": lambda: _call(_libc.prctl(4, 1, 0, 0, 0)),
}

# What the other layers do not refuse, and need not: it leads nowhere. kill(-1) says yes to whom it reached nobody.
ONLY_BY_SECCOMP = {"makes a namespace", "signals all", "becomes dumpable"}


def _escaping(act: Callable[[], object]) -> Callable[[Look], None]:
    def opener(file: Look) -> None:
        try:
            act()
        except OSError as error:
            file.note_text(errno.errorcode.get(error.errno or 0, "other"))
        except (RuntimeError, ValueError):  # a thread, a limit
            file.note_text("refused")
        else:
            file.note_active("launch")

    return opener


# --- Openers that break -----------------------------------------------------------------------------------------------


def _fill(file: Look) -> None:
    kept = []
    while True:
        kept.append(bytearray(16 << 20))


def _say(answer: bytes, *, size: int = -1) -> None:
    os.write(sandbox.SOCKET, wire.ANSWER_HEAD.pack(len(answer) if size < 0 else size, 0) + answer)
    os._exit(0)


def _lie(opened: Opened) -> None:
    _say(wire.answer(opened, is_last=False)[wire.ANSWER_HEAD.size :])


def _flood(file: Look) -> None:
    os.write(sandbox.SOCKET, wire.ANSWER_HEAD.pack(wire.MAX_ANSWER_BYTES, 0))
    while True:
        os.write(sandbox.SOCKET, b"\x90" * 65536)


def _part(**changes: object) -> Opened:
    return Opened((Part(**{"path": "1", **changes}),))  # type: ignore[arg-type]


def _spin(file: Look) -> None:
    re.match(r"(a|a)*$", "a" * 60 + "b")


def _recurse(file: Look) -> None:
    _recurse(file)


BREAKS: dict[str, tuple[Callable[[Look], object], str]] = {
    "reads at no address": (lambda file: ctypes.string_at(0), "crashed"),
    "aborts": (lambda file: os.abort(), "crashed"),
    "exits": (lambda file: os._exit(0), "crashed"),
    "ends the interpreter": (lambda file: sys.exit(), "crashed"),
    "prints garbage": (lambda file: os.write(sandbox.SOCKET, b"garbage, a good deal of it"), "crashed"),
    "says a few octets too many": (lambda file: os.write(sandbox.SOCKET, b"\xff" * 4), "crashed"),
    "says an octet and then nothing": (lambda file: (os.write(sandbox.SOCKET, b"\0"), time.sleep(600)), "too_long"),
    "says that a gigabyte follows": (lambda file: _say(b"", size=1 << 30), "crashed"),
    "says eight megabytes of nothing": (_flood, "crashed"),
    "answers nonsense": (lambda file: _say(b"\xc1"), "crashed"),
    "answers an empty list": (lambda file: _say(b"\x90"), "crashed"),
    "answers that there is nothing": (lambda file: _lie(Opened()), "crashed"),
    "answers for another part": (lambda file: _lie(_part(path="2")), "crashed"),
    "answers with an odd path": (lambda file: _lie(_part(path="1/x")), "crashed"),
    "answers with an unknown code": (lambda file: _lie(_part(active=("fun",))), "crashed"),
    "answers with an unknown problem": (lambda file: _lie(_part(problems=("fun",))), "crashed"),
    "answers with an odd hash": (lambda file: _lie(_part(sha256="x")), "crashed"),
    "answers with a link of another part": (
        lambda file: _lie(Opened((Part("1"),), (Link("7", "http://a.example/"),))),
        "crashed",
    ),
    "answers with a million parts": (
        lambda file: _say(struct.pack(">BBI", 0x95, 0xDD, 1 << 20) + b"\x80" * 64),
        "crashed",
    ),
    "spins in C": (_spin, "too_long"),
    "sleeps": (lambda file: time.sleep(600), "too_long"),
    "waits for more": (lambda file: os.read(sandbox.SOCKET, 1), "too_long"),
    "fills its memory": (_fill, "too_big"),
    "recurses": (_recurse, "opener_failed"),
}


def _good(file: Look) -> None:
    file.note_active("script")
    file.note_text(f"opened {file.path}")
    file.note_link("http://a.example/", "here")


OPENERS: dict[str, Callable[[Look], object]] = {
    "good": _good,
    "slow": lambda file: _spin(file) if file.data == b"spin!" else None,
    "surrogates": lambda file: file.open_member(b"x", "a\udcff.exe"),
    "texts": lambda file: [file.note_link("http://a.example/" + "x" * 100_000 + str(n)) for n in range(200)],
    "large": lambda file: None,
    **{kind: _escaping(act) for kind, act in ESCAPES.items()},
    **{kind: opener for kind, (opener, _) in BREAKS.items()},
}
