"""The worker's side of the box: one call for each message, children that are kept warm, faults as values."""

import asyncio
import time
from collections import deque
from contextlib import suppress

from msgspec.structs import replace

from gateway.inspection.box import wire
from gateway.inspection.box.channel import Channel
from gateway.inspection.box.connection import ChildLost, Connection
from gateway.inspection.box.crashes import CrashTable
from gateway.inspection.task import Errand, Opened, Task

# At work and spare together, for each worker. Two serve everyday mail; more are there when messages wait, so that three
# slow bombs at a time still leave a child to everybody else's mail.
MOST_CHILDREN = 4
MOST_SINGLES = 20  # tasks that are opened one by one after a crash
WALL_FACTOR, WALL_SLACK_SECONDS = 2.0, 1.0  # the clock's time for a message, by its CPU time: the machine is shared
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 1.0  # between children that could not start


class BoxAway(Exception):
    """The box cannot be had. `why` is for the log; the message could not be inspected."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


class Box:
    """Opens messages for one worker, several at a time. Make it within the worker's event loop."""

    def __init__(self, channel: Channel, crashes: CrashTable, *, most_children: int = MOST_CHILDREN) -> None:
        self._channel = channel
        self._crashes = crashes
        self._most = most_children
        self._idle: list[Connection] = []  # the last one that worked is the next: its memory is in the caches
        self._busy: set[Connection] = set()
        self._starting: set[Connection] = set()
        self._waiting: deque[asyncio.Future[Connection]] = deque()
        self._pause = FIRST_PAUSE_SECONDS
        self._restart: asyncio.TimerHandle | None = None
        self._is_closed = False

    def start(self) -> None:
        """Ask for the first children, so that the first message need not wait."""
        self._grow()

    async def open(self, raw: bytes, errand: Errand) -> Opened:
        """Open the parts of a message that the errand names, in a child.

        A part on which a child dies has the problem `crashed`, or `too_long` at a deadline, and nothing else is known
        of it; the other parts are whole. Raises BoxAway when there is no child to be had in time.
        """
        if not errand.tasks:
            return Opened()
        seconds = WALL_FACTOR * max(0.0, errand.bounds.seconds) + WALL_SLACK_SECONDS
        try:
            return await self._ask(raw, errand, seconds)
        except ChildLost as lost:
            opened = await self._open_singly(raw, errand, lost, seconds)
        return self._remember(raw, opened)

    def close(self) -> None:
        """End all children. What waits or is at work fails with BoxAway."""
        self._is_closed = True
        if self._restart is not None:
            self._restart.cancel()
        for child in [*self._idle, *self._busy, *self._starting]:
            child.end()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(BoxAway("the worker ends"))

    # --- One message ------------------------------------------------------------------------------------------------

    async def _ask(
        self, raw: bytes | memoryview, errand: Errand, seconds: float, *, is_suspect: bool = False
    ) -> Opened:
        """Open in one child. With `is_suspect` the child is not used again. Raises ChildLost, BoxAway."""
        child = self._idle.pop() if self._idle else await self._wait_for_child(seconds)
        self._busy.add(child)
        if not self._idle:
            self._grow()  # the next one's spare
        is_kept = False
        try:
            answer, is_last = await child.ask(wire.request_head(errand, len(raw)), raw, seconds, errand.bounds.seconds)
            opened = wire.read_answer(answer, errand)
            is_kept = not is_last and not is_suspect
        except wire.BadAnswer as error:
            raise ChildLost("crashed") from error
        except ChildLost as error:
            if self._is_closed:
                raise BoxAway("the worker ends") from error
            raise
        finally:
            self._busy.discard(child)
            if is_kept:
                self._hand_over(child)
            else:
                child.end()
                self._grow()
        return opened

    async def _open_singly(self, raw: bytes, errand: Errand, lost: ChildLost, seconds: float) -> Opened:
        """Open the parts each by itself: which of them was it? The whole takes `seconds` at most."""
        if lost.problem == "too_long" and len(errand.tasks) == 1:
            return Opened((wire.unopened(errand.tasks[0], lost.problem),))
        # A child may have died with the zygote, and so will those that wait: only a fresh one tells what a file does.
        while self._idle:
            self._idle.pop().end()
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        found = []
        for number, task in enumerate(errand.tasks):
            left = ends_at - loop.time()
            is_one_of_more = number + 1 < len(errand.tasks)
            if number < MOST_SINGLES and left > 0:
                # One that takes for ever leaves time to those after it.
                found.append(await self._open_single(raw, errand, task, left / 2 if is_one_of_more else left))
            else:
                found.append(Opened((wire.unopened(task, lost.problem),)))
        return _merged(found, errand)

    async def _open_single(self, raw: bytes, errand: Errand, task: Task, seconds: float) -> Opened:
        octets = memoryview(raw)[task.start : task.end]
        alone = replace(errand, tasks=(replace(task, start=0, end=len(octets)),))
        try:
            return await self._ask(octets, alone, seconds, is_suspect=True)
        except ChildLost as lost:
            return Opened((wire.unopened(task, lost.problem),))

    def _remember(self, raw: bytes, opened: Opened) -> Opened:
        """Note the message if a child has died of it; the second time within a day it is said so."""
        has_crashed = any("crashed" in part.problems or "too_long" in part.problems for part in opened.parts)
        if has_crashed and self._crashes.note(raw, time.time()):
            return replace(opened, problems=(*opened.problems, "crashed_again"))
        return opened

    # --- Children ---------------------------------------------------------------------------------------------------

    async def _wait_for_child(self, seconds: float) -> Connection:
        waiter: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._grow()
        is_taken = False
        try:
            async with asyncio.timeout(seconds):
                child = await waiter
                is_taken = True
                return child
        except TimeoutError:
            why = "all children are at work" if self._busy else "the zygote starts no child"
            raise BoxAway(f"{why}, for {seconds:.0f} s") from None
        finally:
            if not is_taken:
                self._give_up(waiter)

    def _give_up(self, waiter: asyncio.Future[Connection]) -> None:
        """Wait no more. The child may have come in the very moment in which its taker was cancelled."""
        with suppress(ValueError):
            self._waiting.remove(waiter)
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self._busy.discard(waiter.result())
            self._hand_over(waiter.result())

    def _hand_over(self, child: Connection) -> None:
        """Give a child to whoever has waited longest, or keep it."""
        if self._is_closed or not child.is_open:
            child.end()
            self._grow()
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._busy.add(child)
                waiter.set_result(child)
                return
        self._idle.append(child)

    def _grow(self) -> None:
        """Ask for children until there is one for everybody who works or waits, and a spare one."""
        if self._is_closed or self._restart is not None:
            return
        wanted = min(self._most, len(self._busy) + max(1, len(self._waiting)) + (not self._busy))
        while len(self._idle) + len(self._busy) + len(self._starting) < wanted:
            try:
                connection = self._channel.ask_for_child()
            except OSError:
                self._grow_later()
                return
            self._starting.add(Connection(connection, self._is_ready, self._has_gone))

    def _is_ready(self, child: Connection) -> None:
        self._starting.discard(child)
        self._pause = FIRST_PAUSE_SECONDS
        self._hand_over(child)

    def _has_gone(self, child: Connection) -> None:
        """A child that was not at work has ended: it could not start, or somebody has killed it."""
        if child in self._starting:
            self._starting.discard(child)
            self._grow_later()
        elif child in self._idle:
            self._idle.remove(child)
            self._grow()

    def _grow_later(self) -> None:
        if self._restart is None and not self._is_closed:
            self._restart = asyncio.get_running_loop().call_later(self._pause, self._grow_again)
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    def _grow_again(self) -> None:
        self._restart = None
        self._grow()


def _merged(found: list[Opened], errand: Errand) -> Opened:
    """Put together what the parts gave one by one, within the bounds of the whole."""
    bounds = errand.bounds
    parts = [part for one in found for part in one.parts]
    links = dict.fromkeys(link for one in found for link in one.links)
    problems = dict.fromkeys(problem for one in found for problem in one.problems)
    if len(parts) > bounds.files:
        # The message's own parts stay, whatever lies within them: a task without a part would be one that is clean.
        parts = [part for part in parts if not part.depth] + [part for part in parts if part.depth]
        problems["too_many_files"] = None
    if len(links) > bounds.links:
        problems["too_many_links"] = None
    return Opened(
        tuple(parts[: max(bounds.files, len(errand.tasks))]),
        tuple(links)[: bounds.links],
        "\n".join(one.text for one in found if one.text)[: bounds.text_chars],
        tuple(rendition for one in found for rendition in one.renditions),
        tuple(problems),
    )
