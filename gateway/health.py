"""Is each part well, and what is the one thing to do next? The checks of /health, its page and `gatepost check`.

Reads the live processes' snapshots, the disk and the database; changes nothing.
"""

import shutil
import time
from collections.abc import Iterator

from msgspec import Struct

from gateway import metrics
from gateway.mail.errors import NotFound
from gateway.metrics import Snapshot
from gateway.settings import Settings
from gateway.store import policies, queue, revisions, schema
from gateway.store.database import Database, DatabaseAway
from gateway.store.policies import PolicyVersion

STALE_SECONDS = 10.0  # A process that has written no snapshot for so long hangs or is gone.
SLOW_QUEUE_SECONDS = 4 * 3600.0
TAKEN_UP_SECONDS = 10.0  # A new policy is in force after two; a snapshot that tells of it is a second old.
UNIMPORTED_SHARE = 0.5  # of max_unimported
BRING_BACK = "Mail goes on until max_unimported; bring the database back."


class Check(Struct, frozen=True):
    """One check. `advice` is what to do next, "" when nothing is."""

    name: str
    ok: bool
    says: str
    advice: str = ""


class Report(Struct, frozen=True):
    """All checks, failing first."""

    ok: bool
    checks: tuple[Check, ...]


def report(settings: Settings, database: Database) -> Report:
    """Run every check; none of them raises."""
    shots = metrics.read_snapshots(settings.run_dir)
    checks = [
        *_processes(shots, is_alone=database.is_sqlite),
        _disk(settings),
        *_database(database, shots),
        *_importing(settings, shots),
        *_spools(shots),
    ]
    ordered = sorted(checks, key=lambda check: check.ok)
    return Report(all(check.ok for check in checks), tuple(ordered))


# Role -> what stands still without it, and how it is started.
NEEDED = {
    "smtp": ("no mail is taken", "Start `gatepost run` or `gatepost smtp`."),
    "deliver": ("what waits is not tried again", "Start `gatepost run` or `gatepost deliver`."),
    "schedule": ("nothing expires or is kept for review", "Start `gatepost run` or `gatepost schedule`."),
}


def _processes(shots: list[Snapshot], *, is_alone: bool) -> Iterator[Check]:
    """Processes that end in good order take their snapshot along; what is left is of the living and of the dead."""
    now = time.time()
    late = [f"{shot.process} for {_span(now - shot.at)}" for shot in shots if now - shot.at > STALE_SECONDS]
    if late:
        yield Check(
            "processes",
            False,
            f"no sign of life from {', '.join(late)}",
            "Look for process.failed in the log; restart the service.",
        )
    else:
        yield Check("processes", True, f"{len(shots)} are alive: {', '.join(shot.process for shot in shots) or 'none'}")
    for role, (consequence, advice) in NEEDED.items():
        # In a cluster the scheduled work may be done elsewhere.
        if (role != "schedule" or is_alone) and not any(shot.process.partition("-")[0] == role for shot in shots):
            yield Check(role, False, f"no {role} process runs here: {consequence}", advice)


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _disk(settings: Settings) -> Check:
    place = settings.spool if settings.spool.exists() else settings.data_dir
    try:
        free = shutil.disk_usage(place).free // (1 << 20)
    except OSError as error:
        return Check(
            "disk", False, f"{place} cannot be looked at: {error.strerror}", "Look at GATEPOST_DATA_DIR and its disk."
        )
    if free < settings.min_free_mb:
        return Check(
            "disk",
            False,
            f"{free} MiB free where the spool lies; mail is refused with 452 below {settings.min_free_mb} MiB",
            "Free space; mail is accepted again by itself.",
        )
    return Check("disk", True, f"{free} MiB free where the spool lies")


def _database(database: Database, shots: list[Snapshot]) -> Iterator[Check]:
    try:
        if not schema.is_current(database):
            yield Check("database", False, "the tables are of another release", "Run `gatepost migrate`.")
            return
        now = revisions.current(database)
        depth = queue.depth(database)
        policies.load(database)
        [newest] = policies.versions(database, limit=1)
    except DatabaseAway as error:
        yield Check("database", False, f"cannot be used: {error}", BRING_BACK)
        yield _last_good(shots)
        return
    except (NotFound, ValueError) as error:
        yield Check("database", True, "can be used")
        yield _unreadable(shots, error)
        return
    if away := [shot.process for shot in shots if shot.gauges.get("database_away")]:
        yield Check("database", False, f"cannot be used by {', '.join(away)}", BRING_BACK)
    else:
        yield Check("database", True, f"policy {newest.version}, ledger revision {now.ledger_revision}")
    yield _policy(shots, newest)
    oldest = depth.oldest_seconds
    if oldest > SLOW_QUEUE_SECONDS:
        yield Check(
            "queue",
            False,
            f"{depth.waiting} waiting, the oldest for {oldest / 3600:.1f} h",
            "See `gatepost queue list`: the last reply says why.",
        )
    else:
        yield Check("queue", True, f"{depth.waiting} waiting, {depth.held} held")


def _last_good(shots: list[Snapshot]) -> Check:
    """Whether there is a newer policy nobody can say while the database is away; the one in force goes on."""
    versions = sorted({round(version) for shot in shots if (version := shot.gauges.get("policy_version", 0)) > 0})
    return Check("policy", bool(versions), f"goes on with version {', '.join(map(str, versions)) or 'none'}")


def _unreadable(shots: list[Snapshot], error: Exception) -> Check:
    said = str(error) if isinstance(error, NotFound) else "the published policy cannot be read by this release"
    goes_on = _last_good(shots).says if any(shot.gauges.get("policy_version") for shot in shots) else ""
    return Check(
        "policy",
        False,
        "; ".join(text for text in (said, goes_on) if text),
        "Publish one that is in order: `gatepost policy rollback`, or `gatepost migrate` where there is none.",
    )


def _policy(shots: list[Snapshot], newest: PolicyVersion) -> Check:
    behind = [shot.process for shot in shots if 0 < shot.gauges.get("policy_version", 0) != newest.version]
    if not behind:
        return Check("policy", True, f"version {newest.version} is in force everywhere")
    if time.time() - newest.published_at.timestamp() < TAKEN_UP_SECONDS:
        return Check("policy", True, f"version {newest.version} is being taken up")
    return Check(
        "policy",
        False,
        f"{', '.join(behind)} do not use version {newest.version}",
        "Look for policy.refused in the log; `gatepost policy rollback` goes back to one that they take.",
    )


def _importing(settings: Settings, shots: list[Snapshot]) -> Iterator[Check]:
    waiting = sum(shot.gauges.get("unimported", 0) for shot in shots)
    says = f"{waiting:.0f} {'message' if waiting == 1 else 'messages'} not in the database yet"
    if waiting > UNIMPORTED_SHARE * settings.max_unimported:
        yield Check(
            "imports",
            False,
            says,
            "At max_unimported mail is answered 451; bring the database back.",
        )
    else:
        yield Check("imports", True, says)


def _spools(shots: list[Snapshot]) -> Iterator[Check]:
    octets = sum(shot.gauges.get("spool_bytes", 0) for shot in shots)
    segments = sum(shot.gauges.get("spool_segments", 0) for shot in shots)
    yield Check("spool", True, f"{octets / 1e6:.1f} MB in {segments:.0f} segments")
