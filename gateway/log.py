"""The log: one event a line, as JSON on standard error.

Events come from a closed list, so that a reader can search for them.

Each line has the time, the level, the event's name, the process and, where a message is meant, its reference.
"""

import sys
import threading
from collections.abc import MutableMapping
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
        "job.done",
        "job.failed",
        "retention.pruned",
        "drop.received",
    }
)

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class _Line:
    """A structlog wrapper's target: writes whole lines, one write call each, so that processes do not mix theirs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def msg(self, line: bytes) -> None:
        with self._lock:
            try:
                self._stream.buffer.write(line + b"\n")
                self._stream.flush()
            except (OSError, ValueError):
                pass  # A log that cannot be written must not stop the mail.

    debug = info = warning = error = msg


_ENCODE = msgspec.json.Encoder(enc_hook=str).encode
_process = "gatepost"


def _render(_logger: Any, level: str, event: MutableMapping[str, Any]) -> bytes:
    name = event.pop("event")
    if name not in EVENTS:
        raise ValueError(f"{name!r} is not an event of gateway.log.EVENTS")
    return _ENCODE({"at": datetime.now(UTC), "level": level, "event": name, "process": _process, **event})


def configure(level: str = "info", process: str = "gatepost", stream: TextIO | None = None) -> None:
    """Set level and process name; called once by each process, after a fork as well."""
    global _process
    _process = process
    structlog.configure(
        processors=[_render],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _Line(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    _Current.logger = structlog.get_logger().bind()


class _Current:
    logger: Any = None


def _logger() -> Any:
    if _Current.logger is None:
        configure()
    return _Current.logger


def debug(event: str, **fields: Any) -> None:
    """Write a line for the developer."""
    _logger().debug(event, **fields)


def info(event: str, **fields: Any) -> None:
    """Write a line for what went as it should."""
    _logger().info(event, **fields)


def warning(event: str, **fields: Any) -> None:
    """Write a line for what needs an eye."""
    _logger().warning(event, **fields)


def error(event: str, **fields: Any) -> None:
    """Write a line for what needs a hand."""
    _logger().error(event, **fields)
