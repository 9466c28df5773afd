"""Delivery status notifications to our own people (RFC 3461, RFC 3464): made of what the database says is due.

The outcome stands in the database first; then the notice is appended to the spool, durable; then the database learns
that it was sent. A crash in between makes the same notice again, under the same Message-ID. Who may be told was decided
when the outcome was (`settlement`).
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Protocol

from gateway import log, metrics
from gateway.accepted import Accepted, Location
from gateway.mail.address import NULL_PATH, Address, parse_mailbox
from gateway.mail.dsn import DsnRecipient, write_dsn
from gateway.mail.envelope import Body, Direction, Notify, Recipient, Ret
from gateway.mail.errors import Malformed, NotFound
from gateway.mail.reference import ALPHABET, new_id, reference
from gateway.policy.compile import Policy
from gateway.spool import Pieces, SpoolFailed, SpoolFull
from gateway.store import leases, queue
from gateway.store.database import Database
from gateway.store.queue import NoticeDue

LOOKED_AT = 200  # recipients of whom is told at one go
LEASE = "notices"
LEASE_SECONDS = 60.0

_STATUS = re.compile(r"(?:[245][0-9]{2} )?([245])(\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")
_CLASSES = {"failed": "5", "delayed": "4", "delivered": "2", "relayed": "2", "expanded": "2"}


class Spools(Protocol):
    """The spool, as far as notices need it."""

    async def append(
        self, records: Sequence[tuple[Accepted, Pieces]], *, linger: bool = False, reserve: bool = False
    ) -> list[Location]: ...

    def read(self, location: Location) -> tuple[Accepted, bytes]: ...


class Notices:
    """Sends what is due. `queued` takes each notice once it is durable: to import it and to deliver it."""

    def __init__(
        self,
        database: Database,
        spool: Spools,
        policy: Callable[[], Policy],
        queued: Callable[[Accepted, Location, Pieces], None],
        *,
        owner: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._owner = owner
        self._spool = spool
        self._policy = policy
        self._queued = queued
        self._clock = clock

    async def send_due(self) -> int:
        """Send what is due; return of how many recipients was told. Raises DatabaseAway; a full spool is waited for."""
        loop = asyncio.get_running_loop()
        due = await loop.run_in_executor(None, self._due)
        told = 0
        for _, group in groupby(due, key=lambda one: (one.key.message_id, one.key.group, one.kind)):
            members = list(group)
            try:
                await self._send(members)
                told += len(members)
            except (SpoolFull, SpoolFailed, OSError) as error:
                log.error("notice.error", ref=reference(members[0].key.message_id), error=str(error))
        return told

    def _due(self) -> list[NoticeDue]:
        """Return what is due, if it is ours to send: one process of a cluster does, or a sender would be told twice."""
        due = queue.notices_due(self._database, LOOKED_AT)
        is_ours = due and leases.take(self._database, LEASE, self._owner, LEASE_SECONDS, self._clock())
        return due if is_ours else []

    async def _send(self, due: Sequence[NoticeDue]) -> None:
        loop = asyncio.get_running_loop()
        now = self._clock()
        made = await loop.run_in_executor(None, self._make, due, now)
        if made is not None:
            accepted, raw = made
            # Settling is what makes room: notices may use the reserve of the disk.
            [location] = await self._spool.append([(accepted, (raw,))], reserve=True)
            self._queued(accepted, location, (raw,))
            metrics.count("notices", due[0].kind)
            log.info(
                "notice.queued",
                ref=reference(accepted.id),
                about=reference(due[0].key.message_id),
                kind=due[0].kind,
                to=str(accepted.recipients[0].address),
            )
        keys = [one.key for one in due]
        await loop.run_in_executor(None, lambda: queue.notice_sent(self._database, keys, now=now))

    def _make(self, due: Sequence[NoticeDue], now: datetime) -> tuple[Accepted, bytes] | None:
        """Return a notice's head and message; None when nobody can be told, which is logged and not tried again."""
        location = due[0].location
        try:
            if location is None:
                raise NotFound("the message is not in the spool any more")
            head, original = self._spool.read(location)
            return make_notice(head, original, due, self._policy(), now)
        except (NotFound, Malformed) as error:
            log.error("notice.error", ref=reference(due[0].key.message_id), error=str(error))
            return None


