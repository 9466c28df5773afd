"""Save what attempts of delivery did, before anybody is told: who has the lease decides whether it still counts."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, null, update

from gateway.accepted import Settled, State
from gateway.store import counters, held
from gateway.store.database import Database
from gateway.store.mail_tables import BY_KEY, IS_ACTIVE, deliveries
from gateway.store.metadata import is_literally, storable

SLICE_ROWS = 200


def settle(db: Database, results: Sequence[Settled], *, owner: str) -> int:
    """Save results of attempts by `owner`; return how many were news.

    A delivery is a fact, whoever has the lease by now. Any other result counts only from who holds the lease; what an
    operator did meanwhile stands. Results for messages that are not imported yet are lost: import first.
    """
    news = 0
    for at in range(0, len(results), SLICE_ROWS):
        part = sorted(results[at : at + SLICE_ROWS], key=lambda result: result.state)
        with db.writing() as connection:
            for state, group in groupby(part, key=lambda result: result.state):
                news += _settle(connection, state, list(group), owner)
    return news


def _settle(connection: Connection, state: State, results: list[Settled], owner: str) -> int:
    if state is State.HELD:  # rare; each needs an item for the people who look after it
        held_now = [one for one in results if _update(connection, state, [one], owner)]
        held.hold_undeliverable(connection, held_now)
        count = len(held_now)
    else:
        count = _update(connection, state, results, owner)
    if count:
        counters.add(connection, Counter({(counters.hour_of(results[0].at), "deliveries", state.value): count}))
    return count


def _update(connection: Connection, state: State, results: list[Settled], owner: str) -> int:
    table = deliveries.c
    if state is State.DELIVERED:
        applies = ~is_literally(table.state, State.DELIVERED)
    else:
        applies = and_(IS_ACTIVE, table.lease_owner == bindparam("by_owner"))
    keeps: ColumnElement[int] = bindparam("keeps")
    statement = (
        update(deliveries)
        .where(*BY_KEY, applies)
        .values(
            state=state.value,
            attempts=bindparam("made"),
            due_at=bindparam("due"),
            lease_owner="",
            lease_until=None,
            segment=case((keeps == 1, table.segment), else_=null()),
            segment_offset=case((keeps == 1, table.segment_offset), else_=null()),
            segment_length=case((keeps == 1, table.segment_length), else_=null()),
            last_at=bindparam("at"),
            last_host=bindparam("host"),
            last_reply=bindparam("reply"),
            tls=bindparam("with_tls"),
            notice_due=bindparam("notice"),
        )
    )
    rows = [
        {
            "id": result.message_id,
            "group": result.group,
            "to": storable(str(result.recipient)),
            "by_owner": owner,
            "made": result.attempts,
            "due": (result.due_at or result.at) if state is State.QUEUED else None,
            "keeps": int(state in (State.QUEUED, State.HELD) or result.notice_due != ""),
            "at": result.at,
            "host": storable(result.host),
            "reply": storable(result.reply),
            "with_tls": result.tls,
            "notice": result.notice_due,
        }
        for result in results
    ]
    return connection.execute(statement, rows).rowcount
