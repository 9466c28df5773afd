"""The two numbers that say which policy is in force: the document's version and the ledger's revision.

One row. Whoever changes policy data raises a number in the same transaction, which also puts all such changes in
one order.
"""

from msgspec import Struct
from sqlalchemy import BigInteger, CheckConstraint, Column, Connection, Integer, Table, select, update

from gateway.store.database import Database
from gateway.store.metadata import METADATA

revisions = Table(
    "revisions",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("policy_version", BigInteger, nullable=False),
    Column("ledger_revision", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

_CURRENT = select(revisions.c.policy_version, revisions.c.ledger_revision)
_NEXT_VERSION = update(revisions).values(policy_version=revisions.c.policy_version + 1)
_NEXT_REVISION = update(revisions).values(ledger_revision=revisions.c.ledger_revision + 1)


class Revisions(Struct, frozen=True):
    """What is in force. `policy_version` 0: nothing was published yet."""

    policy_version: int
    ledger_revision: int


def current(db: Database) -> Revisions:
    """Return the numbers in force. Cheap: every process asks twice a second."""
    with db.reading() as connection:
        return read(connection)


def read(connection: Connection) -> Revisions:
    return Revisions(*connection.execute(_CURRENT).one())


def next_policy_version(connection: Connection) -> int:
    """Raise the policy version and return it. Others who change policy data wait until this transaction ends."""
    return int(connection.execute(_NEXT_VERSION.returning(revisions.c.policy_version)).scalar_one())


def next_ledger_revision(connection: Connection) -> int:
    """Raise the ledger's revision and return it. Others who change policy data wait until this transaction ends."""
    return int(connection.execute(_NEXT_REVISION.returning(revisions.c.ledger_revision)).scalar_one())
