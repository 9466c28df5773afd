"""Leases by name: scheduled work is done by one process of a cluster, whoever has the lease."""

from datetime import datetime, timedelta

from sqlalchemy import Column, Table, Text, delete, or_

from gateway.store.database import Database
from gateway.store.metadata import METADATA, UtcDateTime
from gateway.store.statements import clock, insert_into

LONGEST_LEASE = timedelta(days=1)  # One that ends later was taken while the clock was wrong.

leases = Table(
    "leases",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("lease_until", UtcDateTime, nullable=False),
)


def take(db: Database, name: str, owner: str, seconds: float, now: datetime) -> bool:
    """Take or renew a lease; False: somebody else has it. PostgreSQL goes by the database's clock."""
    table = leases.c
    with db.writing() as connection:
        now = clock(connection, now)
        statement = insert_into(connection, leases).values(
            name=name, owner=owner, lease_until=now + timedelta(seconds=min(seconds, LONGEST_LEASE.total_seconds()))
        )
        is_free = or_(table.owner == owner, table.lease_until <= now, table.lease_until > now + LONGEST_LEASE)
        new = statement.excluded
        statement = statement.on_conflict_do_update(
            index_elements=["name"], set_={"owner": new.owner, "lease_until": new.lease_until}, where=is_free
        )
        return connection.execute(statement.returning(table.name)).one_or_none() is not None


def give_back(db: Database, name: str, owner: str) -> None:
    """End a lease that one has, so that others need not wait."""
    with db.writing() as connection:
        connection.execute(delete(leases).where(leases.c.name == name, leases.c.owner == owner))
