"""Appends of one event loop, gathered into batches before they go to the writer's thread.

To wake a thread costs more than to write a small message, and a woken thread takes turns with the loop. So at most
one hand-over is under way: what comes meanwhile goes together when it is back, and an append that knows of another
message about to end waits a little for it.
"""

import asyncio
from collections.abc import Callable

from gateway.spool.errors import SpoolFailed
from gateway.spool.request import Request, failed_like

MAX_BATCH_RECORDS = 200
MAX_BATCH_BYTES = 32 * 1024 * 1024
LINGER_SECONDS = 0.002  # one fdatasync of a quick disk: waiting longer than it saves would only add latency


class Gathering:
    """The appends of one loop that the thread does not have yet. Used within that loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, put: Callable[[list[Request]], None]) -> None:
        self.loop = loop
        self._put = put
        self._waiting: list[Request] = []
        self._under_way = 0  # requests with the thread whose callers have not gone on yet
        self._timer: asyncio.Handle | None = None
        self._lingers = False  # the newest append waits for company
        self._is_patient = False  # and so does the timer

    def add(self, request: Request, *, linger: bool) -> None:
        """Take a request; it goes to the thread soon."""
        self._waiting.append(request)
        self._lingers = linger
        if not self._under_way:
            self._set_timer()

    def came_back(self, request: Request) -> None:
        """Learn that the caller of a request goes on, answered or cancelled."""
        if request.is_handed_over:
            self._under_way -= 1
            if not self._under_way and self._waiting:
                self._set_timer()

    def _set_timer(self) -> None:
        """Hand over after a moment if the newest append knows of another that comes soon; otherwise in this turn."""
        if self._timer is None:
            self._is_patient = self._lingers
            self._timer = (
                self.loop.call_later(LINGER_SECONDS, self.hand_over)
                if self._lingers
                else self.loop.call_soon(self.hand_over)
            )
        elif self._is_patient and not self._lingers:
            self._timer.cancel()
            self._is_patient = False
            self._timer = self.loop.call_soon(self.hand_over)

    def hand_over(self) -> None:
        """Give the thread all that waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        batch: list[Request] = []
        count = size = 0
        for request in waiting:
            if request.future.done():  # its caller was cancelled: nobody waits for it, and nobody was promised anything
                continue
            if batch and (count + len(request.records) > MAX_BATCH_RECORDS or size + request.size > MAX_BATCH_BYTES):
                self._give(batch)
                batch, count, size = [], 0, 0
            batch.append(request)
            count += len(request.records)
            size += request.size
        if batch:
            self._give(batch)

    def _give(self, batch: list[Request]) -> None:
        for request in batch:
            request.is_handed_over = True
        self._under_way += len(batch)
        try:
            self._put(batch)
        except SpoolFailed as error:
            for request in batch:
                request.future.set_exception(failed_like(error))
