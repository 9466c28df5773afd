"""Delivery status notifications: what we write, and what the world sends."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail.address import Address
from gateway.mail.dsn import DsnRecipient, DsnStatus, read_dsn, write_dsn
from gateway.mail.envelope import Ret
from gateway.mail.errors import Malformed

NOW = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)
USER = Address("user", "partner.example")
SENDER = Address("sender", "corp.example")
HEADER = b"From: sender@corp.example\r\nTo: user@partner.example\r\nMessage-ID: <order.1@corp.example>\r\n\r\n"
WHOLE = HEADER + b"The body.\r\n"
FAILED = DsnRecipient("", USER, "failed", "5.1.1", "550 5.1.1 No such user", "mx.partner.example", NOW)


def written(
    *recipients: DsnRecipient,
    to: Address = SENDER,
    original: bytes = WHOLE,
    ret: Ret | None = None,
    envid: str = "",
    subject: str = "Order",
) -> bytes:
    return write_dsn(
        from_address=Address("postmaster", "corp.example"),
        to=to,
        reporting_mta="mx.corp.example",
        arrival=NOW - timedelta(hours=1),
        now=NOW,
        recipients=recipients or (FAILED,),
        original=original,
        message_id="<notice.1@mx.corp.example>",
        envid=envid,
        ret=ret,
        subject=subject,
    )


def parts_of(raw: bytes) -> tuple[Message, list[Any]]:
    """Return the notification and its three parts as Python's own parser reads them."""
    message = message_from_bytes(raw, policy=policy.default)
    assert not [defect for part in message.walk() for defect in part.defects]
    parts = message.get_payload()
    assert isinstance(parts, list)
    return message, parts


# --- Writing ----------------------------------------------------------------------------------------------------------


def test_a_failure_is_reported_as_the_standard_says() -> None:
    message, (text, status, returned) = parts_of(written(envid="QQ314159"))
    assert (message.get_content_type(), message.get_param("report-type")) == ("multipart/report", "delivery-status")
    assert (message["To"], message["Auto-Submitted"]) == ("sender@corp.example", "auto-replied")
    assert message["In-Reply-To"] == "<order.1@corp.example>"
    assert message["Date"] == "Tue, 24 Nov 2026 04:00:00 +0000"
    assert [line for line in text.get_content().splitlines() if "delivered" in line or line.startswith("  ")] == [
        "Your message could not be delivered:",
        "  <user@partner.example>",
        "    mx.partner.example said: 550 5.1.1 No such user",
    ]
    about_message, about_recipient = status.get_payload()
    assert list(about_message.items()) == [
        ("Original-Envelope-Id", "QQ314159"),
        ("Reporting-MTA", "dns; mx.corp.example"),
        ("Arrival-Date", "Tue, 24 Nov 2026 03:00:00 +0000"),
    ]
    assert list(about_recipient.items()) == [
        ("Final-Recipient", "rfc822; user@partner.example"),
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Remote-MTA", "dns; mx.partner.example"),
        ("Diagnostic-Code", "smtp; 550 5.1.1 No such user"),
        ("Last-Attempt-Date", "Tue, 24 Nov 2026 04:00:00 +0000"),
    ]
    assert returned.get_content_type() == "text/rfc822-headers"
    assert "Message-ID: <order.1@corp.example>" in returned.get_payload()
    assert "The body" not in returned.get_payload()


def test_a_delay_says_until_when_we_try() -> None:
    until = NOW + timedelta(days=4)
    recipient = DsnRecipient("rfc822;Info@partner.example", USER, "delayed", "4.4.1", will_retry_until=until)
    message, (text, status, _) = parts_of(written(recipient, ret=Ret.FULL))
    assert "Delayed" in message["Subject"]
    assert "We try until Sat, 28 Nov 2026 04:00:00 +0000." in text.get_content()
    fields = dict(status.get_payload()[1].items())
    assert fields["Original-Recipient"] == "rfc822; Info@partner.example"
    assert fields["Will-Retry-Until"] == "Sat, 28 Nov 2026 04:00:00 +0000"