def make_notice(
    accepted: Accepted, original: bytes, due: Sequence[NoticeDue], policy: Policy, now: datetime
) -> tuple[Accepted, bytes]:
    """Return head and message of a notice about recipients of one group. Raises Malformed when nobody can be told."""
    if accepted.is_notice or accepted.mail_from.is_null:
        raise Malformed("there is nobody to tell")
    id = notice_id(due)
    kind = due[0].kind
    message_id = f"<{id}@{policy.hostname}>"
    from_address = _from_address(policy)
    by_address = {str(recipient.address): recipient for recipient in accepted.recipients}
    raw = write_dsn(
        from_address=from_address,
        to=accepted.mail_from,
        reporting_mta=policy.hostname,
        arrival=accepted.accepted_at,
        now=now,
        recipients=[_told(one, by_address.get(str(one.key.recipient))) for one in due],
        original=original,
        message_id=message_id,
        envid=accepted.envid,
        # RFC 3461 section 4.3: without RET it is ours to choose, and the sender has the message himself.
        ret=accepted.ret or Ret.HDRS,
        subject=accepted.subject,
    )
    is_ours = accepted.mail_from.ascii_domain in policy.document.domains
    direction = Direction.INTERNAL if is_ours else Direction.OUTBOUND
    head = Accepted(
        id=id,
        group=0,
        mail_from=NULL_PATH,
        # RFC 3464 section 2: a notification is never answered by another one.
        recipients=(Recipient(accepted.mail_from, direction, (Notify.NEVER,)),),
        direction=direction,
        accepted_at=now,
        expires_at=now + timedelta(days=policy.document.limits.retry_days),
        size=len(raw),
        body=Body.SEVEN_BIT if raw.isascii() else Body.EIGHT_BIT_MIME,
        smtputf8=not (accepted.mail_from.is_ascii and from_address.is_ascii),
        is_notice=True,
        author=str(from_address),
        subject=f"Notice ({kind}): {accepted.subject}"[:200],
        message_id=message_id,
        sent_message_id=message_id,
        reason=f"notice:{kind}",
        policy_version=policy.version,
    )
    return head, raw


def notice_id(due: Sequence[NoticeDue]) -> str:
    """Return the message id of a notice, the same each time that it is made of the same outcomes."""
    first = due[0]
    seed = repr([(one.key.message_id, one.key.group, str(one.key.recipient), one.kind, one.attempts) for one in due])
    chance = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:10], "big")
    letters = "".join(ALPHABET[chance >> shift & 31] for shift in range(75, -1, -5))
    return new_id(int(first.at.timestamp() * 1000) if first.at else 0)[:10] + letters


def _told(due: NoticeDue, recipient: Recipient | None) -> DsnRecipient:
    return DsnRecipient(
        original=recipient.orcpt if recipient else "",
        final=due.key.recipient,
        action=due.kind,
        status=_status(due),
        diagnostic=due.reply,
        remote_mta=_name_of(due.host),
        last_attempt_at=due.at,
        will_retry_until=due.expires_at,
    )


def _status(due: NoticeDue) -> str:
    """Return the reply's enhanced code with the class that the notice's kind has; "" when the reply has none."""
    found = _STATUS.match(due.reply)
    return _CLASSES[due.kind] + found[2] if found else ""


def _name_of(host: str) -> str:
    """Return the name in `mx.example [192.0.2.1]:25`, or the address where there is none."""
    name, _, address = host.partition("[")
    return name.strip() or (f"[{address.partition(']')[0]}]" if address else "")


def _from_address(policy: Policy) -> Address:
    if policy.document.postmaster:
        try:
            return parse_mailbox(policy.document.postmaster)
        except Malformed:
            pass  # The notice is worth more than its author's address.
    return Address("MAILER-DAEMON", policy.hostname)
