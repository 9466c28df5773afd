"""The figures of earlier runs, one JSON object a line in history.jsonl, and whether this run is worse.

Worse means: over 15 % against the median of the last five entries of the same machine and the same options. Entries of
another machine or other options are kept and not compared.
"""

import json
from statistics import median

FILE_NAME = "history.jsonl"
LAST = 5
TOLERANCE = 0.15


def load(file):
    """Return all entries, oldest first."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines() if line.strip()]


def entry(outcomes, *, at, commit, machine, options):
    """Return the entry of one run: what it ran on, what it ran, the median of each target."""
    figures = {outcome.target.name: round(outcome.median, 4) for outcome in outcomes}
    return {"at": at, "commit": commit, "machine": machine["key"], "options": options, "figures": figures}


def append(file, one):
    """Add an entry to the file."""
    with file.open("a") as out:
        out.write(json.dumps(one, sort_keys=True) + "\n")


def regressions(entries, one, outcomes):
    """Return a line for each guarded figure that is over 15 % worse than it was (the median of five entries)."""
    comparable = [e for e in entries if e["machine"] == one["machine"] and e["options"] == one["options"]][-LAST:]
    worse = []
    for outcome in outcomes:
        target = outcome.target
        before = [e["figures"][target.name] for e in comparable if target.name in e["figures"]]
        if not before or not target.guarded:
            continue
        usual, now = median(before), outcome.median
        change = usual / now - 1 if target.at_least else now / usual - 1
        if change > TOLERANCE:
            worse.append(
                f"{target.name}: {now:.3g}, was {usual:.3g} (median of the last {len(before)}): {change:.0%} worse"
            )
    return worse
