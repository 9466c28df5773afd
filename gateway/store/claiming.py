"""Who has a delivery in hand: claims of what is due, the leases on it, and what dead owners left behind.

The clock may jump: a time further ahead than any back-off or any lease is no time to wait for.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, and_, false, func, or_, select, text, update

from gateway.accepted import Location, State
from gateway.mail.address import Address
from gateway.mail.envelope import Direction
from gateway.store.database import Database
from gateway.store.mail_tables import BY_KEY, IS_ACTIVE, IS_QUEUED, address_of, deliveries
from gateway.store.statements import clock

LONGEST_BACK_OFF = timedelta(hours=8)
LONGEST_LEASE = timedelta(hours=1)
LOOKED_AT = 5000  # due rows of one source, the longest due, among which domains take turns
SLICE_ROWS = 200

IsHere = Callable[[str], bool]
Group = tuple[str, int]

# The sources of what is queued, each found by one look into the index, however much of it there is.
_SOURCES = text(
    "WITH RECURSIVE found(source) AS ("
    "SELECT MIN(source) FROM deliveries WHERE state = 'queued' UNION ALL "
    "SELECT (SELECT MIN(source) FROM deliveries WHERE state = 'queued' AND source > found.source) "
    "FROM found WHERE found.source IS NOT NULL"
    ") SELECT source FROM found WHERE source IS NOT NULL"
)


class ClaimedRecipient(Struct, frozen=True):
    """A recipient to try. After a redirection it is none of those in the spool's record."""

    address: Address
    direction: Direction
    attempts: int
    is_delay_told: bool


class Claim(Struct, frozen=True):
    """The recipients of one group that are due, and where its record is."""

    message_id: str
    group: int
    location: Location
    source: str
    recipients: tuple[ClaimedRecipient, ...]


def claim(
    db: Database,
    *,
    owner: str,
    now: datetime,
    limit: int,
    lease_seconds: float,
    is_here: IsHere = lambda owner: False,
    paused: Iterable[str] = (),
    host: str = "",
) -> list[Claim]:
    """Take up to `limit` groups that are due, for `lease_seconds`: in turns between sources and destination domains.

    `is_here` says of an owner whether its folder is in our spool. Then its leases do not end by time: it renews them,
    or is dead, and what it delivered last stands in the folder; whoever adopts that saves it and releases them. Domains
    in `paused` are left alone. With `host` only records in spool folders of that host are taken, the others cannot be
    read there. PostgreSQL goes by the database's clock.
    """
    with db.reading() as connection:
        now = clock(connection, now)
        abandoned = _abandoned(connection, owner, now, is_here)
        chosen = _choose(connection, now, limit, abandoned, tuple(paused), host)
    claims: list[Claim] = []
    for at in range(0, len(chosen), SLICE_ROWS):
        with db.writing() as connection:
            now = clock(connection, now)
            rows = _lock_rows(connection, chosen[at : at + SLICE_ROWS], now, abandoned, tuple(paused))
            _lease(connection, rows, owner, now + timedelta(seconds=lease_seconds))
        claims += _claims(rows)
    return claims


def _is_due(now: datetime) -> ColumnElement[bool]:
    due_at = deliveries.c.due_at
    return or_(due_at <= now, due_at > now + LONGEST_BACK_OFF)


def _abandoned(connection: Connection, owner: str, now: datetime, is_here: IsHere) -> ColumnElement[bool]:
    """Return the condition for leases that hold no more."""
    table = deliveries.c
    others = connection.execute(select(table.lease_owner).where(IS_ACTIVE).distinct()).scalars()
    unseen = [other for other in others if other != owner and not is_here(other)]
    if not unseen:
        return false()
    ended = or_(table.lease_until <= now, table.lease_until > now + LONGEST_LEASE)
    return and_(IS_ACTIVE, table.lease_owner.in_(unseen), ended)


def _choose(
    connection: Connection,
    now: datetime,
    limit: int,
    abandoned: ColumnElement[bool],
    paused: tuple[str, ...],
    host: str,
) -> list[Group]:
    """Choose groups: what dead owners left first, then the due ones, source by source and domain by domain."""
    table = deliveries.c
    allowed = _allowed(paused, host)
    query = select(table.message_id, table.group_number).where(abandoned, *allowed).distinct().limit(limit)
    chosen = [(row[0], row[1]) for row in connection.execute(query)]
    sources = list(connection.execute(_SOURCES).scalars())
    chosen += _in_turns([_due_of(connection, source, now, limit, allowed) for source in sources])
    return list(dict.fromkeys(chosen))[:limit]


