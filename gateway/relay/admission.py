"""Who may connect, and how often: counts shared by all SMTP workers of one host, in one table of shared memory.

The table is made before the fork. Each worker adds only to its own column and reads all of them, so nothing is
locked; a column is cleared when its worker starts, which also forgets what a dead worker had open. Networks and
sources are counted by a keyed hash in two rows, of which the smaller count is believed: memory is bounded whatever
connects, and nobody outside can find a second network that shares a victim's cells.
"""

import mmap
import os
from hashlib import blake2b
from typing import Final

from gateway.mail.address import network_key
from gateway.policy.document import Limits
from gateway.relay.reasons import Reason

ROWS: Final = 2
CELLS: Final = 1 << 14  # in each row; a power of two
_HEAD: Final = 4  # words before a column's rows: connections open, the minute and the hour last written to
_OPEN, _MINUTE, _HOUR = 0, 1, 2  # places in the head
_ROW_SET: Final = ROWS * CELLS
_COLUMN: Final = _HEAD + 5 * _ROW_SET  # open now; two minutes; two hours
_MINUTE_SECONDS: Final = 60
_HOUR_SECONDS: Final = 3600
_NOTHING: Final = memoryview(bytes(4 * _COLUMN)).cast("I")

# Up to this share of all connections everybody gets what he asks for; above it one network holds at most a small part.
NEARLY_FULL: Final = 0.75
SHARE_WHEN_NEARLY_FULL: Final = 20  # the twentieth part
# Only peers among the relay sources get the last tenth: a flood from outside does not stop the company's own mail.
KEPT_FOR_SOURCES: Final = 10


class AdmissionTable:
    """The memory that the workers share. Make it before the fork, then let each worker take `column(its number)`."""

    def __init__(self, workers: int = 1) -> None:
        self._memory = mmap.mmap(-1, 4 * _COLUMN * workers)
        self.cells = memoryview(self._memory).cast("I")
        self.starts = tuple(worker * _COLUMN for worker in range(workers))
        self.secret = os.urandom(16)

    def column(self, worker: int) -> "Admission":
        """Return the view of one worker, its column cleared."""
        start = self.starts[worker]
        self.cells[start : start + _COLUMN] = _NOTHING
        return Admission(self, start)

    @property
    def open_connections(self) -> int:
        """Connections open now on all workers."""
        return sum(self.cells[start + _OPEN] for start in self.starts)


class Admission:
    """One worker's hand on the table. Times are seconds of the monotonic clock, which all processes of a host share."""

    def __init__(self, table: AdmissionTable, start: int) -> None:
        self._table = table
        self._cells = table.cells
        self._start = start

    def connect(self, ip: str, limits: Limits, now: float, *, is_source: bool = False) -> Reason | None:
        """Count a connection from `ip`; return None when it may stay (then call `disconnect` later), else why not.

        `is_source`: the peer is among the relay sources. It is held to the total alone.
        """
        places = self._places(network_key(ip))
        recent = self._rate(_MINUTE, places, now, _MINUTE_SECONDS)
        self._count_in_window(_MINUTE, places, now, _MINUTE_SECONDS)
        total = self._table.open_connections
        if total >= limits.connections:
            return Reason.CONNECTIONS
        if not is_source:
            if total >= limits.connections - limits.connections // KEPT_FOR_SOURCES:
                return Reason.CONNECTIONS
            if recent >= limits.connects_per_minute:
                return Reason.CONNECT_RATE
            if self._open(places) >= network_limit(limits, total):
                return Reason.NETWORK_CONNECTIONS
        self._add_open(places, 1)
        return None

    def disconnect(self, ip: str) -> None:
        """Take back what `connect` counted."""
        self._add_open(self._places(network_key(ip)), -1)

    def is_over_rate(self, source: str, max_per_hour: int, now: float) -> bool:
        """Tell whether the relay source (its id) has sent `max_per_hour` messages within an hour; 0 is no limit."""
        return max_per_hour > 0 and self._rate(_HOUR, self._places(source), now, _HOUR_SECONDS) >= max_per_hour

    def count_message(self, source: str, now: float) -> None:
        """Count a message that was accepted from a relay source."""
        self._count_in_window(_HOUR, self._places(source), now, _HOUR_SECONDS)

    def _places(self, key: str) -> tuple[int, int]:
        """Return the key's cell in each row, counted from the begin of a row set."""
        digest = int.from_bytes(blake2b(key.encode(), digest_size=8, key=self._table.secret).digest(), "big")
        return digest % CELLS, CELLS + (digest >> 32) % CELLS

    def _open(self, places: tuple[int, int]) -> int:
        cells = self._cells
        return min(sum(cells[start + _HEAD + place] for start in self._table.starts) for place in places)

    def _add_open(self, places: tuple[int, int], amount: int) -> None:
        cells, start = self._cells, self._start
        cells[start + _OPEN] += amount
        for place in places:
            cells[start + _HEAD + place] += amount

    def _count_in_window(self, head: int, places: tuple[int, int], now: float, seconds: int) -> None:
        cells, start = self._cells, self._start
        window = int(now // seconds)
        last = cells[start + head]
        if last != window:
            # The older of the two windows is forgotten, both after a pause.
            for stale in {window} if window == last + 1 else {window, window + 1}:
                at = _window_start(start, head, stale)
                cells[at : at + _ROW_SET] = _NOTHING[:_ROW_SET]
            cells[start + head] = window
        at = _window_start(start, head, window)
        for place in places:
            cells[at + place] += 1

    def _rate(self, head: int, places: tuple[int, int], now: float, seconds: int) -> float:
        """Estimate the count of the last `seconds`: this window, and what share of the one before lies within."""
        window, into = divmod(now, seconds)
        this, remaining = int(window), 1.0 - into / seconds
        return min(
            self._in_window(head, place, this) + remaining * self._in_window(head, place, this - 1) for place in places
        )

    def _in_window(self, head: int, place: int, window: int) -> int:
        cells = self._cells
        return sum(
            cells[_window_start(start, head, window) + place]
            for start in self._table.starts
            if cells[start + head] - window in (0, 1)  # else the column holds other windows there
        )


def network_limit(limits: Limits, total: int) -> int:
    """Return how many connections one network may hold while `total` are open."""
    if total < limits.connections * NEARLY_FULL:
        return limits.connections_per_network
    return min(limits.connections_per_network, max(1, limits.connections // SHARE_WHEN_NEARLY_FULL))


def _window_start(column: int, head: int, window: int) -> int:
    return column + _HEAD + (2 * head - 1 + (window & 1)) * _ROW_SET
