"""The log: one event a line, as JSON on standard error.

Events come from a closed list, so that a reader can search for them.

Each line has the time, the level, the event's name, the process and, where a message is meant, its reference.
"""

import asyncio
import contextlib
import functools
import os
import sys
from collections import deque
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec
import structlog

# The closed list. docs/operators-guide.md explains each; a name that is not here is a programming error and raises.
EVENTS: Final = frozenset(
    {
        "process.started",
        "process.stopped",
        "process.died",
        "process.failed",
        "listener.listening",
        "listener.draining",
        "session.refused",
        "session.failed",
        "message.accepted",
        "message.refused",
        "message.deferred",
        "message.held",
        "message.released",
        "message.discarded",
        "delivery.delivered",
        "delivery.deferred",
        "delivery.failed",
        "delivery.held",
        "delivery.error",
        "notice.queued",
        "notice.error",
        "spool.failed",
        "spool.full",
        "spool.room",
        "spool.adopted",
        "spool.damaged",
        "spool.copied",
        "import.failed",
        "import.resumed",
        "import.refused",
        "database.away",
        "database.back",
        "policy.loaded",
        "policy.refused",
        "policy.last_good",
        "page.failed",
        "job.done",
        "job.failed",
        "retention.pruned",
        "drop.received",
    }
)

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


_ENCODE = msgspec.json.Encoder(enc_hook=str).encode


GATHER_SECONDS = 0.05
GATHER_LINES = 100


class _Line:
    """A structlog wrapper's target: writes whole lines, so that processes do not mix theirs. Any thread may call it."""

    def __init__(self, stream: TextIO) -> None:
        self._write = _writer_of(stream)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gathered: deque[bytes] = deque()
        self.lost = 0

    def gather(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop

    def gathered(self, line: bytes) -> None:
        """Write with what else comes within a moment: a system call for each line costs as much as judging."""
        lines = self._gathered
        lines.append(line)
        if self._loop is None or len(lines) >= GATHER_LINES:
            self.flush()
        elif len(lines) == 1:
            self._loop.call_soon_threadsafe(self._loop.call_later, GATHER_SECONDS, self.flush)

    def flush(self) -> None:
        taken = []
        with contextlib.suppress(IndexError):
            while True:  # one by one: another thread may add meanwhile
                taken.append(self._gathered.popleft())
        try:
            self._write(b"".join(taken))
        except (OSError, ValueError):
            self.lost += len(taken)  # A log that cannot be written must not stop the mail.

    def at_once(self, line: bytes) -> None:
        self._gathered.append(line)
        self.flush()

    debug = info = gathered
    warning = error = at_once


def _writer_of(stream: TextIO) -> Callable[[bytes], object]:
    """Return what writes octets to a stream: straight to its descriptor where it has one."""
    try:
        return functools.partial(os.write, stream.fileno())
    except (OSError, ValueError):
        return lambda line: stream.write(line.decode())


def _render(_logger: Any, level: str, event: MutableMapping[str, Any]) -> bytes:
    name = event.pop("event")
    if name not in EVENTS:
        raise ValueError(f"{name!r} is not an event of gateway.log.EVENTS")
    return _ENCODE({"at": datetime.now(UTC), "level": level, "event": name, "process": _process, **event}) + b"\n"


_process = "gatepost"


def configure(level: str = "info", process: str = "gatepost", stream: TextIO | None = None) -> None:
    """Set level and process name; called once by each process, after a fork as well."""
    global _process
    _process = process
    structlog.configure(
        processors=[_render],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _Current.lines,
        cache_logger_on_first_use=False,
    )
    _Current.lines = _Line(stream or sys.stderr)
    logger = structlog.get_logger().bind()
    for name in LEVELS:
        setattr(_Current, name, staticmethod(getattr(logger, name)))


def gather(loop: asyncio.AbstractEventLoop) -> None:
    """Let lines of level info wait for company, at most a twentieth of a second; call `flush` at the end."""
    _Current.lines.gather(loop)


def flush() -> None:
    """Write what waits, and write at once from now on."""
    _Current.lines.flush()
    _Current.lines.gather(None)


def take_lost() -> int:
    """Return how many lines could not be written since the last call."""
    lost: int = _Current.lines.lost
    _Current.lines.lost = 0
    return lost


class _Current:
    """The logger in force. Its methods are bound once: they are called twice for each message."""

    lines: Any = None
    debug: Any
    info: Any
    warning: Any
    error: Any


def debug(event: str, **fields: Any) -> None:
    """Write a line for the developer."""
    _Current.debug(event, **fields)


def info(event: str, **fields: Any) -> None:
    """Write a line for what went as it should."""
    _Current.info(event, **fields)


def warning(event: str, **fields: Any) -> None:
    """Write a line for what needs an eye."""
    _Current.warning(event, **fields)


def error(event: str, **fields: Any) -> None:
    """Write a line for what needs a hand."""
    _Current.error(event, **fields)


configure()
