"""From a next hop's reply to what becomes of a recipient: delivered, queued, failed, held; and who is told. No I/O."""

from datetime import datetime, timedelta

from msgspec import Struct

from gateway.accepted import Accepted, Settled, State
from gateway.mail.envelope import Direction, Notify, Recipient
from gateway.relay.reply_stream import HostReply
from gateway.relay.retry import BackOff


class Due(Struct, frozen=True):
    """A recipient whose delivery is due. `attempts` were made before; `is_delay_told`: the delay has been told."""

    recipient: Recipient
    attempts: int = 0
    is_delay_told: bool = False


class Circumstances(Struct, frozen=True):
    """What an attempt met with, besides the reply. `host` is the endpoint's text, "" when none was reached."""

    now: datetime
    host: str = ""
    tls: str = ""
    passes_dsn: bool = False
    is_hop_down: bool = False
    warn_hours: float = 4.0
    chance: float = 0.5  # for the jitter


def settle(accepted: Accepted, due: Due, reply: HostReply, met: Circumstances, back_off: BackOff) -> Settled:
    """Return the outcome of one attempt for one recipient."""
    attempts = due.attempts + 1
    said = str(reply)
    state, due_at, notice = State.QUEUED, None, ""
    if reply.code < 300:
        state = State.DELIVERED
        notice = _relayed_notice(accepted, due.recipient, met) if due.recipient.notify else ""
    elif reply.is_permanent:
        state = failed_state(accepted)
    elif back_off.is_over(accepted.accepted_at, accepted.expires_at, attempts, met.now):
        # RFC 3463: X.4.7 delivery time expired.
        state, said = failed_state(accepted), f"5.4.7 gave up after {attempts} attempts; the last: {said}"
    else:
        due_at = back_off.due_at(attempts, met.now, chance=met.chance, is_hop_down=met.is_hop_down)
        notice = _delay_notice(accepted, due, met)
    if state is State.FAILED:
        notice = _failure_notice(accepted, due.recipient)
    return Settled(
        message_id=accepted.id,
        group=accepted.group,
        recipient=due.recipient.address,
        state=state,
        reply=said,
        host=met.host,
        at=met.now,
        attempts=attempts,
        due_at=due_at,
        tls=met.tls,
        notice_due=notice,
    )


def put_back(accepted: Accepted, due: Due, reply: str, now: datetime, due_at: datetime | None = None) -> Settled:
    """Return a recipient to the queue, due at once or at `due_at`: the attempt was broken off and does not count."""
    return Settled(
        message_id=accepted.id,
        group=accepted.group,
        recipient=due.recipient.address,
        state=State.QUEUED,
        reply=reply,
        host="",
        at=now,
        attempts=due.attempts,
        due_at=due_at or now,
    )


def failed_state(accepted: Accepted) -> State:
    """Return where a message goes that cannot be delivered.

    Mail from outside is held, since its reverse-path may be forged and a notice would hit somebody else. What has the
    null reverse-path can be told to nobody: our own notices and our side's bounces end here.
    """
    if accepted.is_notice:
        return State.FAILED
    if accepted.mail_from.is_null:
        return State.FAILED if accepted.direction is Direction.OUTBOUND else State.HELD
    return State.FAILED if accepted.may_notify else State.HELD


def _may_be_told(accepted: Accepted) -> bool:
    # RFC 5321 section 4.5.5: no notification about a notification.
    return accepted.may_notify and not accepted.is_notice and not accepted.mail_from.is_null


def _failure_notice(accepted: Accepted, recipient: Recipient) -> str:
    # RFC 3461 section 5.2.7: without NOTIFY a failure is told.
    wants = not recipient.notify or Notify.FAILURE in recipient.notify
    return "failed" if wants and _may_be_told(accepted) else ""


def _relayed_notice(accepted: Accepted, recipient: Recipient, met: Circumstances) -> str:
    # RFC 3461 section 5.2.2: whoever hands mail to a host without DSN tells so, where success was to be told.
    wants = Notify.SUCCESS in recipient.notify and not met.passes_dsn
    return "relayed" if wants and _may_be_told(accepted) else ""


def _delay_notice(accepted: Accepted, due: Due, met: Circumstances) -> str:
    if Notify.DELAY not in due.recipient.notify or due.is_delay_told or not _may_be_told(accepted):
        return ""
    return "delayed" if met.now >= accepted.accepted_at + timedelta(hours=met.warn_hours) else ""
