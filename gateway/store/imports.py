"""Bring accepted, refused and settled messages into the database: once, whatever happens in between.

The spool's record is the commit; this is the copy that people and the queue look at. A record may be imported again
after a crash: rows that are there are left alone, whatever state they have reached, and nothing is counted twice.
On the hot path: rows are plain tuples, each table is written by one statement.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, bindparam, case, select, update
from sqlalchemy.exc import DBAPIError

from gateway.accepted import Accepted, Location, Settled, State
from gateway.mail.envelope import Direction
from gateway.store import claims, conversations, counters, days, held
from gateway.store.database import Database
from gateway.store.entries import ledger_uses
from gateway.store.mail_tables import deliveries, held_items, messages
from gateway.store.metadata import all_storable, storable
from gateway.store.statements import Row, insert_new, instant_writer, upsert
from gateway.verdict import Action

# Recipients of one transaction, which holds up every other writer of a SQLite database for some milliseconds. As many
# as one statement takes; others then waited 5 ms, one in a hundred, while two processes imported all the time.
SLICE_ROWS = 256
MAX_RECIPIENTS = 4000  # characters of the list that searches look into
REFUSALS = frozenset({Action.REJECT, Action.DEFER})
NEVER_TRIED = (None, "", "", "", "", None)  # the last columns of a delivery, which tell of the last attempt
OPEN = frozenset({State.QUEUED, State.ACTIVE, State.HELD})


class ImportItem(Struct, frozen=True):
    """One group to import. `location` None: the bytes were not kept (refused, deferred, discarded).

    `settled` are the results that are known already; recipients without one are active under the lease, or queued when
    there is no `lease_owner`, or held.
    """

    accepted: Accepted
    location: Location | None
    settled: tuple[Settled, ...]
    lease_owner: str
    lease_until: datetime


class NotImported(Exception):
    """These items cannot be stored as they are; all others were. A mistake of ours, or a record that makes no sense."""

    def __init__(self, failed: Sequence[tuple[ImportItem, Exception]]) -> None:
        super().__init__(f"{len(failed)} items cannot be imported, the first because of {failed[0][1]!r:.300}")
        self.failed = tuple(failed)


def import_batch(db: Database, items: Sequence[ImportItem]) -> int:
    """Import groups and return how many were new. Raises DatabaseAway; then any part may be imported, so try all again.

    Raises NotImported after everything else was imported.
    """
    count = 0
    failed: list[tuple[ImportItem, Exception]] = []
    for part in _slices(items):
        count += _import_or_halve(db, part, failed)
    if failed:
        raise NotImported(failed)
    return count


def _slices(items: Sequence[ImportItem]) -> list[list[ImportItem]]:
    slices: list[list[ImportItem]] = []
    room = 0
    for item in items:
        size = max(1, len(item.accepted.recipients))
        if room < size:
            slices.append([])
            room = SLICE_ROWS
        slices[-1].append(item)
        room -= size
    return slices


def _import_or_halve(db: Database, items: list[ImportItem], failed: list[tuple[ImportItem, Exception]]) -> int:
    """Import a slice; when something in it cannot be stored, find the item and import the others."""
    try:
        return _import_slice(db, items)
    except (DBAPIError, ValueError, TypeError, OverflowError) as error:
        if len(items) == 1:
            failed.append((items[0], error))
            return 0
    middle = len(items) // 2
    return _import_or_halve(db, items[:middle], failed) + _import_or_halve(db, items[middle:], failed)


def _import_slice(db: Database, items: list[ImportItem]) -> int:
    # Traces first: who finds a message finds its trace.
    traces = days.by_day((item.accepted.id, item.accepted.trace) for item in items if item.accepted.trace)
    if db.is_sqlite:
        for day, share in traces.items():
            db.day_files.write(days.TRACES.name, day, share)
    rows = _Rows(items, instant_writer(is_sqlite=db.is_sqlite))
    with db.writing() as connection:
        if not db.is_sqlite:
            days.write(connection, days.TRACES, traces)
        count = rows.insert(connection)
    more = rows.deliveries[SLICE_ROWS:]
    for at in range(0, len(more), SLICE_ROWS):  # one message to very many recipients
        with db.writing() as connection:
            insert_new(connection, deliveries, more[at : at + SLICE_ROWS])
    return count


class _Rows:
    """The rows of one slice, made before the transaction, which other writers wait for, begins."""

    def __init__(self, items: Sequence[ImportItem], write: Callable[[datetime], Any]) -> None:
        self.write = write
        self.items: dict[tuple[str, int], ImportItem] = {}
        self.messages: dict[str, list[Any]] = {}
        self.deliveries: list[Row] = []
        self.held: list[Row] = []
        for item in items:
            key = (item.accepted.id, item.accepted.group)
            # A record that was copied out of its segment is found twice by recovery.
            if key not in self.items:
                self.items[key] = item
                addresses = self._add_message(item.accepted)
                if item.accepted.action not in REFUSALS:
                    self._add_deliveries(item, addresses)

    def insert(self, connection: Connection) -> int:
        """Insert what is not there yet; return how many groups are new."""
        known = _known_ids(connection, list(self.messages))
        new = list(self.items.values())
        if known:
            groups = _known_groups(connection, known)
            new = [item for key, item in self.items.items() if key[0] not in known or _is_another(item, groups)]
            _grow(connection, [item.accepted for item in new if item.accepted.id in known])
        insert_new(connection, messages, [row for id, row in self.messages.items() if id not in known])
        insert_new(connection, deliveries, self.deliveries[:SLICE_ROWS])
        insert_new(connection, held_items, self.held)
        _count(connection, new)
        _note_uses(connection, [item.accepted for item in new])
        _keep_claims(connection, [item.accepted for item in new if item.accepted.claimed])
        conversations.note(connection, [item.accepted for item in new if _leaves(item)])
        return len(new)

    def _add_message(self, accepted: Accepted) -> Sequence[str]:
        """Add the row, or add to the one of the message's other group; return the recipients' addresses as stored."""
        mail_from, author, subject, message_id, helo, *addresses = all_storable(
            [
                str(accepted.mail_from),
                accepted.author,
                accepted.subject,
                accepted.message_id,
                accepted.helo,
                *[str(recipient.address) for recipient in accepted.recipients],
            ]
        )
        recipients = addresses[0] if len(addresses) == 1 else storable("\n".join(addresses), MAX_RECIPIENTS)
        row = self.messages.get(accepted.id)
        if row is not None:  # another group of the same message
            row[5] = storable(f"{row[5]}\n{recipients}", MAX_RECIPIENTS)
            row[6] += len(addresses)
            if Action(accepted.action).severity > Action(row[16]).severity:
                row[16:18] = str(accepted.action), accepted.reason
            return addresses
        self.messages[accepted.id] = [
            accepted.id,
            accepted.id[-8:],
            self.write(accepted.accepted_at),
            accepted.direction._value_,
            mail_from,
            recipients,
            len(addresses),
            author,
            subject,
            message_id,
            accepted.size,
            accepted.sha256,
            accepted.peer_ip,
            helo,
            accepted.source,
            accepted.tls,
            str(accepted.action),
            accepted.reason,
            accepted.policy_version,
            accepted.is_notice,
        ]
        return addresses

    def _add_deliveries(self, item: ImportItem, addresses: Sequence[str]) -> None:
        accepted, write = item.accepted, self.write
        results = {result.recipient: result for result in item.settled}
        held_as = accepted.held
        action = str(accepted.action)
        expires_at = write(accepted.expires_at)
        for recipient, address in zip(accepted.recipients, addresses, strict=True):
            result = results.get(recipient.address)
            state, due_at, owner, until = _standing(item, result)
            if state is State.HELD and not held_as:
                held_as = "undeliverable"
            keeps = state in OPEN or (result is not None and result.notice_due != "")
            location = item.location if keeps else None
            last = self._last(result) if result is not None else NEVER_TRIED
            self.deliveries.append(
                (
                    accepted.id,
                    accepted.group,
                    address,
                    storable(recipient.address.domain),
                    accepted.source,
                    recipient.direction._value_,
                    accepted.route,
                    action,
                    accepted.reason,
                    state._value_,
                    result.attempts if result else 0,
                    write(due_at) if due_at else None,
                    expires_at,
                    owner,
                    write(until) if until else None,
                    location.segment if location else None,
                    location.offset if location else None,
                    location.length if location else None,
                    *last,
                )
            )
        if held_as:
            self._add_held(item, held_as)

    def _last(self, result: Settled) -> tuple[Any, ...]:
        host, reply = all_storable((result.host, result.reply))
        return self.write(result.at), host, reply, result.tls, result.notice_due, None

    def _add_held(self, item: ImportItem, kind: str) -> None:
        accepted = item.accepted
        why = accepted.held_reason or next((one.reply for one in item.settled if one.state is State.HELD), "")
        at = self.write(accepted.accepted_at)
        sent_as = storable(accepted.sent_message_id)
        objections = held.as_json(accepted.kept.objections if accepted.kept else ())
        self.held.append(
            (accepted.id, accepted.group, kind, storable(why), "held", at, None, "", None, "", sent_as, objections)
        )


def _standing(item: ImportItem, result: Settled | None) -> tuple[State, datetime | None, str, datetime | None]:
    """Return a recipient's state, when it is due, and its lease."""
    accepted = item.accepted
    if result is not None:
        due_at = (result.due_at or result.at) if result.state is State.QUEUED else None
        return result.state, due_at, "", None
    if accepted.held:
        return State.HELD, None, "", None
    if accepted.action == Action.DISCARD:
        return State.DISCARDED, None, "", None
    if item.lease_owner:
        return State.ACTIVE, None, item.lease_owner, item.lease_until
    return State.QUEUED, accepted.accepted_at, "", None


