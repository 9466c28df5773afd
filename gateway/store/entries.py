"""The life of a ledger row, the same for all subjects: it begins at a revision and ends at one, and is never deleted.

What an entry says is never changed in place: a renewal ends the row and begins another one under the same id. So
the ledger of any revision can be read again. When an entry was last used is kept apart and bumps no revision.
Expiry is looked at in use.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Connection,
    Index,
    PrimaryKeyConstraint,
    Row,
    Table,
    Text,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError

from gateway.mail.errors import Conflict, NotFound
from gateway.mail.reference import new_id
from gateway.policy.ledger import LedgerEntry
from gateway.store import audit, revisions
from gateway.store.database import Database
from gateway.store.metadata import METADATA, UtcDateTime, storable

SLICE_ROWS = 500  # Entries of one transaction of a long list; readers of the ledger see it grow.

# Counted apart: uses come with every import, and rows of the ledger stay as they were decided.
ledger_uses = Table(
    "ledger_uses",
    METADATA,
    Column("entry_id", Text, primary_key=True),
    Column("last_used_at", UtcDateTime, nullable=False),
    Column("use_count", BigInteger, nullable=False),
)

Entry = TypeVar("Entry", bound=LedgerEntry)
Values = Mapping[Any, Any]


class Listed(Struct, Generic[Entry], frozen=True):
    """An entry for lists: with its life and its use. `ended_at` None: current."""

    entry: Entry
    owner: str
    reason: str
    created_at: datetime
    created_by: str
    ended_at: datetime | None
    ended_by: str
    last_used_at: datetime | None
    use_count: int


class Subject(Struct, Generic[Entry], frozen=True):
    """One kind of entry: its table, and how entries become rows and rows entries.

    `write` returns the subject's own columns (and owner, reason, expires_at, review_at where the entry has them),
    normalised; it raises Malformed for values that make no sense. `identity` names the columns that no two current
    entries may share.
    """

    name: str
    table: Table
    write: Callable[[Entry], dict[str, Any]]
    read: Callable[[Values], Entry]
    identity: tuple[str, ...]


def ledger_table(name: str, *columns: Column[Any] | CheckConstraint, identity: Sequence[str]) -> Table:
    """Make a subject's table: its own columns and those that every ledger row has."""
    current = text("valid_to_rev IS NULL")
    unique: list[Index] = []
    if identity:
        unique.append(
            Index(f"uq_{name}_current", *identity, unique=True, sqlite_where=current, postgresql_where=current)
        )
    return Table(
        name,
        METADATA,
        Column("id", Text, nullable=False),
        Column("valid_from_rev", BigInteger, nullable=False),
        Column("valid_to_rev", BigInteger),
        *columns,
        Column("owner", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("expires_at", UtcDateTime),
        Column("review_at", UtcDateTime),
        Column("created_at", UtcDateTime, nullable=False),
        Column("created_by", Text, nullable=False),
        Column("ended_at", UtcDateTime),
        Column("ended_by", Text, nullable=False),
        PrimaryKeyConstraint("id", "valid_from_rev"),
        Index(f"uq_{name}_current_id", "id", unique=True, sqlite_where=current, postgresql_where=current),
        Index(f"ix_{name}_valid_from_rev", "valid_from_rev"),
        Index(f"ix_{name}_valid_to_rev", "valid_to_rev"),
        *unique,
    )


def add(
    db: Database, subject: Subject[Entry], entry: Entry, *, by: str, now: datetime, extra: Values | None = None
) -> Entry:
    """Begin an entry and return it, with an id. Raises Conflict when a current entry names the same."""
    with db.writing(durable=True) as connection:
        added = begin(connection, subject, (entry,), by=by, now=now, extra=extra)
        if not added:
            raise Conflict(f"there is such a {subject.name} entry already")
    return added[0]


def import_many(
    db: Database,
    subject: Subject[Entry],
    entries: Iterable[Entry],
    *,
    by: str,
    now: datetime,
    extra: Values | None = None,
) -> int:
    """Begin many entries, skip those that exist already, and return how many are new.

    In slices: others write in between, and what was added stays when a later slice fails.
    """
    waiting = list(entries)
    count = 0
    for at in range(0, len(waiting), SLICE_ROWS):
        with db.writing(durable=True) as connection:
            count += len(begin(connection, subject, waiting[at : at + SLICE_ROWS], by=by, now=now, extra=extra))
    return count


def begin(
    connection: Connection,
    subject: Subject[Entry],
    entries: Sequence[Entry],
    *,
    by: str,
    now: datetime,
    extra: Values | None = None,
) -> list[Entry]:
    """Begin and audit entries in a transaction, leave out those that exist already. Returns the new ones."""
    revision = revisions.next_ledger_revision(connection)  # also keeps others from adding the same meanwhile
    rows = [_new_row(subject, entry, revision, by=by, now=now, extra=extra or {}) for entry in entries]
    fresh = _without_known(connection, subject, rows)
    if not fresh:
        return []
    try:
        connection.execute(insert(subject.table), fresh)
    except IntegrityError as error:
        raise Conflict(f"there is such a {subject.name} entry already") from error
    added = [subject.read(row) for row in fresh]
    for entry in added:
        _audit(connection, subject, "add", entry.id, at=now, by=by, after=entry)
    return added


def _new_row(
    subject: Subject[Entry], entry: Entry, revision: int, *, by: str, now: datetime, extra: Values
) -> dict[str, Any]:
    row = {"owner": "", "reason": "", "expires_at": None, "review_at": None, **subject.write(entry), **extra}
    return {
        **row,
        "id": entry.id or new_id(int(now.timestamp() * 1000)),
        "owner": storable(row["owner"], 320),
        "reason": storable(row["reason"], 4000),
        "valid_from_rev": revision,
        "valid_to_rev": None,
        "created_at": now,
        "created_by": storable(by, 320),
        "ended_at": None,
        "ended_by": "",
    }


def _without_known(connection: Connection, subject: Subject[Entry], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop rows that name the same as a current one or as an earlier one in the list."""
    if not subject.identity:
        return rows
    columns = [subject.table.c[name] for name in subject.identity]
    first = {row[subject.identity[0]] for row in rows}
    query = select(*columns).where(columns[0].in_(first), subject.table.c.valid_to_rev.is_(None))
    known = {tuple(row) for row in connection.execute(query)}
    fresh = []
    for row in rows:
        name = tuple(row[column] for column in subject.identity)
        if name not in known:
            known.add(name)
            fresh.append(row)
    return fresh


def end(db: Database, subject: Subject[Entry], id: str, *, by: str, now: datetime, comment: str = "") -> None:
    """End a current entry. Raises NotFound."""
    with db.writing(durable=True) as connection:
        end_in(connection, subject, id, by=by, now=now, comment=comment)


def end_in(
    connection: Connection,
    subject: Subject[Entry],
    id: str,
    *,
    by: str,
    now: datetime,
    comment: str = "",
    action: str = "end",
) -> None:
    """End and audit a current entry in a transaction. Raises NotFound."""
    revision = revisions.next_ledger_revision(connection)
    before = subject.read(_current_row(connection, subject, id)._mapping)
    _end_row(connection, subject, id, revision, by=by, now=now)
    _audit(connection, subject, action, id, at=now, by=by, before=before, comment=comment)


def renew(
    db: Database,
    subject: Subject[Entry],
    id: str,
    *,
    by: str,
    now: datetime,
    expires_at: datetime | None,
    review_at: datetime | None = None,
    comment: str = "",
) -> Entry:
    """Give a current entry another end and return it as it is now; its id stays. Raises NotFound."""
    with db.writing(durable=True) as connection:
        revision = revisions.next_ledger_revision(connection)
        row = dict(_current_row(connection, subject, id)._mapping)
        before = subject.read(row)
        _end_row(connection, subject, id, revision, by=by, now=now)
        row.update(
            valid_from_rev=revision,
            expires_at=expires_at,
            review_at=review_at,
            created_at=now,
            created_by=storable(by, 320),
        )
        connection.execute(insert(subject.table), row)
        after = subject.read(row)
        _audit(connection, subject, "renew", id, at=now, by=by, before=before, after=after, comment=comment)
    return after


def _current_row(connection: Connection, subject: Subject[Entry], id: str) -> Row[Any]:
    table = subject.table
    row = connection.execute(select(table).where(table.c.id == id, table.c.valid_to_rev.is_(None))).one_or_none()
    if row is None:
        raise NotFound(f"no current {subject.name} entry {id}")
    return row


def _end_row(
    connection: Connection, subject: Subject[Entry], id: str, revision: int, *, by: str, now: datetime
) -> None:
    table = subject.table
    ended = {"valid_to_rev": revision, "ended_at": now, "ended_by": storable(by, 320)}
    connection.execute(update(table).where(table.c.id == id, table.c.valid_to_rev.is_(None)).values(**ended))


def _audit(
    connection: Connection,
    subject: Subject[Entry],
    action: str,
    id: str,
    *,
    at: datetime,
    by: str,
    before: Entry | None = None,
    after: Entry | None = None,
    comment: str = "",
) -> None:
    told = [None if entry is None else msgspec.to_builtins(entry) for entry in (before, after)]
    audit.record(
        connection,
        at=at,
        by=by,
        action=action,
        subject=subject.name,
        subject_id=id,
        before=told[0],
        after=told[1],
        comment=comment,
    )


def listed(
    db: Database,
    subject: Subject[Entry],
    *,
    where: Sequence[ColumnElement[bool]] = (),
    with_ended: bool = False,
    after_id: str = "",
    limit: int = 500,
) -> list[Listed[Entry]]:
    """Return entries in the order of their ids; the next page is asked for with the last one's id as `after_id`."""
    table = subject.table
    query = select(table, ledger_uses.c.last_used_at, ledger_uses.c.use_count)
    query = query.outerjoin(ledger_uses, ledger_uses.c.entry_id == table.c.id).where(table.c.id > after_id, *where)
    if not with_ended:
        query = query.where(table.c.valid_to_rev.is_(None))
    with db.reading() as connection:
        rows = connection.execute(query.order_by(table.c.id, table.c.valid_from_rev).limit(limit)).all()
    return [_listed(subject, row._mapping) for row in rows]


def _listed(subject: Subject[Entry], row: Mapping[Any, Any]) -> Listed[Entry]:
    return Listed(
        subject.read(row),
        owner=row["owner"],
        reason=row["reason"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        ended_at=row["ended_at"],
        ended_by=row["ended_by"],
        last_used_at=row["last_used_at"],
        use_count=row["use_count"] or 0,
    )
