"""What people type on the command line: dates, spans of time, and how ledger entries are shown."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import click

from gateway.store.entries import Listed


class Until(click.ParamType[datetime]):
    """An end: a day (`2027-06-30`, its last second in UTC) or days from now (`90d`)."""

    name = "DAY|DAYS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment in UTC."""
        if isinstance(value, datetime):
            return value
        if value.endswith("d") and value[:-1].isdigit():
            return datetime.now(UTC) + timedelta(days=int(value[:-1]))
        try:
            return datetime.combine(date.fromisoformat(value), time(23, 59, 59), UTC)
        except ValueError:
            self.fail(f"{value!r} should be a day like 2027-06-30 or a number of days like 90d", param, ctx)


UNTIL = Until()
ENTRY_HEADINGS = ("owner", "reason", "until", "last used", "uses", "id")


def entry_cells(listed: Listed[Any]) -> Sequence[Any]:
    """Return what every kind of ledger entry shows after its own columns."""
    until = getattr(listed.entry, "expires_at", None)
    if listed.ended_at is not None:
        shown = f"ended {listed.ended_at:%Y-%m-%d}"
    elif until is not None and until < datetime.now(UTC):
        shown = f"EXPIRED {until:%Y-%m-%d}"
    else:
        shown = f"{until:%Y-%m-%d}" if until else "no end"
    return (listed.owner, listed.reason, shown, listed.last_used_at or "never", listed.use_count, listed.entry.id)
