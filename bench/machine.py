"""What a benchmark ran on: the machine and the versions, for results and history."""

import os
import pathlib
import platform
import re
import subprocess
from importlib.metadata import version

PACKAGES = ("aiosmtpd", "uvloop", "msgspec", "sqlalchemy", "pydantic")


def said_by(*command, cwd=None):
    """Return the first line that a command prints, "" when it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=cwd)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def cpu_model():
    """Return the processor's name as the kernel has it."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def memory_gib():
    """Return the machine's memory."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def file_system(folder):
    """Return the type of the file system that the folder lies on."""
    return said_by("stat", "-f", "-c", "%T", str(folder))


def facts(work):
    """Return what identifies the machine; `key` is equal for runs that may be compared."""
    cores = os.cpu_count()
    return {
        "key": f"{cpu_model()} x{cores}",
        "Processor": f"{cpu_model()}, {cores} cores",
        "Memory": f"{memory_gib()} GiB",
        "Kernel": f"{platform.system()} {platform.release()}",
        "File system": file_system(work),
    }


def versions(project):
    """Return the versions of everything that was measured or that measured."""
    postfix = said_by("postconf", "-d", "-h", "mail_version") or said_by(
        "/usr/sbin/postconf", "-d", "-h", "mail_version"
    )
    rspamd = re.search(r"[\d.]+", said_by("rspamd", "--version"))
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return {
        "Gatepost": commit(project),
        "Python": f"{platform.python_version()} ({packages})",
        "Postfix": postfix or "not here",
        "rspamd": rspamd.group() if rspamd else "not here",
    }


def commit(project):
    """Return the commit that is checked out, with `-dirty` for changes on top."""
    return said_by("git", "describe", "--always", "--dirty", cwd=project) or "no commit yet"
