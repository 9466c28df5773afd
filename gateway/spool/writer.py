"""The one thread of a process that writes to its spool.

Each batch that it is given is written with one fdatasync and answered with one wake-up of the event loop. It outlives
every failure of a batch; if it ends, whoever waits is told.
"""

import asyncio
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, Thread

from gateway import log, metrics
from gateway.accepted import Location
from gateway.spool.errors import SpoolFailed, SpoolFull
from gateway.spool.folder import Folder
from gateway.spool.record import check_of, write_header
from gateway.spool.request import Outcome, Request, Roll, Sign, Unwritten, failed_like, settle
from gateway.spool.room import Room
from gateway.spool.segment import Segment

PAUSE_SECONDS = 0.1  # so that a failure which comes again at once does not fill the log


class Writer:
    """Appends to the segments of `folder`. `rolled` maps closed segments to their sizes; everybody may read it."""

    def __init__(
        self, folder: Folder, room: Room, *, segment_bytes: int, roll_seconds: float, sync: Callable[[int], None]
    ) -> None:
        self.rolled: dict[str, int] = {}
        self.records = 0
        self.batches = 0
        self.failures = 0
        self.last_batch = 0
        self.last_flush_ms = 0.0
        if folder.marker is None:
            raise ValueError("a folder without its marker is read, never written")
        self._folder = folder
        self._marker = folder.marker
        self._room = room
        self._segment_bytes = segment_bytes
        self._roll_seconds = roll_seconds
        self._sync = sync
        self._segment: Segment | None = None
        self._roll_at = 0.0
        self._number = 0
        self._queue: SimpleQueue[list[Request] | Roll | Sign] = SimpleQueue()
        self._batch: list[Request] = []
        self._untaken: Counter[str] = Counter()
        self._asked = 0
        self._answered = 0
        self._is_open = True
        self._gate = Lock()
        # A daemon: a process that dies without closing its spool must not hang on it; what it answered is on disk.
        self._thread = Thread(target=self._run, name="spool", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._asked - self._answered

    @property
    def current(self) -> tuple[str, int] | None:
        """Name and size of the segment that is being written."""
        segment = self._segment
        return (segment.name, segment.size) if segment else None

    def is_taken(self, segment: str) -> bool:
        """Say whether everybody has learnt what was written there. Before, nobody can know whether it is needed."""
        with self._gate:
            return not self._untaken[segment]

    def put(self, item: list[Request] | Roll | Sign) -> None:
        """Hand something to the thread. Raises SpoolFailed after its end, and in a forked child, which has none."""
        with self._gate:
            if not self._is_open or not self._folder.is_ours:
                raise SpoolFailed("the spool is closed")
            self._is_open = item is not Sign.END
            self._asked += len(item) if isinstance(item, list) else 0
            self._queue.put(item)

    def close(self) -> None:
        """Write all that waits, roll, and end the thread. A second call does nothing."""
        try:
            self.put(Sign.END)
        except SpoolFailed:
            return
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._survive(self._step):
                pass
        finally:
            with self._gate:
                self._is_open = False
            self._fail_what_waits()

    def _survive(self, step: Callable[[], bool]) -> bool:
        """Do a step; when it raises what nobody foresaw, fail those who wait for it, report, and go on."""
        try:
            return step()
        except Exception as error:
            self.failures += 1
            log.error("spool.failed", owner=self._folder.owner, error=repr(error), trace=traceback.format_exc())
            if not self._batch:
                time.sleep(PAUSE_SECONDS)
            self._answer([(request, failed_like(error)) for request in self._batch])
            return True

    def _step(self) -> bool:
        """Do what comes next; False after the last wish."""
        item = self._next()
        if isinstance(item, list):
            self._batch = item
            self._flush(item)
            return True
        self._roll()
        if isinstance(item, Roll):
            self._tell([(item, [])])
        return item is not Sign.END

    def _next(self) -> list[Request] | Roll | Sign:
        """Wait for work, or for the segment to become old."""
        if self._segment is None:
            return self._queue.get()
        try:
            return self._queue.get(timeout=max(0.0, self._roll_at - time.monotonic()))
        except Empty:
            return Sign.OLD

    def _flush(self, batch: list[Request]) -> None:
        """Write a batch and tell everybody what became of it."""
        outcomes: list[tuple[Request, Outcome]] = []
        wanted = self._with_room(batch, outcomes)
        try:
            if wanted:
                outcomes.extend(zip(wanted, self._write(wanted), strict=True))
        except (SpoolFull, SpoolFailed) as error:
            self._room.forget()
            self.failures += 1
            log.error("spool.failed", owner=self._folder.owner, error=str(error), messages=len(wanted))
            outcomes.extend((request, failed_like(error)) for request in wanted)
        finally:
            if self._segment and self._segment.is_abandoned:
                self._roll()
        self._answer(outcomes)

    def _answer(self, outcomes: list[tuple[Request, Outcome]]) -> None:
        self._batch = []
        self._answered += len(outcomes)
        self._tell(outcomes)

    def _with_room(self, batch: list[Request], outcomes: list[tuple[Request, Outcome]]) -> list[Request]:
        """Return the requests for which there is room; the others have their outcome already."""
        wanted: list[Request] = []
        size = 0
        for request in batch:
            if self._room.allows(size + request.size, reserve=request.reserve):
                wanted.append(request)
                size += request.size
            else:
                outcomes.append((request, SpoolFull("the spool's disk is too full")))
        return wanted

    def _write(self, batch: list[Request]) -> list[list[Location]]:
        """Append the batch to one segment, durable, and return where each request's records lie."""
        started = time.monotonic()
        length = sum(request.size for request in batch)
        segment = self._segment_for(length)
        buffers: list[bytes | memoryview] = []
        places: list[list[Location]] = []
        offset = segment.size
        for request in batch:
            locations = []
            for record in request.records:
                buffers.append(self._header(record))
                buffers.extend(record.pieces)
                locations.append(Location(segment.name, offset, record.length))
                offset += record.length
            places.append(locations)
        segment.append(buffers, length)
        self._room.spend(length)
        metrics.count("spool_flushes")
        self.batches += 1
        self.last_batch = sum(map(len, places))
        self.records += self.last_batch
        self.last_flush_ms = (time.monotonic() - started) * 1000
        return places

    def _header(self, record: Unwritten) -> bytes:
        check = check_of(record.pieces) if record.check is None else record.check
        return write_header(self._marker, record.head_size, record.body_size, check)

    def _segment_for(self, length: int) -> Segment:
        """Return the segment that takes `length` octets more: the current one, or a new one when it is full or old."""
        current = self._segment
        if current and current.size:
            is_full = current.size + length > self._segment_bytes
            if is_full or time.monotonic() >= self._roll_at:
                self._roll()
        if self._segment is None:
            self._number += 1
            self._segment = Segment(self._folder, self._number, self._sync)
            self._roll_at = time.monotonic() + self._roll_seconds
        return self._segment

    def _roll(self) -> None:
        segment, self._segment = self._segment, None
        if segment is None:
            return
        if segment.is_abandoned:
            log.error("spool.failed", error="a segment is abandoned", segment=segment.name, octets=segment.size)
        if segment.size:
            self.rolled[segment.name] = segment.size
        segment.close()

    def _fail_what_waits(self) -> None:
        """Nothing comes after the end of the thread: whoever still waits must not wait for ever."""
        left: list[Request | Roll] = [*self._batch]
        while not self._queue.empty():
            item = self._queue.get_nowait()
            if not isinstance(item, Sign):
                left.extend(item if isinstance(item, list) else [item])
        self._tell([(item, SpoolFailed("the spool is closed")) for item in left])

    def _tell(self, outcomes: Sequence[tuple[Request | Roll, Outcome]]) -> None:
        """Set all futures of an event loop in one call within it."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Request | Roll, Outcome]]] = {}
        for asked, outcome in outcomes:
            by_loop.setdefault(asked.loop, []).append((asked, outcome))
        for loop, theirs in by_loop.items():
            segments = {outcome[0].segment for _, outcome in theirs if isinstance(outcome, list) and outcome}
            with self._gate:
                self._untaken.update(segments)
            try:
                loop.call_soon_threadsafe(settle, loop, theirs, lambda taken=segments: self._take(taken))
            except RuntimeError:  # the loop is closed: nobody waits, and recovery imports what is on disk
                log.warning("spool.failed", error="the event loop ended before its answers", messages=len(theirs))

    def _take(self, segments: set[str]) -> None:
        with self._gate:
            self._untaken.subtract(segments)