@pytest.mark.parametrize(
    ("action", "ret", "original", "kind"),
    [
        ("failed", Ret.FULL, WHOLE, "message/rfc822"),
        ("failed", Ret.HDRS, WHOLE, "text/rfc822-headers"),
        ("failed", None, WHOLE, "text/rfc822-headers"),
        ("failed", Ret.FULL, HEADER, "text/rfc822-headers"),  # the body is not at hand
        ("failed", Ret.FULL, HEADER + b"x" * (1 << 20), "text/rfc822-headers"),  # too big
        ("delayed", Ret.FULL, WHOLE, "text/rfc822-headers"),  # RFC 3461 section 4.3: RET is for failures
        ("delivered", Ret.FULL, WHOLE, "text/rfc822-headers"),
        ("relayed", Ret.FULL, WHOLE, "text/rfc822-headers"),
        ("failed", Ret.FULL, "Subject: Größe\r\n\r\nx\r\n".encode(), "message/global"),
        ("failed", Ret.HDRS, "Subject: Größe\r\n\r\nx\r\n".encode(), "message/global-headers"),
        ("failed", Ret.FULL, b"no header at all", "text/rfc822-headers"),
        ("failed", Ret.HDRS, b"", "text/rfc822-headers"),
    ],
)
def test_as_much_comes_back_as_was_asked_for(action: str, ret: Ret | None, original: bytes, kind: str) -> None:
    raw = written(DsnRecipient("", USER, action, ""), original=original, ret=ret)
    assert f"Content-Type: {kind}\r\n".encode() in raw
    assert (b"The body." in raw) is (kind == "message/rfc822")


def test_a_whole_message_comes_back_octet_by_octet() -> None:
    original = HEADER + b"--=_not-a-boundary\r\n.dots\r\nGr\xc3\xb6\xc3\x9fe\r\n"
    raw = written(original=original, ret=Ret.FULL)
    assert b"Content-Transfer-Encoding: 8bit\r\n\r\n" + original + b"\r\n--=_" in raw


@pytest.mark.parametrize(
    ("action", "status", "expected"),
    [
        ("failed", "", "5.0.0"),
        ("delayed", "nonsense", "4.0.0"),
        ("delivered", "2.1.5", "2.1.5"),
        ("relayed", "5", "2.0.0"),
        ("failed", "5.1.1\r\nX: y", "5.0.0"),
    ],
)
def test_a_status_that_is_none_is_replaced(action: str, status: str, expected: str) -> None:
    _, (_, report, _) = parts_of(written(DsnRecipient("", USER, action, status)))
    assert report.get_payload()[1]["Status"] == expected


def test_a_notification_about_nobody_is_refused() -> None:
    for recipients in ([], [DsnRecipient("", USER, "unknown", "5.0.0")]):
        with pytest.raises(Malformed):
            write_dsn(
                from_address=SENDER,
                to=SENDER,
                reporting_mta="mx.corp.example",
                arrival=NOW,
                now=NOW,
                recipients=recipients,
                original=WHOLE,
                message_id="<x@y.example>",
            )


def test_hostile_words_of_the_next_hop_stay_in_their_field() -> None:
    said = "550 no\r\nAction: delivered\r\n\r\nFinal-Recipient: x\0 " + "y" * 5000 + " ünïcode"
    recipient = DsnRecipient("rfc822;x\r\nAction: delivered", USER, "failed", "5.0.0", said, "evil\r\nAction: relayed")
    raw = written(recipient, subject="a\r\nb" * 100, envid="x\r\nAction: expanded")
    _, (_, status, _) = parts_of(raw)
    assert [block.get_all("Action") for block in status.get_payload()] == [None, ["failed"]]
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert raw.isascii()


def test_an_international_recipient_is_named_in_ascii_for_an_ascii_sender() -> None:
    recipient = DsnRecipient("utf-8;jörg@bücher.example", Address("jörg", "bücher.example"), "failed", "5.1.1")
    raw = written(recipient)
    assert raw.isascii()  # RFC 6533 section 3: needs neither SMTPUTF8 nor 8BITMIME on the way back
    assert b"Final-Recipient: utf-8; j\\x{F6}rg@b\\x{FC}cher.example\r\n" in raw
    found = read_dsn(raw)
    assert found is not None
    assert (found.recipients[0].final, found.recipients[0].original) == ("jörg@bücher.example",) * 2


def test_an_international_sender_gets_a_global_report() -> None:
    recipient = DsnRecipient("", Address("jörg", "bücher.example"), "failed", "5.1.1", "550 Größe")
    raw = written(recipient, to=Address("søren", "corp.example"))
    assert b"Content-Type: message/global-delivery-status\r\n" in raw
    assert "Final-Recipient: utf-8; jörg@bücher.example\r\n".encode() in raw
    assert "Diagnostic-Code: smtp; 550 Größe\r\n".encode() in raw
    found = read_dsn(raw)
    assert found is not None
    assert found.recipients == (DsnStatus("", "jörg@bücher.example", "failed", "5.1.1", "550 Größe"),)


