"""When to try again, when to give up, and which hosts are known to be down (RFC 5321 section 4.5.4.1). No I/O.

Giving up takes both time and attempts: a clock that jumps, or a gateway that was off for a week, returns nobody's mail.
"""

from datetime import datetime, timedelta

from msgspec import Struct

from gateway.relay.client import Endpoint
from gateway.relay.reply_stream import HostReply

STEPS_SECONDS = (60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0)  # the last one repeats
HOP_DOWN_SECONDS = 900.0  # the longest step while our own next hop is down: mail should follow soon once it is back
JITTER = 0.2  # share of a step by which it varies, so that a burst does not come back as one


class BackOff(Struct, frozen=True):
    """The schedule of attempts."""

    steps: tuple[float, ...] = STEPS_SECONDS
    hop_down: float = HOP_DOWN_SECONDS
    jitter: float = JITTER

    def due_at(self, attempts: int, now: datetime, *, chance: float, is_hop_down: bool = False) -> datetime:
        """Return when to try again after so many attempts (1 and up). `chance` is from 0 to 1."""
        step = self.steps[min(max(attempts, 1), len(self.steps)) - 1]
        if is_hop_down:
            step = min(step, self.hop_down)
        return now + timedelta(seconds=step * (1 + self.jitter * (2 * chance - 1)))

    def attempts_within(self, life: timedelta) -> int:
        """Return how many attempts the schedule makes in a message's life, the first one included."""
        left = life.total_seconds()
        for made, step in enumerate(self.steps, start=1):
            left -= step
            if left < 0:
                return made
        return len(self.steps) + 1 + int(left // self.steps[-1])

    def is_over(self, accepted_at: datetime, expires_at: datetime, attempts: int, now: datetime) -> bool:
        """Return whether to give up after so many attempts: the time has passed, and half of its attempts were made."""
        return now >= expires_at and attempts >= max(1, self.attempts_within(expires_at - accepted_at) // 2)


FIRST_PROBE_SECONDS = 5.0
LONGEST_PROBE_SECONDS = 60.0
MAX_OUTAGES = 10_000


class _Outage:
    __slots__ = ("is_probed", "pause", "probe_at", "reply")

    def __init__(self, reply: HostReply, now: float) -> None:
        self.reply = reply
        self.pause = FIRST_PROBE_SECONDS
        self.probe_at = now + self.pause
        self.is_probed = False


class Outages:
    """Endpoints that could not be reached. While one is down, one message at a time finds out whether it still is.

    Times are seconds of a monotonic clock.
    """

    def __init__(self) -> None:
        self._down: dict[Endpoint, _Outage] = {}

    def blocks(self, endpoint: Endpoint, now: float) -> HostReply | None:
        """Return why an endpoint is not tried now; None lets the caller try it, as the probe when it is down."""
        outage = self._down.get(endpoint)
        if outage is None:
            return None
        if now < outage.probe_at:
            return outage.reply
        outage.is_probed = True
        outage.probe_at = now + outage.pause
        return None

    def note_down(self, endpoint: Endpoint, reply: HostReply, now: float) -> None:
        """Take a failure to connect; pauses between probes double up to a minute."""
        outage = self._down.get(endpoint)
        if outage is None:
            while len(self._down) >= MAX_OUTAGES:
                del self._down[next(iter(self._down))]
            self._down[endpoint] = _Outage(reply, now)
        elif outage.is_probed:
            outage.reply = reply
            outage.is_probed = False
            outage.pause = min(outage.pause * 2, LONGEST_PROBE_SECONDS)
            outage.probe_at = now + outage.pause

    def note_up(self, endpoint: Endpoint) -> None:
        """Take it that the endpoint answers."""
        if self._down:
            self._down.pop(endpoint, None)

    def __len__(self) -> int:
        return len(self._down)
