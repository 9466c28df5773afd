"""The results as Markdown: machine, versions, targets, every figure, and where the CPU goes."""

import time

COLUMNS = (
    ("CPU ms/msg", "cpu_ms_per_msg"),
    ("delivered/s", "delivered_per_s"),
    ("p50 ms", "p50"),
    ("p99 ms", "p99"),
    ("PSS peak MB", "peak_pss_mb"),
    ("PSS after MB", "after_pss_mb"),
    ("lost", "lost"),
    ("machine busy %", "machine_busy_pct"),
)


def median_result(results):
    """Return the run with the median CPU per message."""
    ordered = sorted(results, key=lambda result: result.get("cpu_ms_per_msg") or 0)
    return ordered[len(ordered) // 2]


def target_rows(outcomes):
    """Return a table row for each target."""
    rows = []
    for outcome in outcomes:
        target = outcome.target
        bound = f"{'≥' if target.at_least else '≤'} {target.bound:g}"
        spread = f"{min(outcome.values):.3g} to {max(outcome.values):.3g}"
        verdict = "met" if outcome.is_met else "**missed**"
        rows.append(
            f"| {target.name} | {bound} | {outcome.median:.3g} | {spread} | {outcome.met} of {len(outcome.values)} "
            f"| {verdict} |"
        )
    return rows


def figure_rows(pairs):
    """Return a table row for each server and workload: its run of median CPU among the pairs."""
    rows = []
    servers = dict.fromkeys(server for pair in pairs for server in pair)
    for server in servers:
        loads = dict.fromkeys(load for pair in pairs for load in pair.get(server, {}))
        for load in loads:
            results = [pair[server][load] for pair in pairs if "cpu_ms_per_msg" in pair.get(server, {}).get(load, {})]
            if not results:
                continue
            shown = median_result(results)
            flat = {**shown, **shown.get("latency_ms", {})}
            cells = " | ".join(str(flat.get(name, "")) for _, name in COLUMNS)
            rows.append(f"| {server} | {load} | {cells} |")
    return rows


def profile_section(profiles):
    """Return the lines of the profile: for each workload the most expensive functions."""
    lines = []
    for load, rows in profiles.items():
        lines += ["", f"### {load}", "", "| own µs/msg | calls/msg | function |", "|---:|---:|---|"]
        lines += [f"| {micros:.1f} | {calls:.2f} | `{where}` |" for micros, calls, where in rows]
    return lines


def markdown(*, machine, versions, options, outcomes, pairs, worse, profiles):
    """Return the whole page."""
    lines = [
        "# Benchmark results",
        "",
        f"Written by `make bench` on {time.strftime('%Y-%m-%d')}; run it again, do not edit this page. Gatepost and",
        "the peers took turns on one machine, each message through to the sink; a ratio compares halves of one pair.",
        "CPU is user and system time of the whole process tree; the run of the median pair is shown.",
        "",
        *(f"- {name}: {value}" for name, value in machine.items() if name != "key"),
        *(f"- {name}: {value}" for name, value in versions.items()),
        f"- Run: {options}",
        "",
        "## Targets",
        "",
        "| figure | target | median | from, to | pairs that met it | |",
        "|---|---|---:|---|---|---|",
        *target_rows(outcomes),
        "",
        "## Figures",
        "",
        f"| server | workload | {' | '.join(title for title, _ in COLUMNS)} |",
        f"|---|---|{'---:|' * len(COLUMNS)}",
        *figure_rows(pairs),
    ]
    if worse:
        lines += ["", "## Worse than before", "", *(f"- {line}" for line in worse)]
    if profiles:
        lines += [
            "",
            "## Where a worker's CPU goes",
            "",
            "cProfile, which makes small functions look dearer than they are.",
        ]
        lines += profile_section(profiles)
    return "\n".join(lines) + "\n"
