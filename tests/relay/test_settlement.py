"""What becomes of a recipient by the next hop's reply, and who is told."""

from datetime import timedelta
from typing import Any

import pytest

from gateway.accepted import Settled, State
from gateway.mail.envelope import Direction, Notify, Recipient
from gateway.relay.reply_stream import HostReply, local_reply
from gateway.relay.retry import BackOff
from gateway.relay.settlement import Circumstances, Due, put_back, settle
from tests.parcels import NOW, accepted, address

ANN = address("ann@partner.example")
TAKEN = HostReply(250, "2.0.0", "Ok")
NO = HostReply(550, "5.1.1", "No such user")
LATER = HostReply(451, "4.3.0", "Later")


def settled(
    reply: HostReply,
    *,
    notify: tuple[Notify, ...] = (),
    attempts: int = 0,
    told: bool = False,
    met: Any = None,
    **fields: Any,
) -> Settled:
    recipient = Recipient(ANN, Direction.OUTBOUND, notify)
    due = Due(recipient, attempts, told)
    circumstances = Circumstances(**({"now": NOW, "host": "mx.partner.example [192.0.2.1]:25"} | (met or {})))
    return settle(accepted(recipient, **fields), due, reply, circumstances, BackOff())


def test_a_delivery_keeps_host_reply_and_tls() -> None:
    result = settled(TAKEN, met={"tls": "TLSv1.3 TLS_AES_256_GCM_SHA384"})
    assert result == Settled(
        message_id=accepted().id,
        group=0,
        recipient=ANN,
        state=State.DELIVERED,
        reply="250 2.0.0 Ok",
        host="mx.partner.example [192.0.2.1]:25",
        at=NOW,
        attempts=1,
        tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
    )


def test_a_temporary_refusal_is_tried_again_later() -> None:
    result = settled(LATER, attempts=2)
    assert (result.state, result.attempts, result.due_at) == (State.QUEUED, 3, NOW + timedelta(minutes=15))
    assert (result.reply, result.notice_due) == ("451 4.3.0 Later", "")


@pytest.mark.parametrize("reply", [NO, local_reply("5.1.2", "no such domain")])
def test_a_permanent_refusal_fails_and_is_told(reply: HostReply) -> None:
    result = settled(reply)
    assert (result.state, result.notice_due, result.due_at) == (State.FAILED, "failed", None)
    assert result.reply == str(reply)


def test_what_expired_fails_with_its_last_reply() -> None:
    result = settled(LATER, attempts=30, met={"now": NOW + timedelta(days=5)})
    assert (result.state, result.notice_due) == (State.FAILED, "failed")
    assert result.reply == "5.4.7 gave up after 31 attempts; the last: 451 4.3.0 Later"


def test_a_clock_that_jumps_a_month_returns_nobodys_mail() -> None:
    assert settled(LATER, attempts=1, met={"now": NOW + timedelta(days=31)}).state is State.QUEUED


OUTSIDE = {"direction": Direction.INBOUND, "may_notify": False}


@pytest.mark.parametrize(
    ("fields", "state", "notice"),
    [
        ({}, State.FAILED, "failed"),
        # Mail from outside is never answered: its path may be forged.
        (OUTSIDE, State.HELD, ""),
        (OUTSIDE | {"mail_from": ""}, State.HELD, ""),
        (OUTSIDE | {"direction": Direction.RETURNED}, State.HELD, ""),
        # The null path cannot be told anything.
        ({"mail_from": ""}, State.FAILED, ""),
        ({"mail_from": "", "direction": Direction.INTERNAL}, State.HELD, ""),
        ({"mail_from": "", "is_notice": True, "direction": Direction.INTERNAL}, State.FAILED, ""),
        ({"mail_from": "", "is_notice": True, "direction": Direction.INBOUND, "may_notify": False}, State.FAILED, ""),
    ],
)
def test_a_failure_is_told_held_or_ends(fields: dict[str, Any], state: State, notice: str) -> None:
    result = settled(NO, **fields)
    assert (result.state, result.notice_due) == (state, notice)


@pytest.mark.parametrize(
    ("notify", "notice"),
    [
        ((), "failed"),
        ((Notify.FAILURE,), "failed"),
        ((Notify.SUCCESS, Notify.FAILURE), "failed"),
        ((Notify.SUCCESS,), ""),
        ((Notify.DELAY,), ""),
        ((Notify.NEVER,), ""),
    ],
)
def test_notify_says_whether_a_failure_is_told(notify: tuple[Notify, ...], notice: str) -> None:
    result = settled(NO, notify=notify)
    assert (result.state, result.notice_due) == (State.FAILED, notice)


@pytest.mark.parametrize(
    ("notify", "passes_dsn", "fields", "notice"),
    [
        ((Notify.SUCCESS,), False, {}, "relayed"),
        ((Notify.SUCCESS,), True, {}, ""),  # the next host tells
        ((), False, {}, ""),
        ((Notify.FAILURE,), False, {}, ""),
        ((Notify.NEVER,), False, {}, ""),
        ((Notify.SUCCESS,), False, {"mail_from": ""}, ""),
        ((Notify.SUCCESS,), False, OUTSIDE, ""),
    ],
)
def test_success_is_told_where_the_next_host_will_not(
    notify: tuple[Notify, ...], passes_dsn: bool, fields: dict[str, Any], notice: str
) -> None:
    result = settled(TAKEN, notify=notify, met={"passes_dsn": passes_dsn}, **fields)
    assert (result.state, result.notice_due) == (State.DELIVERED, notice)


@pytest.mark.parametrize(
    ("notify", "hours", "told", "fields", "notice"),
    [
        ((Notify.DELAY,), 4, False, {}, "delayed"),
        ((Notify.DELAY,), 3, False, {}, ""),
        ((Notify.DELAY,), 5, True, {}, ""),
        ((), 5, False, {}, ""),
        ((Notify.FAILURE,), 5, False, {}, ""),
        ((Notify.DELAY,), 5, False, {"mail_from": ""}, ""),
        ((Notify.DELAY,), 5, False, OUTSIDE, ""),
    ],
)
def test_a_delay_is_told_once_and_to_those_who_asked(
    notify: tuple[Notify, ...], hours: int, told: bool, fields: dict[str, Any], notice: str
) -> None:
    met = {"now": NOW + timedelta(hours=hours), "warn_hours": 4.0}
    result = settled(LATER, notify=notify, told=told, met=met, **fields)
    assert (result.state, result.notice_due) == (State.QUEUED, notice)


def test_an_attempt_that_was_broken_off_does_not_count() -> None:
    result = put_back(accepted(), Due(Recipient(ANN, Direction.OUTBOUND), 3), "broken off", NOW)
    assert (result.state, result.attempts, result.due_at, result.reply) == (State.QUEUED, 3, NOW, "broken off")
