"""How the box's processes lock themselves in. Each layer holds alone; which of them this machine has, `layers` tells.

The zygote leaves the host's network once, as that is dear; the rest is each child's own. Limits, no_new_privs and
the closed descriptors are never optional: a child that cannot have them ends before it reads a message.
"""

import ctypes
import os
import resource
import signal
from contextlib import suppress

from gateway.inspection.box import landlock, seccomp

LAYERS = ("limits", "no new privileges", "own user", "namespaces", "landlock", "seccomp")
# "nobody": the child needs an account that owns nothing. Another process of it cannot be reached (seccomp, Landlock),
# nor the child from there (it is not dumpable).
NOBODY = 65534
ROOM_BYTES = 768 << 20  # of address space for one message: twice the largest file, and the files around it
SOCKET = 0  # the child's only descriptor

CLONE_NEWUSER, CLONE_NEWIPC, CLONE_NEWNET = 0x10000000, 0x08000000, 0x40000000  # linux/sched.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38  # linux/prctl.h
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h

_libc = ctypes.CDLL(None, use_errno=True)


class CannotLock(Exception):
    """A layer that is never optional cannot be had."""


def leave_host() -> bool:
    """Give this process, the zygote, an empty network and IPC namespace; True where that can be had.

    The kernel is told besides to end the box first when memory runs out.
    """
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    wanted = CLONE_NEWNET | CLONE_NEWIPC
    if os.geteuid() != 0:
        wanted |= CLONE_NEWUSER
    return bool(_libc.unshare(wanted) == 0)


def forget_capabilities() -> None:
    """Have the next program that this process executes begin without the capabilities that a service was given."""
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def end_with_parent(number: signal.Signals, parent: int) -> None:
    """Have the kernel send this process `number` when its parent ends. Forgotten at each change of user."""
    _prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(0)  # it ended before


def lock_in(connection: int, room: int, parent: int) -> tuple[str, ...]:
    """Lock this process, a child, in for good; return the layers in force besides those that `leave_host` gave.

    `connection` becomes descriptor 0, all others are closed. `room` is its address space in octets, all told; with
    `parent` it ends. Raises CannotLock or OSError: the process must end then.
    """
    os.dup2(connection, SOCKET, inheritable=False)
    os.closerange(SOCKET + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    is_own_user = _become_nobody()
    end_with_parent(signal.SIGKILL, parent)
    _prctl(PR_SET_DUMPABLE, 0)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    has_landlock = landlock.restrict(_libc)  # before the limits: it needs a descriptor
    _limit(room)
    has_seccomp = seccomp.restrict(_libc)  # last: it forbids all of the above
    found = {"own user": is_own_user, "landlock": has_landlock, "seccomp": has_seccomp}
    return ("limits", "no new privileges", *(name for name, is_there in found.items() if is_there))


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise CannotLock(f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def _become_nobody() -> bool:
    """Give up root, or else the capabilities that come with a user namespace."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        return True
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    held = (ctypes.c_uint32 * 6)()
    # A service's filter of system calls may forbid it. That is well where there is nothing to give up.
    if _libc.capset(ctypes.byref(header), ctypes.byref(held)) != 0 and _has_capabilities(header):
        raise CannotLock("capabilities that cannot be given up")
    return False


def _has_capabilities(header: ctypes.Array[ctypes.c_uint32]) -> bool:
    held = (ctypes.c_uint32 * 6)()  # twice: effective, permitted, inheritable. The last count at execve only.
    is_known = _libc.capget(ctypes.byref(header), ctypes.byref(held)) == 0
    return not is_known or any(held[place] for place in (0, 1, 3, 4))


def _limit(room: int) -> None:
    for kind, most in (
        (resource.RLIMIT_AS, room),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_NOFILE, SOCKET + 1),  # the next descriptor would be one too many: no file, no socket
    ):
        resource.setrlimit(kind, (most, most))


def address_space() -> int:
    """Return how much address space this process has, in octets."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def layers() -> tuple[str, ...]:
    """Try all layers in a process of its own; return the names of those that work for this user on this machine.

    Forks: call it where no thread runs.
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            room = address_space() + ROOM_BYTES
            found = {"namespaces"} if leave_host() else set()
            found.update(lock_in(writer, room, parent))
            os.write(SOCKET, ",".join(name for name in LAYERS if name in found).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(pid, 0)
    return tuple(said.split(",")) if said else ()
