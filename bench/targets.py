"""What Gatepost is measured by: the targets, and whether the pairs of one run met them.

A target compares Gatepost's figure with a peer's of the same pair (`peer`), or with a plain number. Ratios stand since
the machine is shared: both halves of a pair see the same weather.
"""

from dataclasses import dataclass
from statistics import median

MIB = 1024 * 1024


@dataclass(frozen=True)
class Target:
    """`figure` of a workload, over the peer's if there is one, at most (or `at_least`) `bound`."""

    workload: str
    figure: str
    bound: float
    peer: str = ""
    at_least: bool = False
    guarded: bool = True  # whether a change for the worse against earlier runs fails the run

    @property
    def name(self):
        """The stable name in history and table."""
        against = f" / {self.peer}" if self.peer else ""
        return f"{self.workload}: {self.figure}{against}"

    def is_met(self, value):
        """Say whether the value keeps to the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


TARGETS = (
    Target("small", "cpu_ms_per_msg", 0.25, peer="postfix"),
    Target("business", "cpu_ms_per_msg", 0.4, peer="postfix"),
    Target("5MB", "cpu_ms_per_msg", 0.5, peer="postfix"),
    Target("small", "delivered_per_s", 3.0, peer="rspamd", at_least=True),
    Target("business", "delivered_per_s", 3.0, peer="rspamd", at_least=True),
    # The slowest percent of a few hundred messages is a handful: judged, but too rough to compare with last week's.
    Target("small", "p99_ms", 60.0, guarded=False),
    Target("business", "p99_ms", 200.0, guarded=False),
    # After the corpus, when all is quiet: what is under way at the peak depends on how fast the machine happens to be.
    Target("business", "pss_after_mib", 200.0),
    Target("50MB", "added_memory_ratio", 3.0),
    Target("listener", "accepted_per_s", 0.8, peer="aiosmtpd", at_least=True),
    Target("third writer", "p99_ms", 50.0, guarded=False),
    Target("pruning", "delay_ms", 50.0, guarded=False),
)


@dataclass(frozen=True)
class Outcome:
    """One target over all pairs: each pair's value, their median, how many met it."""

    target: Target
    values: tuple[float, ...]

    @property
    def median(self):
        """The figure that is reported and kept."""
        return median(self.values)

    @property
    def met(self):
        """In how many pairs the target was met."""
        return sum(1 for value in self.values if self.target.is_met(value))

    @property
    def is_met(self):
        """The median decides."""
        return self.target.is_met(self.median)


def figure_of(result, figure):
    """Take one figure out of what `measure` returned."""
    if figure == "p99_ms" and "latency_ms" in result:
        return result["latency_ms"]["p99"]
    if figure == "pss_after_mib":
        return result["after_pss_mb"] * 1e6 / MIB
    return result[figure]


def value_of(target, pair):
    """Return the target's value in one pair (`{peer: {workload: result}}`), or None when a half was not measured."""
    ours = pair.get("gatepost", {}).get(target.workload)
    theirs = pair.get(target.peer, {}).get(target.workload) if target.peer else None
    if ours is None or (target.peer and theirs is None):
        return None
    value = figure_of(ours, target.figure)
    return value / figure_of(theirs, target.figure) if theirs else value


def judge(pairs):
    """Return an Outcome for each target that at least one pair has figures for."""
    outcomes = []
    for target in TARGETS:
        values = [value for pair in pairs if (value := value_of(target, pair)) is not None]
        if values:
            outcomes.append(Outcome(target, tuple(values)))
    return outcomes
