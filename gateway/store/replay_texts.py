"""Texts of messages, kept for replay for a few days, apart from the traces because they go earlier."""

from collections.abc import Iterable
from datetime import date

from gateway.store import days
from gateway.store.database import Database
from gateway.store.metadata import storable

MAX_CHARACTERS = 16384


def put(db: Database, texts: Iterable[tuple[str, str]]) -> None:
    """Keep texts by message id, cut to 16 KB. Raises Malformed for what is no id."""
    days.put(db, days.REPLAY_TEXTS, [(id, storable(text, MAX_CHARACTERS)) for id, text in texts])


def load(db: Database, id: str) -> str | None:
    """Return the text kept for a message, None when there is none or not any more."""
    kept = days.get(db, days.REPLAY_TEXTS, id)
    return kept.decode(errors="replace") if isinstance(kept, bytes) else kept


def drop_before(db: Database, day: date) -> int:
    """Drop the texts of all days before `day`; return how many days were dropped."""
    return days.drop_before(db, days.REPLAY_TEXTS, day)
