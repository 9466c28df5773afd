"""What people type on the command line: dates, spans of time, and how ledger entries are shown."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from ipaddress import ip_address
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
        now = datetime.now(UTC)
        try:
            if value.endswith("d") and value[:-1].isdigit():
                return now + timedelta(days=int(value[:-1]))
            moment = datetime.combine(date.fromisoformat(value), time(23, 59, 59), UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} should be a day like 2027-06-30 or a number of days like 90d", param, ctx)
        if moment < now:
            self.fail(f"{value!r} lies in the past", param, ctx)
        return moment


class Peer(click.ParamType[str]):
    """An IP address, as it is stored."""

    name = "ADDRESS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the address in its usual form; "" stays what it is."""
        try:
            return str(ip_address(value)) if value else ""
        except ValueError:
            self.fail(f"{value!r} should be an IP address like 192.0.2.7", param, ctx)


UNTIL = Until()
PEER = Peer()
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
