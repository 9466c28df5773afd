"""The next month's bypass keys, made a week ahead. The change itself needs no process: keys have their instants.

Whatever was missed is caught up, for this month and the next one only: a clock that jumped leaves a key for the month
that it jumped to, which waits for it. Of several processes, with one database, one makes the key.
"""

from datetime import UTC, datetime, timedelta, tzinfo

from gateway import log
from gateway.mail.errors import Conflict
from gateway.masterkey import load_master_key
from gateway.policy.document import Document
from gateway.policy.keys import BypassKey, monthly_key
from gateway.policy.periods import begins_at, next_period, period_of, zone_of
from gateway.settings import Settings
from gateway.store import bypass_keys, policies
from gateway.store.bypass_keys import KeySecrets
from gateway.store.database import Database

AHEAD = timedelta(days=7)
EVERY_SECONDS = 60.0
BY = "gatepost"  # in the audit


def due_periods(now: datetime, zone: tzinfo) -> tuple[str, ...]:
    """Return the months that should have a key now: this one, and the next one from a week before it."""
    current = period_of(now, zone)
    following = next_period(current)
    return (current, following) if begins_at(following, zone) - now <= AHEAD else (current,)


def make_due(database: Database, sealing: KeySecrets, document: Document, now: datetime) -> int:
    """Make the keys that should be there and are not; return how many were made here."""
    zone = zone_of(document.time_zone)
    count = 0
    for name, key_class in document.key_classes.items():
        for period in due_periods(now, zone) if key_class.monthly else ():
            if not bypass_keys.has_month(database, name, period):
                count += _make(database, sealing, monthly_key(name, key_class, period, zone), now)
    return count


def _make(database: Database, sealing: KeySecrets, entry: BypassKey, now: datetime) -> int:
    try:
        made = bypass_keys.add(database, sealing, entry, by=BY, now=now)
    except Conflict:
        return 0  # another process was first
    log.info("job.done", name="key rotation", key_class=entry.key_class, month=entry.period, id=made.entry.id)
    return 1


def rotate_due(settings: Settings, database: Database) -> None:
    """Do the scheduled work once, now."""
    _version, document = policies.load(database)
    if document.key_classes:
        make_due(database, KeySecrets(load_master_key(settings.master_key)), document, datetime.now(UTC))
