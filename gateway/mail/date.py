"""Dates of header fields (RFC 5322 section 3.3), written and read. Times are aware; what is written is in UTC."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MAX_DATE = 100  # characters that are read


def format_date(at: datetime) -> str:
    """Return e.g. `Tue, 24 Nov 2026 04:00:00 +0000`, whatever the locale. `at` is aware."""
    return _format(int(at.timestamp()))


@lru_cache(maxsize=64)
def _format(seconds: int) -> str:
    at = datetime.fromtimestamp(seconds, UTC)
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    return f"{day}, {at.day:02d} {month} {at.year:04d} {at.hour:02d}:{at.minute:02d}:{at.second:02d} +0000"


def parse_date(text: str) -> datetime | None:
    """Read a date of a header field as UTC; None if it is none. A date without a zone is taken as UTC."""
    try:
        at = parsedate_to_datetime(text[:MAX_DATE])
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
