"""How much memory one large message adds to the running gateway, as a multiple of its size.

The kernel keeps each process's highest resident size; it is set back right before the message and read right after.
What the processes held before is taken off.
"""

import os

from bench.measure import measure, tree

SIZE = 50_000_000


def resident_kb(pid):
    """Return (resident now, highest since set back), (0, 0) when the process is gone."""
    found = {}
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith(("VmRSS:", "VmHWM:")):
                    name, value = line.split(":")
                    found[name] = int(value.split()[0])
    except OSError:
        return 0, 0
    return found.get("VmRSS", 0), found.get("VmHWM", 0)


def set_back(pid):
    """Make the highest resident size the present one (proc(5), clear_refs)."""
    with open(f"/proc/{pid}/clear_refs", "w") as file:
        file.write("5")


def added_by_one(pids, control, port, size=SIZE):
    """Send one message of `size` octets and return the measurement with `added_memory_ratio`."""
    before = {}
    for pid in tree(pids):
        if os.access(f"/proc/{pid}/clear_refs", os.W_OK):
            set_back(pid)
            before[pid] = resident_kb(pid)[0]
    result = measure(pids, control, ["--port", port, "--size", size, "--messages", 1, "--connections", 1], settle=1.0)
    added = sum(max(0, resident_kb(pid)[1] - resident) for pid, resident in before.items()) * 1024
    return {**result, "added_memory_mb": round(added / 1e6, 1), "added_memory_ratio": round(added / size, 3)}
