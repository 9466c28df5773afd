"""What callers ask of the writer's thread, and how they are answered in their event loops."""

import asyncio
from collections.abc import Callable
from enum import Enum

from gateway.accepted import Location
from gateway.spool.errors import SpoolFailed, SpoolFull
from gateway.spool.record import HEADER_SIZE

# Turns of the event loop after which whoever was told has acted on it: his own, and some for what he is wrapped in.
TURNS = 4

Outcome = list[Location] | Exception
Answer = asyncio.Future[list[Location]]


class Unwritten:
    """A record on its way to the disk: the head as MessagePack, the pieces of the message, none of them empty.

    `check` is the CRC-32 of head and message where it is known already; otherwise the thread computes it.
    """

    __slots__ = ("body_size", "check", "head_size", "length", "pieces")

    def __init__(
        self, head_size: int, pieces: list[bytes | memoryview], body_size: int, check: int | None = None
    ) -> None:
        self.head_size = head_size
        self.pieces = pieces
        self.body_size = body_size
        self.check = check
        self.length = HEADER_SIZE + head_size + body_size


class Request:
    """Records that one caller wants written, all or none, and the future by which he learns where they lie."""

    __slots__ = ("future", "is_handed_over", "loop", "records", "reserve", "size")

    def __init__(
        self,
        records: list[Unwritten],
        loop: asyncio.AbstractEventLoop,
        *,
        reserve: bool = False,
    ) -> None:
        self.records = records
        self.size = sum(record.length for record in records)
        self.loop = loop
        self.future: Answer = loop.create_future()
        self.is_handed_over = False
        self.reserve = reserve


class Roll:
    """The wish that the current segment be closed; whoever has one may wait for it."""

    __slots__ = ("future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.future: Answer = loop.create_future()


class Sign(Enum):
    """What the thread tells itself or is told without anybody waiting: the segment is old; nothing comes any more."""

    OLD = "old"
    END = "end"


def failed_like(error: Exception) -> Exception:
    """Return the failure for one of several who wait: one object, raised in all of them, would collect their frames."""
    return SpoolFull(*error.args) if isinstance(error, SpoolFull) else SpoolFailed(str(error) or type(error).__name__)


def settle(
    loop: asyncio.AbstractEventLoop, outcomes: list[tuple[Request | Roll, Outcome]], take: Callable[[], None]
) -> None:
    """Set the futures of requests, and when those who wait for them have run, call `take` and set those of rolls."""
    for asked, outcome in outcomes:
        if isinstance(asked, Request):
            _set(asked.future, outcome)

    def finish() -> None:
        take()
        for asked, outcome in outcomes:
            if isinstance(asked, Roll):
                _set(asked.future, outcome)

    _in_turns(loop, TURNS, finish)


def _in_turns(loop: asyncio.AbstractEventLoop, turns: int, act: Callable[[], None]) -> None:
    if turns:
        loop.call_soon(_in_turns, loop, turns - 1, act)
    else:
        act()


def _set(future: Answer, outcome: Outcome) -> None:
    if future.done():  # cancelled: the record may be on disk all the same, and is imported from there one day
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
