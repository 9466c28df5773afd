"""Months in the company's time: which one it is, and the instant at which one begins.

A month is written as `2026-12`. It begins with the first instant of its first day, which in some zones is not midnight.
"""

from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

SECOND = timedelta(seconds=1)


@lru_cache(maxsize=16)
def zone_of(name: str) -> tzinfo:
    """Return the zone with this IANA name. Raises ValueError for one that this machine does not know."""
    if name == "UTC":
        return UTC  # also where no time zone data are installed
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, ValueError):
        raise ValueError(f"{name!r} is no time zone that this machine knows, like Europe/Zurich") from None


def period_of(now: datetime, zone: tzinfo) -> str:
    """Return the month that `now` lies in."""
    local = now.astimezone(zone)
    return f"{local.year:04d}-{local.month:02d}"


def next_period(period: str) -> str:
    """Return the month after this one."""
    year, month = map(int, period.split("-"))
    return f"{year + month // 12:04d}-{month % 12 + 1:02d}"


def begins_at(period: str, zone: tzinfo) -> datetime:
    """Return the first instant of a month, in UTC."""
    year, month = map(int, period.split("-"))
    midnight = datetime(year, month, 1, tzinfo=zone)
    # PEP 495: where the clock jumps over midnight, the two folds give an instant after the jump and one before it.
    late, early = (midnight.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if early >= late:
        return late  # midnight there is; of two the first
    return _first_of_day(early, late, midnight.date(), zone)


def _first_of_day(before: datetime, at: datetime, day: date, zone: tzinfo) -> datetime:
    """Return the first second of a day, by halving. `before` lies on an earlier day, `at` on this one or later."""
    while at - before > SECOND:
        middle = before + (at - before) // 2
        if middle.astimezone(zone).date() < day:
            before = middle
        else:
            at = middle
    return at.replace(microsecond=0)
