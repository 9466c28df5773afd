"""The system calls that a child of the box may make: a seccomp filter, assembled by hand (seccomp(2), classic BPF).

Whatever is not on the list fails with EPERM; a parser that probes for something goes on without it.
"""

import ctypes
import errno
import platform
import struct

# What an interpreter needs that holds one socket and never opens a file: (x86-64, asm-generic as on aarch64).
ALLOWED = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "getpid": (39, 172),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "getrandom": (318, 278),
}
PRLIMIT64 = (302, 261)  # only for its own CPU time: the child renews that for each message
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH_* (linux/audit.h)

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K (linux/bpf_common.h)
KILL, FAIL, PASS = 0x80000000, 0x00050000 | errno.EPERM, 0x7FFF0000  # SECCOMP_RET_* (linux/seccomp.h)
NUMBER_AT, MACHINE_AT, FIRST_AT, SECOND_AT = 0, 4, 16, 24  # in struct seccomp_data; arguments are little-endian
RLIMIT_CPU = 0
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2  # linux/prctl.h

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, value


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]  # struct sock_fprog


def program(machine: str) -> list[Instruction] | None:
    """Return the filter for a machine. None for one whose system calls are not listed here."""
    if machine not in MACHINES:
        return None
    column, audit_arch = MACHINES[machine]
    numbers = [pair[column] for pair in ALLOWED.values()]
    first = 9
    fails, passes = first + len(numbers), first + len(numbers) + 1
    return [
        (LOAD, 0, 0, MACHINE_AT),
        (EQUAL, 1, 0, audit_arch),
        (RETURN, 0, 0, KILL),  # numbers of another machine's calls, as int 0x80 makes them
        (LOAD, 0, 0, NUMBER_AT),
        (EQUAL, 0, 4, PRLIMIT64[column]),
        (LOAD, 0, 0, FIRST_AT),
        (EQUAL, 0, fails - 7, 0),  # its own
        (LOAD, 0, 0, SECOND_AT),
        (EQUAL, passes - 9, fails - 9, RLIMIT_CPU),
        *((EQUAL, passes - place - 1, 0, number) for place, number in enumerate(numbers, first)),
        (RETURN, 0, 0, FAIL),
        (RETURN, 0, 0, PASS),
    ]


def restrict(libc: ctypes.CDLL) -> bool:
    """Allow this process the calls above and no more. False where that cannot be had. Needs no_new_privs."""
    found = program(platform.machine())
    if found is None:
        return False
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in found))
    filters = _Program(len(found), ctypes.cast(code, ctypes.c_void_p))
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filters), 0, 0) == 0)