def _leaves(item: ImportItem) -> bool:
    accepted = item.accepted
    return accepted.direction is Direction.OUTBOUND and item.location is not None and not accepted.held


def _known_ids(connection: Connection, ids: Sequence[str]) -> set[str]:
    if connection.dialect.name != "sqlite":
        found = connection.exec_driver_sql("SELECT id FROM messages WHERE id = ANY(%s)", (list(ids),))
        return set(found.scalars())
    # Nearly all that is imported is newer than all that is there: one look at the end instead of one for each.
    newest = connection.exec_driver_sql("SELECT max(id) FROM messages").scalar_one()
    older = [id for id in ids if id <= newest] if newest is not None else []
    if not older:
        return set()
    places = ", ".join("?" * len(older))
    return set(connection.exec_driver_sql(f"SELECT id FROM messages WHERE id IN ({places})", tuple(older)).scalars())


def _known_groups(connection: Connection, ids: Iterable[str]) -> set[tuple[str, int]]:
    table = deliveries.c
    query = select(table.message_id, table.group_number).where(table.message_id.in_(list(ids))).distinct()
    return {(row[0], row[1]) for row in connection.execute(query)}


def _is_another(item: ImportItem, groups: set[tuple[str, int]]) -> bool:
    """Tell a new group of a message that is there already from one that is imported again."""
    return item.accepted.action not in REFUSALS and (item.accepted.id, item.accepted.group) not in groups