_ascii = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60).map(
    lambda text: " ".join(text.split())
)
_recipients = st.builds(
    DsnRecipient,
    original=st.sampled_from(["", "rfc822;Info@partner.example"]),
    final=st.builds(Address, st.from_regex(r"[a-z0-9]{1,10}", fullmatch=True), st.just("partner.example")),
    action=st.sampled_from(["failed", "delayed", "delivered", "relayed", "expanded"]),
    status=st.sampled_from(["5.1.1", "4.4.1", "2.0.0"]),
    diagnostic=_ascii,
    remote_mta=st.sampled_from(["", "mx.partner.example"]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_recipients, min_size=1, max_size=5), _ascii, st.text(max_size=300), st.sampled_from([None, *Ret]))
def test_what_we_write_we_read_again_and_so_does_python(
    recipients: list[DsnRecipient], envid: str, subject: str, ret: Ret | None
) -> None:
    raw = written(*recipients, envid=envid, subject=subject, ret=ret)
    found = read_dsn(raw)
    assert found is not None
    assert (found.report_type, found.reporting_mta, found.envid) == ("delivery-status", "mx.corp.example", envid)
    assert found.arrival == NOW - timedelta(hours=1)
    assert found.original_message_ids == ("<order.1@corp.example>",)
    assert [(status.final, status.action, status.status, status.diagnostic) for status in found.recipients] == [
        (str(recipient.final), recipient.action, recipient.status, recipient.diagnostic) for recipient in recipients
    ]
    _, (_, status, _) = parts_of(raw)
    assert [block["Action"] for block in status.get_payload()[1:]] == [recipient.action for recipient in recipients]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([None, *Ret]))
def test_whatever_comes_back_the_report_stays_readable(original: bytes, ret: Ret | None) -> None:
    found = read_dsn(written(original=HEADER.removesuffix(b"\r\n") + original, ret=ret))
    assert found is not None
    assert (found.recipients[0].final, found.recipients[0].status) == ("user@partner.example", "5.1.1")
    assert "<order.1@corp.example>" in found.original_message_ids


# --- Reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "ids"),
    [
        (  # qmail
            b"From: MAILER-DAEMON@mx.partner.example\r\nSubject: failure\r\n\r\nHi. <user@partner.example>: no.\r\n"
            b"--- Below this line is a copy of the message.\r\n\r\nReceived: x\r\nMessage-ID: <a@corp.example>\r\n",
            ("<a@corp.example>",),
        ),
        (  # Exim
            b"From: x@y.example\r\nX-Failed-Recipients: u@partner.example\r\n\r\nMessage-Id:\r\n <a@corp.example>\r\n",
            ("<a@corp.example>",),
        ),
        (  # quoted and coded
            b"Return-Path: <>\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n>Message-ID: <a=3Db@corp=\r\n"
            b".example>",
            ("<a=b@corp.example>",),
        ),
        (b"Auto-Submitted: auto-replied\r\nIn-Reply-To: <a@corp.example>\r\n\r\nAway.", ("<a@corp.example>",)),
        (
            b"Content-Type: multipart/report; report-type=disposition-notification; boundary=x\r\n\r\n--x\r\n"
            b"Content-Type: message/disposition-notification\r\n\r\nOriginal-Message-ID: <a@corp.example>\r\n--x--\r\n",
            ("<a@corp.example>",),
        ),
        (  # boundaries that do not match
            b"Content-Type: multipart/report; boundary=x\r\n\r\n--y\r\n\r\nMessage-ID: <a@corp.example>\r\n",
            ("<a@corp.example>",),
        ),
        (b"From: MAILER-DAEMON\r\n\r\nthe message with Message-ID: <no@corp.example>", ()),  # not at the line's start
        (b"From: MAILER-DAEMON\r\nMessage-ID: <own@mx.partner.example>\r\n\r\nno.", ()),  # its own
    ],
)
def test_the_message_that_came_back_is_found(raw: bytes, ids: tuple[str, ...]) -> None:
    found = read_dsn(raw)
    assert found is not None
    assert found.original_message_ids == ids


