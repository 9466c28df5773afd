"""Notifications as values: who is told, what is said, and that the same outcome makes the same notice."""

import email
import email.message
import email.policy
from datetime import timedelta
from typing import Any

import pytest

from gateway.accepted import Accepted, State
from gateway.mail.address import NULL_PATH
from gateway.mail.dsn import Dsn, read_dsn
from gateway.mail.envelope import Body, Direction, Notify, Recipient, Ret
from gateway.mail.errors import Malformed
from gateway.relay.notices import make_notice, notice_id
from gateway.store.queue import DeliveryKey, NoticeDue
from tests import make
from tests.parcels import NOW, RAW, accepted, address

LATER = NOW + timedelta(minutes=2)


def due(to: str = "ann@partner.example", **fields: Any) -> NoticeDue:
    values: dict[str, Any] = {
        "key": DeliveryKey(accepted().id, 0, address(to)),
        "kind": "failed",
        "state": State.FAILED,
        "reply": "550 5.1.1 No such user",
        "host": "mx.partner.example [192.0.2.1]:25",
        "at": NOW,
        "attempts": 1,
        "expires_at": NOW + timedelta(days=5),
        "location": None,
    }
    return NoticeDue(**(values | fields))


def notice(group: Accepted, *dues: NoticeDue, raw: bytes = RAW, **document: Any) -> tuple[Accepted, bytes]:
    return make_notice(group, raw, dues or (due(),), make.policy(**document), LATER)


def read(raw: bytes) -> tuple[Dsn, email.message.EmailMessage]:
    found = read_dsn(raw)
    assert found is not None
    return found, email.message_from_bytes(raw, policy=email.policy.default)  # type: ignore[return-value]


def test_a_failure_is_told_to_the_sender() -> None:
    head, raw = notice(accepted(envid="QQ314"))
    found, message = read(raw)
    [recipient] = found.recipients
    assert (recipient.final, recipient.action, recipient.status) == ("ann@partner.example", "failed", "5.1.1")
    assert (recipient.diagnostic, recipient.remote_mta) == ("550 5.1.1 No such user", "mx.partner.example")
    assert (found.envid, found.reporting_mta, found.arrival) == ("QQ314", "mx.corp.example", NOW)
    assert message["to"] == "bob@corp.example"
    assert message["from"].addresses[0].addr_spec == "MAILER-DAEMON@mx.corp.example"
    assert message["auto-submitted"] == "auto-replied"
    assert b"Subject: Hello\r\n" in raw
    assert head.size == len(raw)


def test_the_head_is_that_of_our_own_mail() -> None:
    head, raw = notice(accepted())
    assert (head.mail_from, head.is_notice, head.may_notify) == (NULL_PATH, True, False)
    assert head.recipients == (Recipient(address("bob@corp.example"), Direction.INTERNAL, (Notify.NEVER,)),)
    assert (head.direction, head.accepted_at) == (Direction.INTERNAL, LATER)
    assert head.expires_at == LATER + timedelta(days=5)
    assert head.message_id == f"<{head.id}@mx.corp.example>"
    assert f"Message-ID: {head.message_id}\r\n".encode() in raw
    assert (head.body, head.smtputf8) == (Body.SEVEN_BIT, False)


def test_a_sender_outside_our_domains_is_reached_like_the_world() -> None:
    head, _ = notice(accepted(mail_from="shop@hosted.example"))
    assert head.direction is Direction.OUTBOUND


def test_the_postmaster_of_the_policy_is_the_author() -> None:
    head, raw = notice(accepted(), postmaster="help@corp.example")
    assert b"<help@corp.example>" in raw
    assert head.author == "help@corp.example"


@pytest.mark.parametrize(
    ("kind", "reply", "status"),
    [
        ("failed", "550 5.7.1 No", "5.7.1"),
        ("failed", "550 No", "5.0.0"),
        ("failed", "5.1.10 partner.example takes no mail (null MX)", "5.1.10"),
        ("failed", "5.4.7 gave up after 36 attempts; the last: 451 4.3.0 Later", "5.4.7"),
        ("delayed", "451 4.3.0 Later", "4.3.0"),
        ("delayed", "4.4.1 cannot connect", "4.4.1"),
        ("delayed", "", "4.0.0"),
        ("relayed", "250 2.1.5 Ok", "2.1.5"),
        ("relayed", "250 Ok", "2.0.0"),
    ],
)
def test_the_status_is_the_replys_in_the_class_of_the_action(kind: str, reply: str, status: str) -> None:
    _, raw = notice(accepted(), due(kind=kind, reply=reply))
    [recipient] = read(raw)[0].recipients
    assert (recipient.action, recipient.status) == (kind, status)


def test_a_delay_says_how_long_we_try() -> None:
    _, raw = notice(accepted(), due(kind="delayed", reply="451 4.3.0 Later"))
    assert b"Will-Retry-Until: Sun, 29 Nov 2026 09:30:00 +0000\r\n" in raw


def test_recipients_of_one_group_are_told_together_with_what_they_were_called() -> None:
    orcpt = Recipient(address("ann@partner.example"), Direction.OUTBOUND, (), "rfc822;Ann@old.example")
    group = accepted(orcpt, "al@partner.example")
    _, raw = notice(group, due(), due("al@partner.example", reply="552 5.2.2 Full"), due("new@other.example"))
    found, _ = read(raw)
    assert [(one.original, one.final, one.status) for one in found.recipients] == [
        ("Ann@old.example", "ann@partner.example", "5.1.1"),
        ("", "al@partner.example", "5.2.2"),
        ("", "new@other.example", "5.1.1"),  # redirected there
    ]


@pytest.mark.parametrize(("ret", "is_whole"), [(Ret.FULL, True), (Ret.HDRS, False), (None, False)])
def test_ret_says_how_much_comes_back(ret: Ret | None, is_whole: bool) -> None:
    _, raw = notice(accepted(ret=ret))
    assert (b"Hello, Ann." in raw) is is_whole
    assert b"Subject: Hello" in raw


def test_of_a_big_message_the_header_comes_back() -> None:
    _, raw = notice(accepted(ret=Ret.FULL), raw=RAW + b"x" * 2_000_000)
    assert len(raw) < 10_000
    assert b"Subject: Hello" in raw


def test_an_address_outside_of_ascii_makes_a_global_notice() -> None:
    head, raw = notice(accepted(mail_from="bøb@corp.example"))
    assert (head.smtputf8, head.body) == (True, Body.EIGHT_BIT_MIME)
    assert "bøb@corp.example".encode() in raw


@pytest.mark.parametrize("fields", [{"mail_from": ""}, {"is_notice": True}])
def test_nobody_is_told_of_a_notice(fields: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        notice(accepted(**fields))


def test_the_same_outcome_makes_the_same_notice() -> None:
    first, again = notice(accepted()), notice(accepted())
    assert first == again
    others = [due(kind="delayed"), due("al@partner.example"), due(attempts=2)]
    ids = {notice_id([one]) for one in (due(), *others)}
    assert len(ids) == 4
    assert all(len(id) == 26 for id in ids)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("mx.partner.example [192.0.2.1]:25", "mx.partner.example"),
        ("[192.0.2.1]:25", "[192.0.2.1]"),
        ("[2001:db8::1]:25", "[2001:db8::1]"),
        ("", ""),
    ],
)
def test_the_remote_host_is_told_by_name(host: str, name: str) -> None:
    _, raw = notice(accepted(), due(host=host))
    assert read(raw)[0].recipients[0].remote_mta == name
