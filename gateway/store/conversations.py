"""Whom the company writes to: Message-IDs that we sent, and pairs of addresses. No bytes of a message are looked at."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import BigInteger, Column, Connection, Index, PrimaryKeyConstraint, Table, Text, func, select

from gateway.accepted import Accepted
from gateway.mail.envelope import Direction, Recipient
from gateway.store.database import Database
from gateway.store.mail_tables import HELD_LATER, address_of, held_items, messages
from gateway.store.metadata import METADATA, UtcDateTime, storable
from gateway.store.statements import Row, insert_new, instant_writer, upsert

MAX_ASKED = 100  # Message-IDs of one question; a References field may be endless

sent_messages = Table(
    "sent_messages",
    METADATA,
    Column("internet_message_id", Text, primary_key=True),
    Column("message_id", Text, nullable=False),
    Column("sent_at", UtcDateTime, nullable=False),
    Index("ix_sent_messages_sent_at", "sent_at"),
    sqlite_with_rowid=False,
)

correspondents = Table(
    "correspondents",
    METADATA,
    Column("ours", Text, nullable=False),
    Column("theirs", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("first_at", UtcDateTime, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
    Column("message_count", BigInteger, nullable=False),
    PrimaryKeyConstraint("ours", "theirs"),
    Index("ix_correspondents_theirs", "theirs"),
    Index("ix_correspondents_domain", "domain"),
    Index("ix_correspondents_last_at", "last_at"),
    sqlite_with_rowid=False,
)


class Partner(Struct, frozen=True):
    """A domain that the company writes to."""

    domain: str
    addresses: int
    messages: int
    last_at: datetime


class _Pair(Struct, order=True):
    domain: str
    first_at: datetime
    last_at: datetime
    messages: int


def note(connection: Connection, sent: Sequence[Accepted]) -> None:
    """Remember messages that leave: their Message-IDs as received and as sent, and who wrote to whom."""
    write = instant_writer(is_sqlite=connection.dialect.name == "sqlite")
    ids: list[Row] = []
    pairs: dict[tuple[str, str], _Pair] = {}
    for accepted in sent:
        at = accepted.accepted_at
        for name in dict.fromkeys((accepted.message_id, accepted.sent_message_id)):
            if name:
                ids.append((storable(name.strip()), accepted.id, write(at)))
        if accepted.mail_from.is_null or accepted.is_notice:
            continue
        ours = storable(accepted.mail_from.key)
        for recipient in accepted.recipients:
            theirs = storable(recipient.address.key)
            pair = pairs.get((ours, theirs))
            if pair is None:
                pair = pairs[ours, theirs] = _Pair(storable(recipient.address.ascii_domain), at, at, 0)
            pair.messages += 1
            pair.last_at = max(pair.last_at, at)
    insert_new(connection, sent_messages, ids)
    rows = [
        (*key, one.domain, write(one.first_at), write(one.last_at), one.messages) for key, one in sorted(pairs.items())
    ]
    upsert(connection, correspondents, rows, added=("message_count",), latest=("last_at",))


def note_released(connection: Connection, id: str, group: int, recipients: Iterable[Recipient], now: datetime) -> None:
    """Remember a held group that leaves now, to these recipients, as an import does of what leaves at once.

    What was on its way before it was held is remembered since then.
    """
    leaving = tuple([one for one in recipients if one.direction is Direction.OUTBOUND])
    if not leaving:
        return
    shown, item = messages.c, held_items.c
    query = select(shown.mail_from, shown.size, shown.internet_message_id, shown.is_notice, item.sent_message_id)
    query = query.join(held_items, item.message_id == shown.id)
    query = query.where(shown.id == id, item.group_number == group, item.kind.not_in(HELD_LATER))
    row = connection.execute(query).one_or_none()
    if row is not None:
        released = Accepted(
            id=id,
            group=group,
            mail_from=address_of(row.mail_from),
            recipients=leaving,
            direction=Direction.OUTBOUND,
            accepted_at=now,
            expires_at=now,
            size=row.size,
            is_notice=row.is_notice,
            message_id=row.internet_message_id,
            sent_message_id=row.sent_message_id,
        )
        note(connection, [released])


def sent_with(db: Database, message_ids: Iterable[str]) -> set[str]:
    """Return which of the Message-IDs (in angle brackets) we sent; only the first hundred are looked up."""
    asked = [storable(name.strip()) for name in message_ids][:MAX_ASKED]
    if not asked:
        return set()
    with db.reading() as connection:
        column = sent_messages.c.internet_message_id
        return set(connection.execute(select(column).where(column.in_(asked))).scalars())


def wrote_to(db: Database, theirs: str, *, ours: str = "", since: datetime | None = None) -> datetime | None:
    """Return when we (`ours`: this one of us) last wrote to an address or, without @, a domain. None: never."""
    table = correspondents.c
    them = table.theirs == theirs.lower() if "@" in theirs else table.domain == theirs.lower()
    query = select(func.max(table.last_at)).where(them)
    if ours:
        query = query.where(table.ours == ours.lower())
    if since is not None:
        query = query.where(table.last_at >= since)
    with db.reading() as connection:
        return connection.execute(query).scalar_one_or_none()


def partners(db: Database, since: datetime, *, limit: int = 10000) -> list[Partner]:
    """Return the domains that were written to since then, the most written to first."""
    table = correspondents.c
    total = func.sum(table.message_count)
    query = select(table.domain, func.count(table.theirs.distinct()), total, func.max(table.last_at))
    query = query.where(table.last_at >= since).group_by(table.domain)
    with db.reading() as connection:
        rows = connection.execute(query.order_by(total.desc(), table.domain).limit(limit)).all()
    return [Partner(domain, addresses, int(messages), last_at) for domain, addresses, messages, last_at in rows]