def _grow(connection: Connection, groups: Sequence[Accepted]) -> None:
    """Add groups to messages that came with an earlier batch."""
    table = messages.c
    for accepted in groups:
        listed = "\n".join([str(recipient.address) for recipient in accepted.recipients])
        milder = [action.value for action in Action if action.severity < Action(accepted.action).severity]
        is_worse: ColumnElement[bool] = table.action.in_(milder)
        connection.execute(
            update(messages)
            .where(table.id == accepted.id)
            .values(
                recipients=table.recipients + bindparam("listed", storable(f"\n{listed}", MAX_RECIPIENTS)),
                recipient_count=table.recipient_count + len(accepted.recipients),
                action=case((is_worse, str(accepted.action)), else_=table.action),
                reason=case((is_worse, accepted.reason), else_=table.reason),
            )
        )


def _count(connection: Connection, items: Sequence[ImportItem]) -> None:
    if not items:
        return
    alike: dict[tuple[datetime, str, str, str, str], list[int]] = {}  # sizes
    states: Counter[tuple[datetime, State]] = Counter()
    hour = counters.hour_of(items[0].accepted.accepted_at)
    end = hour + counters.HOUR
    for item in items:
        accepted = item.accepted
        if not hour <= accepted.accepted_at < end:
            hour = counters.hour_of(accepted.accepted_at)
            end = hour + counters.HOUR
        kind = (hour, accepted.direction._value_, accepted.action, accepted.reason, accepted.source)
        sizes = alike.get(kind)
        if sizes is None:
            alike[kind] = [accepted.size]
        else:
            sizes.append(accepted.size)
        for result in item.settled:
            states[hour, result.state] += 1
    counts = _totals(alike, states)
    for item in items:
        for reason in item.accepted.counted:  # hardly ever any
            counts[counters.hour_of(item.accepted.accepted_at), "findings", reason] += 1
    counters.add(connection, counts)


def _totals(
    alike: Mapping[tuple[datetime, str, str, str, str], Sequence[int]], states: Mapping[tuple[datetime, State], int]
) -> counters.Counts:
    counts: counters.Counts = Counter()
    for (hour, direction, action, reason, source), sizes in alike.items():
        counts[hour, "messages", f"{direction}:{action}"] += len(sizes)
        counts[hour, "bytes", direction] += sum(sizes)
        if reason:
            counts[hour, "reasons", reason] += len(sizes)
        if source:
            counts[hour, "sources", source] += len(sizes)
    for (hour, state), number in states.items():
        counts[hour, "deliveries", state.value] += number
    return counts


def _note_uses(connection: Connection, accepted: Sequence[Accepted]) -> None:
    write = instant_writer(is_sqlite=connection.dialect.name == "sqlite")
    uses: dict[str, tuple[datetime, int]] = {}
    for one in accepted:
        for entry in one.used_entries:
            at = one.accepted_at
            last, count = uses.get(entry, (at, 0))
            uses[entry] = (at if at > last else last, count + 1)
    rows = [(entry, write(last), count) for entry, (last, count) in sorted(uses.items())]
    upsert(connection, ledger_uses, rows, added=("use_count",), latest=("last_used_at",))


def _keep_claims(connection: Connection, accepted: Sequence[Accepted]) -> None:
    for one in accepted:
        claims.keep(connection, one.claimed, one.sha256, one.id)
