"""The child: opens the files of one message after the other. Locked in before it reads the first octet."""

import gc
import math
import os
import resource
import signal
import socket
import sys
import time
from typing import NoReturn

from gateway.inspection.box import sandbox, wire
from gateway.inspection.box.channel import READY
from gateway.inspection.look import Walk

MOST_MESSAGES = 1000  # then a fresh child takes over: whatever leaks or lurks goes with this one
GROWTH_KIB = 64 << 10  # of memory at its peak
CPU_SLACK_SECONDS = 2  # `Walk` ends by itself at its own limit; this is for what hangs in C
READ_BYTES = 1 << 16
GC_THRESHOLDS = (20_000, 20, 20)  # one message's objects are gone with it, nearly all without a cycle


def run(connection: int, room: int, zygote: int) -> NoReturn:
    """Be a child. Ends when its worker closes the socket, or by what a file does to it."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.stdin = sys.stdout = sys.stderr = None
        sandbox.lock_in(connection, room, zygote)
        gc.set_threshold(*GC_THRESHOLDS)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, sandbox.SOCKET) as ours:
            ours.send(READY)
            _serve(ours)
        status = 0
    finally:
        os._exit(status)


def _serve(ours: socket.socket) -> None:
    limit = _peak_kib() + GROWTH_KIB
    served = 0
    while (got := _receive(ours)) is not None:
        encoded, raw = got
        errand = wire.read_errand(encoded)
        _renew_cpu_time(errand.bounds.seconds)
        opened = Walk(errand).run(raw, errand.tasks)
        served += 1
        is_last = served >= MOST_MESSAGES or _peak_kib() > limit
        ours.sendall(wire.answer(opened, is_last=is_last))
        del got, encoded, raw, opened  # before it waits: a large message would stay in memory


def _receive(ours: socket.socket) -> tuple[memoryview, memoryview] | None:
    """Return the errand and the octets of the next message. None when there is none."""
    first = ours.recv(READ_BYTES)
    while 0 < len(first) < wire.REQUEST_HEAD.size:
        first += ours.recv(READ_BYTES) or _end()
    if not first:
        return None
    errand_size, raw_size = wire.REQUEST_HEAD.unpack_from(first)
    start = wire.REQUEST_HEAD.size + errand_size
    end = start + raw_size
    whole = memoryview(first if len(first) == end else _rest(ours, first, end))
    return whole[wire.REQUEST_HEAD.size : start], whole[start:end]


def _rest(ours: socket.socket, first: bytes, end: int) -> bytearray:
    whole = bytearray(end)
    whole[: len(first)] = first
    with memoryview(whole) as view:
        have = len(first)
        while have < end:
            have += ours.recv_into(view[have:]) or len(_end())
    return whole


def _end() -> bytes:
    """The worker has gone in the middle of a request."""
    os._exit(0)


def _renew_cpu_time(seconds: float) -> None:
    """Give this message its CPU time. The kernel ends a process that has had it, in C or in Python."""
    soft = math.ceil(time.process_time() + max(0.0, seconds)) + CPU_SLACK_SECONDS
    hard = resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
