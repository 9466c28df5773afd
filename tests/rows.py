"""What the database says of the mail, and a hand in it: rows are counted, and moved in time for a clock that jumped."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, func, select, update

from gateway.store.database import Database
from gateway.store.mail_tables import deliveries, messages

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Rows:
    """The database of one product, opened for each question and closed again."""

    def __init__(self, database: Callable[[], AbstractContextManager[Database]]) -> None:
        self._database = database

    @contextlib.contextmanager
    def _connection(self, *, writing: bool = False) -> Iterator[Connection]:
        with self._database() as database, database.writing() if writing else database.reading() as connection:
            yield connection

    def states(self) -> Counter[str]:
        """Return how many deliveries are in which state."""
        with self._connection() as connection:
            rows = connection.execute(select(deliveries.c.state, func.count()).group_by(deliveries.c.state))
            return Counter(dict(map(tuple, rows)))

    def open_count(self) -> int:
        """Return how many deliveries wait or are under way."""
        states = self.states()
        return states["queued"] + states["active"]

    def delivery_states(self) -> dict[tuple[str, str], list[str]]:
        """Return the states of each (load id, recipient)."""
        with self._connection() as connection:
            joined = deliveries.join(messages, deliveries.c.message_id == messages.c.id)
            columns = (messages.c.internet_message_id, deliveries.c.recipient, deliveries.c.state)
            found: dict[tuple[str, str], list[str]] = {}
            for message_id, recipient, state in connection.execute(select(*columns).select_from(joined)):
                found.setdefault((message_id.strip("<>").partition("@")[0], recipient), []).append(state)
            return found

    def held_pairs(self) -> set[tuple[str, str]]:
        """Return (load id, recipient) of what is held for a person."""
        return {pair for pair, states in self.delivery_states().items() if "held" in states}

    def make_due(self) -> None:
        """Make everything that waits due now."""
        with self._connection(writing=True) as connection:
            connection.execute(update(deliveries).where(deliveries.c.state == "queued").values(due_at=LONG_AGO))

    def shift(self, by: timedelta) -> int:
        """Move the times of all that waits, as a clock that jumped the other way would show them; return how many."""
        keys = (deliveries.c.message_id, deliveries.c.group_number, deliveries.c.recipient)
        times = (deliveries.c.due_at, deliveries.c.lease_until, deliveries.c.expires_at, deliveries.c.last_at)
        is_waiting = deliveries.c.state.in_(("queued", "active"))
        with self._connection(writing=True) as connection:
            rows = connection.execute(select(*keys, *times).where(is_waiting)).all()
            for row in rows:
                moved = {time.name: row._mapping[time] + by for time in times if row._mapping[time] is not None}
                change = update(deliveries).values(moved)
                for key in keys:
                    change = change.where(key == row._mapping[key])
                connection.execute(change)
            return len(rows)
