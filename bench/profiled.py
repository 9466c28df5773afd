"""`gatepost` with cProfile around each process that takes part in mail: where the CPU of a message goes.

    BENCH_PROFILE_DIR=DIR python -m bench.profiled run

Each process writes DIR/NAME-PID.prof when it ends in good order. Only its main thread is profiled: the spool's writer
and the import are not in it. The figures are for comparing functions, not for comparing with runs without a profile.
"""

import cProfile
import os
import pathlib
import pstats
import runpy
import sys
import time

from gateway.relay import processes

TOP = 30
RARE = 0.01  # calls a message


def profiling(run, name):
    """Return `run` with a profile around it, written when it returns."""

    def profiled():
        profile = cProfile.Profile(time.thread_time)  # CPU of the main thread: not what it waits for
        try:
            profile.runcall(run)
        finally:
            folder = pathlib.Path(os.environ["BENCH_PROFILE_DIR"])
            profile.dump_stats(folder / f"{name.replace('/', '_')}-{os.getpid()}.prof")

    return profiled


def table(files, messages, project):
    """Return (µs per message, calls per message, function) for the most expensive functions of these profiles."""
    stats = pstats.Stats(*map(str, files))
    rows = []
    for (file, line, function), (_, calls, own, _, _) in stats.stats.items():
        where = function if file == "~" else f"{shown(file, project)}:{line} {function}"
        if calls > RARE * messages:  # else it belongs to the start
            rows.append((1e6 * own / messages, calls / messages, where))
    return sorted(rows, reverse=True)[:TOP]


def shown(file, project):
    """Return a source file's name without what lies above the project or the packages."""
    for part in ("site-packages/", "lib/python3.11/", f"{project}/"):
        if part in file:
            return file.rpartition(part)[2]
    return file


def main():
    """Run the product's own command line with its processes profiled."""
    supervise = processes.supervise

    def supervise_profiled(roles, **options):
        wrapped = [processes.Role(role.name, profiling(role.run, role.name)) for role in roles]
        return supervise(wrapped, **options)

    # The command looks the function up when it runs, so what stands in the module then is what is called.
    processes.supervise = supervise_profiled
    sys.argv[0] = "gatepost"
    runpy.run_module("gateway", run_name="__main__")


if __name__ == "__main__":
    main()
