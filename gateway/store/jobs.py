"""Jobs: rows by which the web asks for what it may not do itself, with progress and result.

Whoever works on a job has a lease on it and renews it with every progress; when the lease ends, another one may
begin anew.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import Column, Connection, Index, Integer, Table, Text, and_, insert, or_, select, update

from gateway.mail.errors import Conflict, NotFound
from gateway.mail.reference import new_id
from gateway.store.database import Database
from gateway.store.metadata import METADATA, Json, UtcDateTime, is_literally, one_of, storable

LEASE_SECONDS = 60
STATES = ("waiting", "running", "done", "failed", "cancelled")

jobs = Table(
    "jobs",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("arguments", Json),
    Column("state", Text, nullable=False),
    Column("progress", Integer, nullable=False),
    Column("note", Text, nullable=False),
    Column("result", Json),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("lease_owner", Text, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("finished_at", UtcDateTime),
    one_of("state", STATES),
    Index("ix_jobs_state_id", "state", "id"),
)

_WAITS = is_literally(jobs.c.state, "waiting")
_RUNS = is_literally(jobs.c.state, "running")


class Job(Struct, frozen=True):
    """One job. `progress` is percent, `result` and `arguments` are JSON."""

    id: str
    kind: str
    arguments: Any
    state: str
    progress: int
    note: str
    result: Any
    asked_at: datetime
    asked_by: str
    lease_owner: str
    lease_until: datetime | None
    finished_at: datetime | None


def put(db: Database, kind: str, arguments: Any, *, by: str, now: datetime) -> str:
    """Ask for a job and return its id. `arguments` is JSON without secrets."""
    id = new_id(int(now.timestamp() * 1000))
    values = {
        "id": id,
        "kind": kind,
        "arguments": arguments,
        "state": "waiting",
        "progress": 0,
        "note": "",
        "asked_at": now,
        "asked_by": storable(by, 320),
        "lease_owner": "",
    }
    with db.writing(durable=True) as connection:
        connection.execute(insert(jobs).values(**values))
    return id


def claim(
    db: Database, kinds: Sequence[str], *, owner: str, now: datetime, seconds: float = LEASE_SECONDS
) -> Job | None:
    """Begin the oldest job of these kinds that waits, or that somebody began and left; None: there is none."""
    is_left = and_(_RUNS, or_(jobs.c.lease_until <= now, jobs.c.lease_until > now + timedelta(days=1)))
    query = select(jobs.c.id).where(or_(_WAITS, is_left), jobs.c.kind.in_(kinds)).order_by(jobs.c.id).limit(1)
    with db.reading() as connection:  # mostly there is none: look without holding up the writers
        if connection.execute(query).one_or_none() is None:
            return None
    with db.writing(durable=True) as connection:
        id = connection.execute(query.with_for_update(skip_locked=True)).scalar_one_or_none()
        if id is None:
            return None
        values = {"state": "running", "lease_owner": owner, "lease_until": now + timedelta(seconds=seconds)}
        connection.execute(update(jobs).where(jobs.c.id == id).values(**values))
        return _get(connection, id)


def progress(
    db: Database, id: str, *, owner: str, percent: int, now: datetime, note: str = "", seconds: float = LEASE_SECONDS
) -> None:
    """Say how far the job is, renew the lease. Raises Conflict when it was cancelled or taken over."""
    values = {"progress": percent, "note": storable(note), "lease_until": now + timedelta(seconds=seconds)}
    _work_on(db, id, owner, values, durable=False)


def finish(db: Database, id: str, *, owner: str, now: datetime, result: Any = None, error: str = "") -> None:
    """End the job as done, or as failed with what went wrong. Raises Conflict like `progress`."""
    values: dict[str, Any] = {"state": "failed" if error else "done", "result": result, "finished_at": now}
    values |= (
        {"lease_owner": "", "lease_until": None, "note": storable(error)}
        if error
        else {"progress": 100, "lease_until": None}
    )
    _work_on(db, id, owner, values, durable=True)


def cancel(db: Database, id: str, *, by: str, now: datetime) -> None:
    """End a job that is not finished; whoever works on it learns it with the next progress. Raises Conflict."""
    values = {"state": "cancelled", "note": storable(f"cancelled by {by}"), "finished_at": now, "lease_until": None}
    with db.writing(durable=True) as connection:
        if not connection.execute(update(jobs).where(jobs.c.id == id, or_(_WAITS, _RUNS)).values(**values)).rowcount:
            raise Conflict("the job is finished already")


def _work_on(db: Database, id: str, owner: str, values: dict[str, Any], *, durable: bool) -> None:
    statement = update(jobs).where(jobs.c.id == id, _RUNS, jobs.c.lease_owner == owner).values(**values)
    with db.writing(durable=durable) as connection:
        if not connection.execute(statement).rowcount:
            raise Conflict("the job was cancelled, or somebody else works on it")


def get(db: Database, id: str) -> Job:
    """Return a job. Raises NotFound."""
    with db.reading() as connection:
        return _get(connection, id)


def _get(connection: Connection, id: str) -> Job:
    row = connection.execute(select(jobs).where(jobs.c.id == id)).one_or_none()
    if row is None:
        raise NotFound(f"no job {id}")
    return Job(*row)


def list_jobs(db: Database, *, kind: str = "", by: str = "", limit: int = 100) -> list[Job]:
    """Return jobs, newest first."""
    query = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
    if kind:
        query = query.where(jobs.c.kind == kind)
    if by:
        query = query.where(jobs.c.asked_by == by)
    with db.reading() as connection:
        return [Job(*row) for row in connection.execute(query)]