def test_a_report_of_another_host_is_read() -> None:
    raw = (
        b"From: MAILER-DAEMON@mx.partner.example\r\nContent-Type: multipart/report;\r\n"
        b'\treport-type=delivery-status; boundary="=_x"\r\n\r\n--=_x\r\n\r\nSorry.\r\n--=_x\r\n'
        b"content-type: message/delivery-status\r\n\r\n"
        b"reporting-mta: dns;mx.partner.example\r\noriginal-envelope-id: abc\r\n\r\n"
        b"original-recipient: rfc822;<Info@partner.example>\r\nfinal-recipient: RFC822; User@partner.example\r\n"
        b"action: Failed (no such user)\r\nstatus: 5.1.1 (address)\r\ndiagnostic-code: smtp;550 no\r\n  such user\r\n"
        b"\r\n\r\nFinal-Recipient: rfc822;b@partner.example\r\nAction: delayed\r\n--=_x--\r\n"
    )
    found = read_dsn(raw)
    assert found is not None
    assert (found.report_type, found.reporting_mta, found.envid) == ("delivery-status", "mx.partner.example", "abc")
    assert found.recipients == (
        DsnStatus("Info@partner.example", "User@partner.example", "failed", "5.1.1", "550 no  such user"),
        DsnStatus("", "b@partner.example", "delayed"),
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"From: user@partner.example\r\nSubject: Re: Order\r\nIn-Reply-To: <a@corp.example>\r\n\r\nHello",
        b"From: user@partner.example\r\nAuto-Submitted: no\r\n\r\nMessage-ID: <a@corp.example>",
        b"From: user@partner.example\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <a@corp.example>",
    ],
)
def test_what_people_write_is_no_notification(raw: bytes) -> None:
    assert read_dsn(raw) is None


@pytest.mark.parametrize(
    "piece",
    [
        b"message-id:",
        b"\r\nmessage-id: <",
        b"\nmessage-id: " + b"x" * 1000 + b" @",
        b"> ",
        b"\r\n\r\n",
        b"--x\r\n",
        b"a: b\r\n",
        b"final-recipient: x\r\n\r\n",
        b"\n",
        b"<",
    ],
)
def test_a_huge_hostile_notification_is_read_in_little_time(piece: bytes) -> None:
    filler = piece * (3_000_000 // len(piece))
    head = b"Content-Type: multipart/report; boundary=x\r\n\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\n"
    started = time.perf_counter()
    found = read_dsn(head + filler)
    assert read_dsn(b"From: mailer-daemon\r\n\r\n" + filler) is not None
    assert time.perf_counter() - started < 4.0  # some 0.1 s
    assert found is not None
    assert len(found.recipients) <= 1000
    assert len(found.original_message_ids) <= 20


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_notification_is_read_without_harm(data: st.DataObject) -> None:
    raw = bytearray(written(ret=Ret.FULL))
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=20)):
        raw[at] = data.draw(st.sampled_from(b"\r\n:-= \0\xff<>x"))
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(raw)), st.integers(0, len(raw)))))
    found = read_dsn(bytes(raw[start:end]))
    assert found is None or len(found.original_message_ids) <= 20


# --- Real bounces -----------------------------------------------------------------------------------------------------

BOUNCES = Path(__file__).parents[3] / "shared" / "data" / "bounces" / "sisimai_set-of-emails"


def real_bounces() -> Iterator[bytes]:
    """Yield the real bounces with CRLF line ends; some of the set have CR or LF alone."""
    for path in sorted(BOUNCES.iterdir()):
        yield re.sub(rb"\r\n|\r|\n", b"\r\n", path.read_bytes())


@pytest.mark.skipif(not BOUNCES.is_dir(), reason="no ../shared/data/bounces: real bounces are not read")
def test_real_bounces_are_read_and_most_name_our_message() -> None:
    notices = [read_dsn(raw) for raw in real_bounces()]
    assert len(notices) > 400
    found = [notice for notice in notices if notice is not None]
    # 449 of 461; the rest are forwarded by people, mailing list software, JSON, or empty.
    assert len(found) / len(notices) > 0.95
    # 388 of 449, which is all that hold one.
    assert sum(bool(notice.original_message_ids) for notice in found) / len(found) > 0.85
    standard = [notice for notice in found if notice.report_type == "delivery-status"]
    # 243 of 257; the rest call themselves standard and are not.
    assert sum(bool(notice.recipients) for notice in standard) / len(standard) > 0.9
