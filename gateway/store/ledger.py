"""The whole ledger, and what changed in it since a revision: what every worker holds in memory.

Rows are chosen by revision numbers, not by what is current at the moment of each query: a load is one state even while
somebody else adds entries.
"""

from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, or_, select

from gateway.policy.ledger import LedgerEntry
from gateway.store import bypass_keys, recipients, relay_sources, revisions, sends_as_us, waivers, whitelist
from gateway.store.database import Database
from gateway.store.entries import Listed, Subject, listed

SUBJECTS: tuple[Subject[Any], ...] = (
    whitelist.SUBJECT,
    sends_as_us.SUBJECT,
    relay_sources.SUBJECT,
    recipients.SUBJECT,
    waivers.SUBJECT,
    bypass_keys.SUBJECT,
)


class LedgerRows(Struct, frozen=True):
    """All entries of one revision, those that expired included: expiry is looked at in use."""

    revision: int
    entries: tuple[LedgerEntry, ...]


class LedgerDelta(Struct, frozen=True):
    """What leads to `revision`. An added entry replaces one with the same id; `ended` ids are gone."""

    revision: int
    added: tuple[LedgerEntry, ...]
    ended: tuple[str, ...]


def load(db: Database) -> LedgerRows:
    """Return the ledger as it is now."""
    with db.reading() as connection:
        revision = revisions.read(connection).ledger_revision
        entries = [entry for subject in SUBJECTS for entry in _begun(connection, subject, 0, revision)]
    return LedgerRows(revision, tuple(entries))


def changes(db: Database, since_revision: int) -> LedgerDelta:
    """Return what has changed after `since_revision`."""
    with db.reading() as connection:
        revision = revisions.read(connection).ledger_revision
        added: list[LedgerEntry] = []
        ended: set[str] = set()
        for subject in SUBJECTS:
            added += _begun(connection, subject, since_revision, revision)
            ended |= _ended(connection, subject, since_revision, revision)
    # A renewed entry ended and began again at the same revision.
    return LedgerDelta(revision, tuple(added), tuple(ended - {entry.id for entry in added}))


def find(db: Database, id: str) -> Listed[Any] | None:
    """Return an entry of any kind as it was last, ended or not; None when there never was one of this id."""
    for subject in SUBJECTS:
        if found := listed(db, subject, where=[subject.table.c.id == id], with_ended=True):
            return found[-1]
    return None


def _begun(connection: Connection, subject: Subject[Any], since: int, revision: int) -> list[LedgerEntry]:
    table = subject.table.c
    is_current = or_(table.valid_to_rev.is_(None), table.valid_to_rev > revision)
    query = select(subject.table).where(table.valid_from_rev > since, table.valid_from_rev <= revision, is_current)
    return [subject.read(row) for row in connection.execute(query).mappings()]


def _ended(connection: Connection, subject: Subject[Any], since: int, revision: int) -> set[str]:
    table = subject.table.c
    query = select(table.id).where(table.valid_to_rev > since, table.valid_to_rev <= revision)
    return set(connection.execute(query).scalars())
