"""Is each part well, and what is the one thing to do next? The checks of /health, its page and `gatepost check`.

Reads the live processes' snapshots, the disk and the database; changes nothing.
"""

import shutil
import time
from collections.abc import Iterator

from msgspec import Struct

from gateway import metrics
from gateway.metrics import Snapshot
from gateway.settings import Settings
from gateway.store import policies, queue, revisions, schema
from gateway.store.database import Database, DatabaseAway

STALE_SECONDS = 10.0  # A process that has written no snapshot for so long hangs or is gone.
SLOW_QUEUE_SECONDS = 4 * 3600.0
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
    shots = [shot for shot in metrics.read_snapshots(settings.run_dir) if _is_meant(shot)]
    checks = [
        _processes(shots),
        _disk(settings),
        *_database(database, shots),
        *_importing(settings, shots),
        *_spools(shots),
    ]
    ordered = sorted(checks, key=lambda check: check.ok)
    return Report(all(check.ok for check in checks), tuple(ordered))


def _is_meant(shot: Snapshot) -> bool:
    """Leave out processes that ended in good order long ago, such as workers beyond today's number."""
    return time.time() - shot.at < 3600


def _processes(shots: list[Snapshot]) -> Check:
    late = [shot.process for shot in shots if time.time() - shot.at > STALE_SECONDS]
    if late:
        return Check(
            "processes",
            False,
            f"no sign of life from {', '.join(late)}",
            "Look at the log for process.died; restart the service.",
        )
    if not any(shot.process.startswith("smtp") for shot in shots):
        return Check("processes", False, "no SMTP process runs", "Start `gatepost run` or `gatepost smtp`.")
    return Check("processes", True, f"{len(shots)} processes are alive: {', '.join(shot.process for shot in shots)}")


def _disk(settings: Settings) -> Check:
    place = settings.spool if settings.spool.exists() else settings.data_dir
    free = shutil.disk_usage(place).free // (1 << 20)
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
        version, _document = policies.load(database)
    except DatabaseAway as error:
        yield Check("database", False, f"cannot be used: {error}", BRING_BACK)
        yield _last_good(shots)
        return
    if away := [shot.process for shot in shots if shot.gauges.get("database_away")]:
        yield Check("database", False, f"cannot be used by {', '.join(away)}", BRING_BACK)
    else:
        yield Check("database", True, f"policy {version}, ledger revision {now.ledger_revision}")
    yield _policy(shots, now.policy_version)
    oldest = depth.oldest_seconds
    if oldest > SLOW_QUEUE_SECONDS:
        yield Check(
            "queue",
            False,
            f"{depth.waiting} wait, the oldest for {oldest / 3600:.1f} h",
            "See `gatepost queue list`: the last reply says why.",
        )
    else:
        yield Check("queue", True, f"{depth.waiting} wait, {depth.held} are held")


def _last_good(shots: list[Snapshot]) -> Check:
    """Whether there is a newer policy nobody can say while the database is away; the one in force goes on."""
    versions = sorted({round(version) for shot in shots if (version := shot.gauges.get("policy_version", 0)) > 0})
    return Check("policy", bool(versions), f"goes on with version {', '.join(map(str, versions)) or 'none'}")


def _policy(shots: list[Snapshot], published: int) -> Check:
    behind = [shot.process for shot in shots if 0 < shot.gauges.get("policy_version", 0) != published]
    if behind:
        return Check(
            "policy",
            False,
            f"{', '.join(behind)} do not use version {published} yet",
            "A second after publishing this is usual; later, look for policy.refused in the log.",
        )
    return Check("policy", True, f"version {published} is in force everywhere")


def _importing(settings: Settings, shots: list[Snapshot]) -> Iterator[Check]:
    waiting = sum(shot.gauges.get("unimported", 0) for shot in shots)
    if waiting > UNIMPORTED_SHARE * settings.max_unimported:
        yield Check(
            "imports",
            False,
            f"{waiting:.0f} messages wait for the database",
            "At max_unimported mail is answered 451; bring the database back.",
        )
    else:
        yield Check("imports", True, f"{waiting:.0f} messages wait for the database")


def _spools(shots: list[Snapshot]) -> Iterator[Check]:
    octets = sum(shot.gauges.get("spool_bytes", 0) for shot in shots)
    segments = sum(shot.gauges.get("spool_segments", 0) for shot in shots)
    yield Check("spool", True, f"{octets / 1e6:.1f} MB in {segments:.0f} segments")
