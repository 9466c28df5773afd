"""The end of a process in good order: an event that SIGTERM or SIGINT sets, and the event loop of the settings."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop


def until_signal(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets."""
    event = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    return event


def run_loop(work: Coroutine[Any, Any, None], kind: str) -> None:
    """Run to the end on the loop of that kind (`uvloop` or `asyncio`)."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop if kind == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)
