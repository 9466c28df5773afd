"""Releases that the web asks for: it may write the row of a job, and reads the outcome there.

A job that was begun by a process which died is begun again; what that one had released then is a conflict.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from gateway.mail.address import parse_mailbox
from gateway.mail.errors import Conflict, NotAllowed, NotFound
from gateway.relay.release import Outcome, Releases
from gateway.settings import Settings
from gateway.spool import SpoolFailed, SpoolFull
from gateway.store import held, jobs
from gateway.store.database import Database
from gateway.store.jobs import Job

RELEASE = "release"
JUDGE = "judge held"
KINDS = (RELEASE, JUDGE)
AT_ONCE = 50  # jobs of one turn; other scheduled work waits meanwhile


class Wanted(Struct, frozen=True):
    """The arguments of a job: one item, and as `Releases.release` takes them. `why` is for the audit."""

    message_id: str
    group: int
    why: str
    waived: tuple[str, ...] | None = None
    recipients: tuple[str, ...] | None = None


def ask(db: Database, wanted: Wanted, *, by: str, now: datetime, kind: str = RELEASE) -> str:
    """Ask for a release, or to judge again; return the job's id."""
    return jobs.put(db, kind, msgspec.to_builtins(wanted), by=by, now=now)


def answer(settings: Settings, database: Database, owner: str) -> int:
    """Carry out what is asked for; return how many jobs. Raises DatabaseAway."""
    count = 0
    job = jobs.claim(database, KINDS, owner=owner, now=datetime.now(UTC))
    if job is None:
        return 0
    with Releases(settings, database) as releases:
        while job is not None:
            _answer_one(releases, database, job, owner)
            count += 1
            now = datetime.now(UTC)
            job = jobs.claim(database, KINDS, owner=owner, now=now) if count < AT_ONCE else None
    return count


def _answer_one(releases: Releases, database: Database, job: Job, owner: str) -> None:
    result: Any = None
    error = ""
    try:
        outcome = _carry_out(releases, database, job)
        result = {
            "released": [str(one) for one in outcome.released],
            "kept": [str(to) for one in outcome.kept for to in one.recipients],
            "words": outcome.words,
        }
    except SpoolFull:
        error = "there is no room on the spool's disk"
    except (
        Conflict,
        NotAllowed,
        NotFound,
        SpoolFailed,
        OSError,
        ValueError,
        msgspec.ValidationError,
    ) as failure:
        error = str(failure)
    jobs.finish(database, job.id, owner=owner, now=datetime.now(UTC), result=result, error=error)


def _carry_out(releases: Releases, database: Database, job: Job) -> Outcome:
    wanted = msgspec.convert(job.arguments, Wanted)
    item = held.get(database, wanted.message_id, wanted.group)
    if job.kind == JUDGE:
        return releases.judge_again(item, by=job.asked_by, reason=wanted.why)
    to = None if wanted.recipients is None else [parse_mailbox(one) for one in wanted.recipients]
    return releases.release(item, by=job.asked_by, reason=wanted.why, waived=wanted.waived, recipients=to)
