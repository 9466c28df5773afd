"""The parent of `gatepost run` and `gatepost smtp`: forks each process, restarts what dies, ends all of them together.

It has no thread and no event loop, so that a fork is safe, and does nothing with mail. Modules are imported and
frozen out of the garbage collector before the first fork: the children share those pages.
"""

import ctypes
import gc
import itertools
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from gateway import log, metrics

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
HEALTHY_SECONDS = 30.0  # Whoever lived so long is restarted without delay.
SOCKET_POLL_SECONDS = 0.2  # how often a socket is looked at whose process is not there
STOP_SECONDS = 40.0  # More than the longest drain; after that SIGKILL.
# Mail makes many short-lived values without cycles: with Python's 700 a collection comes every few messages.
GC_THRESHOLDS = (20_000, 20, 20)
PR_SET_PDEATHSIG = 1  # linux/prctl.h
# CPython's own allocator (Objects/obmalloc.c): objects up to 512 octets, by size in steps of 16, in pools of 16 KiB.
SLOT_SIZES = range(32, 513, 16)
POOL_BYTES = 1 << 14
POOL_HEAD_BYTES = 48
EMPTY_BYTES = sys.getsizeof(b"")
MOST_FILLED_BYTES = 8 << 20  # of all sizes; ten times what the gaps take

WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}


class Role(Struct, frozen=True):
    """One process: its name, and what it does until SIGTERM. With `waits_at` it begins when somebody connects there."""

    name: str
    run: Callable[[], None]
    waits_at: socket.socket | None = None


class _Child:
    def __init__(self, role: Role) -> None:
        self.role = role
        self.pid = 0
        self.started_at = 0.0
        self.pause = FIRST_PAUSE_SECONDS
        self.start_at = 0.0  # monotonic: not before


def supervise(roles: Sequence[Role], *, log_level: str, on_started: Callable[[], None] | None = None) -> int:
    """Run all roles until SIGTERM or SIGINT; return the exit status (0 after an orderly end)."""
    gc.collect()
    gaps = fill_gaps()
    gc.freeze()
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    children = [_Child(role) for role in roles]
    _start_due(children, log_level)
    if on_started is not None:
        on_started()
    while True:
        received = signal.sigtimedwait(WATCHED, _wait_seconds(children))
        if received is not None and received.si_signo != signal.SIGCHLD:
            break
        _reap(children)
        _start_due(children, log_level)
    gaps.clear()
    return _stop(children)


def fill_gaps() -> list[object]:
    """Return objects that fill what is free within the pages in use, to be kept for as long as children are made.

    Otherwise the first objects of each child would go into gaps all over the shared pages, each of which is copied for
    it: 2 MB a process. A size is done once a whole pool has gone to us. Where that never happens the allocator is
    another one (PYTHONMALLOC, builds without the GIL), and nothing is kept. Slots of 16 octets hold next to nothing.
    """
    filling: list[object] = []
    numbers = itertools.count(1 << 20)
    taken = 0
    for size in SLOT_SIZES:
        pool, in_pool = 0, 0
        while in_pool < (POOL_BYTES - POOL_HEAD_BYTES) // size - 2:  # two for what is made in between
            # No bytes object is as small as an int, of which there are many.
            one = bytes(size - EMPTY_BYTES) if size > EMPTY_BYTES else next(numbers)
            filling.append(one)
            taken += size
            if taken > MOST_FILLED_BYTES:
                return []
            in_pool = in_pool + 1 if id(one) // POOL_BYTES == pool else 1
            pool = id(one) // POOL_BYTES
    return filling


def _start_due(children: Sequence[_Child], log_level: str) -> None:
    for child in children:
        if child.pid == 0 and time.monotonic() >= child.start_at and _is_wanted(child.role):
            _start(child, log_level)


def _is_wanted(role: Role) -> bool:
    """True unless the process waits for its first connection, as the mail drop does: most gateways need none."""
    return role.waits_at is None or bool(select.select([role.waits_at], [], [], 0)[0])


def _wait_seconds(children: Sequence[_Child]) -> float:
    """Until the next restart is due, at most a second: a lost SIGCHLD is noticed soon anyway."""
    absent = [child for child in children if child.pid == 0]
    longest = SOCKET_POLL_SECONDS if any(child.role.waits_at is not None for child in absent) else 1.0
    waits = [child.start_at - time.monotonic() for child in absent if child.role.waits_at is None]
    return max(0.0, min([longest, *waits]))


def _start(child: _Child, log_level: str) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_child(child.role, log_level, parent)
    child.pid = pid
    child.started_at = time.monotonic()


def _be_child(role: Role, log_level: str, parent: int) -> None:
    """Never returns: the child ends here, without the parent's clean-up."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == parent:  # else the parent died before the prctl
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
            log.configure(log_level, role.name)
            metrics.reset()
            gc.set_threshold(*GC_THRESHOLDS)
            log.info("process.started", pid=os.getpid())
            role.run()
            log.info("process.stopped", pid=os.getpid())
            status = 0
    except KeyboardInterrupt:
        status = 0
    except BaseException as error:  # border: whatever it was, it is logged and the parent restarts the process
        log.error("process.failed", error=f"{type(error).__name__}: {error}", where=_where(error))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""


def _reap(children: Sequence[_Child]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        for child in children:
            if child.pid == pid:
                _note_death(child, status)


def _note_death(child: _Child, status: int) -> None:
    lived = time.monotonic() - child.started_at
    child.pause = FIRST_PAUSE_SECONDS if lived > HEALTHY_SECONDS else min(child.pause * 2, LONGEST_PAUSE_SECONDS)
    child.start_at = time.monotonic() + child.pause
    log.error(
        "process.died",
        name=child.role.name,
        pid=child.pid,
        status=os.waitstatus_to_exitcode(status),
        again_in_seconds=child.pause,
    )
    child.pid = 0


def _stop(children: Sequence[_Child]) -> int:
    """Tell all to end, and wait; return 0, or 1 when one had to be killed. What was not delivered is in the queue."""
    alive = {child.pid: child for child in children if child.pid}
    for pid in alive:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while alive and time.monotonic() < deadline:
        signal.sigtimedwait({signal.SIGCHLD}, 0.2)
        alive = {pid: child for pid, child in alive.items() if not _has_ended(pid)}
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return 1 if alive else 0


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
