"""The sessions of one worker that are alive, and their orderly end."""

import asyncio
from collections.abc import Iterable
from typing import Protocol


class Drains(Protocol):
    """One session."""

    def drain(self) -> None:
        """Say 421 as soon as no transaction is open, and hang up."""

    def abort(self) -> None:
        """Cut the connection now. A message that was handed to intake is still carried to its outcome."""


class Sessions:
    """All live sessions of a worker, whatever the listener. A session stays here until its last message is settled."""

    def __init__(self) -> None:
        self._live: set[Drains] = set()
        self._empty = asyncio.Event()
        self.is_draining = False

    def __len__(self) -> int:
        return len(self._live)

    def add(self, session: Drains) -> None:
        self._live.add(session)

    def discard(self, session: Drains) -> None:
        self._live.discard(session)
        if not self._live:
            self._empty.set()

    async def drain(self, servers: Iterable[asyncio.Server], seconds: float) -> int:
        """Stop accepting, let open transactions end, tell idle peers 421 (RFC 5321 section 3.8), cut what is left.

        Waits `seconds` at most before the cut. Returns how many sessions had to be cut.
        """
        self.is_draining = True
        for server in servers:
            server.close()
        for session in tuple(self._live):
            session.drain()
        if await self._wait_empty(seconds):
            return 0
        cut = tuple(self._live)
        for session in cut:
            session.abort()
        await self._wait_empty(seconds)
        return len(cut)

    async def _wait_empty(self, seconds: float) -> bool:
        if not self._live:
            return True
        self._empty.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return not self._live
        return True
