"""Sessions with refusals before DATA: one row each, with the last refusal in full."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import Column, Connection, Index, Integer, Table, Text, func, select

from gateway.store import counters
from gateway.store.database import Database
from gateway.store.metadata import METADATA, UtcDateTime, storable
from gateway.store.statements import insert_new, instant_writer

SLICE_ROWS = 200

refused_sessions = Table(
    "refused_sessions",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("started_at", UtcDateTime, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
    Column("listener", Text, nullable=False),
    Column("peer_ip", Text, nullable=False),
    Column("peer_name", Text, nullable=False),
    Column("helo", Text, nullable=False),
    Column("tls", Text, nullable=False),
    Column("refused_count", Integer, nullable=False),
    Column("stage", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("reply", Text, nullable=False),
    Column("mail_from", Text, nullable=False),
    Column("rcpt_to", Text, nullable=False),
    Index("ix_refused_sessions_started_at", "started_at"),
    Index("ix_refused_sessions_peer_ip_started_at", "peer_ip", "started_at"),
)


class RefusedSession(Struct, frozen=True):
    """One session, when it is over. Stage, reason, reply and paths are those of its last refusal."""

    id: str
    started_at: datetime
    last_at: datetime
    listener: str
    peer_ip: str
    peer_name: str
    helo: str
    tls: str
    refused_count: int
    stage: str
    reason: str
    reply: str
    mail_from: str
    rcpt_to: str


class RefusedPeer(Struct, frozen=True):
    """What was refused to one address for one reason."""

    peer_ip: str
    reason: str
    sessions: int
    refusals: int
    last_at: datetime


def record(db: Database, rows: Sequence[RefusedSession]) -> None:
    """Record sessions and count their refusals by hour; a session that is there already is left as it is."""
    write = instant_writer(is_sqlite=db.is_sqlite)
    for at in range(0, len(rows), SLICE_ROWS):
        part = rows[at : at + SLICE_ROWS]
        values = [
            (
                row.id,
                write(row.started_at),
                write(row.last_at),
                str(row.listener),
                row.peer_ip,
                storable(row.peer_name),
                storable(row.helo),
                row.tls,
                row.refused_count,
                row.stage,
                storable(str(row.reason), 100),
                storable(row.reply),
                storable(row.mail_from),
                storable(row.rcpt_to),
            )
            for row in part
        ]
        with db.writing() as connection:
            known = _known_ids(connection, [row.id for row in part])
            insert_new(connection, refused_sessions, values)
            counters.add(connection, _counts(row for row in part if row.id not in known))


def _known_ids(connection: Connection, ids: Sequence[str]) -> set[str]:
    return set(connection.execute(select(refused_sessions.c.id).where(refused_sessions.c.id.in_(ids))).scalars())


def _counts(rows: Iterable[RefusedSession]) -> counters.Counts:
    counts: counters.Counts = Counter()
    for row in rows:
        counts[counters.hour_of(row.last_at), "refused", storable(str(row.reason), 100)] += row.refused_count
    return counts


def sessions(
    db: Database, *, peer_ip: str = "", before: datetime | None = None, limit: int = 100
) -> list[RefusedSession]:
    """Return sessions, newest first; the next page is asked for with the last one's `started_at` as `before`."""
    table = refused_sessions.c
    query = select(refused_sessions).order_by(table.started_at.desc()).limit(limit)
    if peer_ip:
        query = query.where(table.peer_ip == peer_ip)
    if before is not None:
        query = query.where(table.started_at < before)
    with db.reading() as connection:
        return [RefusedSession(*row) for row in connection.execute(query)]


def peers(db: Database, *, since: datetime, listener: str = "", limit: int = 200) -> list[RefusedPeer]:
    """Return to whom something was refused since then, and why, most refusals first."""
    table = refused_sessions.c
    refusals = func.sum(table.refused_count)
    query = select(table.peer_ip, table.reason, func.count(), refusals, func.max(table.last_at))
    query = query.where(table.started_at >= since).group_by(table.peer_ip, table.reason)
    if listener:
        query = query.where(table.listener == listener)
    with db.reading() as connection:
        rows = connection.execute(query.order_by(refusals.desc(), table.peer_ip, table.reason).limit(limit)).all()
    return [RefusedPeer(ip, reason, count, int(total), last_at) for ip, reason, count, total, last_at in rows]
