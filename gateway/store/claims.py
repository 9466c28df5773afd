"""Claims on limited uses: one use of a key or waiver by one message for one recipient, taken before it is accepted.

Unique by entry, hash of the received bytes and recipient: who missed our 250 and sends again uses the same use. A claim
whose message never came lapses.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Column, Connection, Index, Table, Text, UniqueConstraint, delete, insert, select, update

from gateway.mail.reference import new_id
from gateway.store.database import Database
from gateway.store.metadata import METADATA, UtcDateTime
from gateway.store.statements import clock

LAPSES_AFTER = timedelta(hours=1)

claims = Table(
    "claims",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("entry_id", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("claimed_at", UtcDateTime, nullable=False),
    # "" until the message is accepted; such claims lapse.
    Column("message_id", Text, nullable=False),
    UniqueConstraint("entry_id", "sha256", "recipient"),
    Index("ix_claims_claimed_at", "claimed_at"),
)


def claim(
    db: Database, entry_id: str, uses: int, *, sha256: str, recipients: Sequence[str], now: datetime
) -> tuple[str, ...]:
    """Claim a use for each of these recipients while there are any; return for whom there was one, in their order.

    Of several who claim at once each sees what the others have taken. PostgreSQL goes by the database's clock.
    """
    with db.writing(durable=True) as connection:
        if not db.is_sqlite:  # there all writers go one after the other
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (entry_id,))
        now = clock(connection, now)
        taken = _taken(connection, entry_id, now)
        granted = []
        for recipient in dict.fromkeys(recipients):
            if (sha256, recipient) not in taken:
                if len(taken) >= uses:
                    continue
                taken.add((sha256, recipient))
                _insert(connection, entry_id, sha256, recipient, now)
            granted.append(recipient)
    return tuple(granted)


def _taken(connection: Connection, entry_id: str, now: datetime) -> set[tuple[str, str]]:
    """Return the uses of an entry as hash and recipient, without those that have lapsed, whose rows go."""
    has_lapsed = (claims.c.message_id == "") & (claims.c.claimed_at < now - LAPSES_AFTER)
    connection.execute(delete(claims).where(claims.c.entry_id == entry_id, has_lapsed))
    rows = connection.execute(select(claims.c.sha256, claims.c.recipient).where(claims.c.entry_id == entry_id))
    return {(sha256, recipient) for sha256, recipient in rows}


def _insert(connection: Connection, entry_id: str, sha256: str, recipient: str, now: datetime) -> None:
    id = new_id(int(now.timestamp() * 1000))
    row = {"id": id, "entry_id": entry_id, "sha256": sha256, "recipient": recipient, "claimed_at": now}
    connection.execute(insert(claims).values(**row, message_id=""))


def keep(connection: Connection, entry_ids: Sequence[str], sha256: str, message_id: str) -> None:
    """Note that the message for which uses were claimed has been accepted: they lapse no more."""
    is_meant = (claims.c.entry_id.in_(entry_ids)) & (claims.c.sha256 == sha256)
    connection.execute(update(claims).where(is_meant).values(message_id=message_id))


def used(db: Database, entry_id: str, now: datetime) -> int:
    """Return how many uses of an entry are taken."""
    is_standing = (claims.c.message_id != "") | (claims.c.claimed_at >= now - LAPSES_AFTER)
    with db.reading() as connection:
        query = select(claims.c.id).where(claims.c.entry_id == entry_id, is_standing)
        return len(connection.execute(query).all())
