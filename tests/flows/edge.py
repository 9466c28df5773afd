"""The outside of a flow test: next hops and nameservers on an event loop in a thread, used from plain functions."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

from tests.nameserver import Nameserver, Zone
from tests.nexthop import NextHop, Taken
from tests.product import wait_until

Entered = TypeVar("Entered")
Result = TypeVar("Result")
SECONDS = 30.0  # until what was accepted has come out, on a busy machine


class Edge:
    """Use as `with Edge() as edge:`; what it makes lives as long as it does."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="edge", daemon=True)
        self._stack = AsyncExitStack()

    def __enter__(self) -> "Edge":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(SECONDS)

    def enter(self, make: Callable[[], AbstractAsyncContextManager[Entered]]) -> Entered:
        """Make something on the loop and enter it."""

        async def entered() -> Entered:
            return await self._stack.enter_async_context(make())

        return self.run(entered())

    def hop(self, **options: Any) -> NextHop:
        """Return a next hop that listens."""
        return self.enter(lambda: NextHop(**options))

    def nameserver(self, zone: Zone) -> Nameserver:
        """Return a nameserver that answers for `zone`."""
        return self.enter(lambda: Nameserver(zone))


def arrivals(hop: NextHop, ref: str) -> list[Taken]:
    """Return what a hop has of the message with this reference: our Received field names it."""
    mark = f"id {ref}".encode()
    return [taken for taken in list(hop.messages) if mark in taken.raw[:2000]]


def arrival(hop: NextHop, ref: str, seconds: float = SECONDS) -> Taken:
    """Wait for the message with this reference and return it as the hop has it."""
    found = wait_until(lambda: arrivals(hop, ref), seconds, f"{ref} at {hop.name}")
    assert isinstance(found[0], Taken)
    return found[0]