def _allowed(paused: tuple[str, ...], host: str) -> list[ColumnElement[bool]]:
    table = deliveries.c
    allowed: list[ColumnElement[bool]] = [table.domain.not_in(paused)] if paused else []
    if host:
        # A folder's name is HOST-ROLE-BOOT-PID-CHANCE, and the host's name may have hyphens itself.
        ours = host.replace("%", "").replace("_", "%") + "-%" * 4
        allowed += [table.segment.like(ours), table.segment.not_like(ours + "-%")]
    return allowed


def _due_of(
    connection: Connection, source: str, now: datetime, limit: int, allowed: list[ColumnElement[bool]]
) -> Iterator[Group]:
    """Yield due groups of a source, one of each domain in turn, then those that a jump of the clock left behind."""
    table = deliveries.c
    for is_due in (table.due_at <= now, table.due_at > now + LONGEST_BACK_OFF):
        # All from one index, which is read from its beginning: a domain with ten thousand rows costs a few
        # milliseconds.
        due = (
            select(table.domain, table.due_at, table.message_id, table.group_number)
            .where(IS_QUEUED, table.source == source, is_due, *allowed)
            .order_by(table.due_at)
            .limit(LOOKED_AT)
            .subquery()
        )
        group = due.c.message_id, due.c.group_number
        since, domain = func.min(due.c.due_at), func.min(due.c.domain)
        turn = func.row_number().over(partition_by=domain, order_by=since)
        query = select(*group).group_by(*group).order_by(turn, since).limit(limit)
        for row in connection.execute(query):
            yield row[0], row[1]


def _in_turns(lines: Iterable[Iterator[Group]]) -> Iterator[Group]:
    waiting = deque(lines)
    while waiting:
        line = waiting.popleft()
        group = next(line, None)
        if group is not None:
            yield group
            waiting.append(line)


def _lock_rows(
    connection: Connection,
    groups: Sequence[Group],
    now: datetime,
    abandoned: ColumnElement[bool],
    paused: tuple[str, ...],
) -> list[Any]:
    """Return the rows of the groups that are still to be had, locked against others."""
    table = deliveries.c
    wanted = set(groups)
    query = (
        select(
            table.message_id,
            table.group_number,
            table.recipient,
            table.direction,
            table.source,
            table.attempts,
            table.segment,
            table.segment_offset,
            table.segment_length,
            table.delay_notified_at,
        )
        .where(table.message_id.in_({id for id, _ in groups}), table.segment.is_not(None))
        .where(or_(and_(IS_QUEUED, _is_due(now)), abandoned), *_allowed(paused, ""))
        .order_by(table.message_id, table.group_number, table.recipient)
        .with_for_update(skip_locked=True)
    )
    return [row for row in connection.execute(query) if (row.message_id, row.group_number) in wanted]


def _lease(connection: Connection, rows: Sequence[Any], owner: str, until: datetime) -> None:
    if rows:
        keys = [{"id": row[0], "group": row[1], "to": row[2]} for row in rows]
        values = {"state": State.ACTIVE.value, "due_at": None, "lease_owner": owner, "lease_until": until}
        connection.execute(update(deliveries).where(*BY_KEY).values(**values), keys)


def _claims(rows: Iterable[Any]) -> list[Claim]:
    claims = []
    # A group's recipients that were released one by one have records of their own.
    for (id, group, *_), members in groupby(sorted(rows, key=_record_of), key=_record_of):
        together = list(members)
        first = together[0]
        claims.append(
            Claim(
                message_id=id,
                group=group,
                location=Location(first.segment, first.segment_offset, first.segment_length),
                source=first.source,
                recipients=tuple(
                    ClaimedRecipient(
                        address_of(row.recipient),
                        Direction(row.direction),
                        row.attempts,
                        row.delay_notified_at is not None,
                    )
                    for row in together
                ),
            )
        )
    return claims


def _record_of(row: Any) -> tuple[str, int, str, int]:
    return row.message_id, row.group_number, row.segment, row.segment_offset


def renew(db: Database, owner: str, until: datetime) -> int:
    """Hold everything that `owner` has in hand until then; return how many deliveries that are."""
    statement = update(deliveries).where(IS_ACTIVE, deliveries.c.lease_owner == owner).values(lease_until=until)
    with db.writing() as connection:
        return connection.execute(statement).rowcount


def release_owner(db: Database, owner: str, *, now: datetime | None = None) -> int:
    """Put everything that `owner` had in hand back into the queue, due at once; return how many deliveries that are."""
    values = {"state": State.QUEUED.value, "due_at": now or datetime.now(UTC), "lease_owner": "", "lease_until": None}
    statement = update(deliveries).where(IS_ACTIVE, deliveries.c.lease_owner == owner).values(**values)
    with db.writing() as connection:
        return connection.execute(statement).rowcount
