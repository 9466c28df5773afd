"""Traces: everything that was decided about one message, kept by day as the MessagePack that the worker wrote."""

from datetime import date

import msgspec

from gateway.store import days
from gateway.store.database import Database
from gateway.verdict import Trace


def load(db: Database, id: str) -> Trace | None:
    """Return a message's trace, None when it was not kept or not any more. Raises Malformed for what is no id."""
    kept = days.get(db, days.TRACES, id)
    if kept is None:
        return None
    return msgspec.msgpack.decode(kept if isinstance(kept, bytes) else kept.encode(), type=Trace)


def drop_before(db: Database, day: date) -> int:
    """Drop the traces of all days before `day`; return how many days were dropped."""
    return days.drop_before(db, days.TRACES, day)
