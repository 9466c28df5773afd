"""Notifications from anybody: reading them never fails, takes bounded time, and yields no more than it may."""

from tests.soak import fuzzing

with fuzzing.instrumented():
    from gateway.mail.dsn import MAX_MESSAGE_IDS, MAX_RECIPIENTS, read_dsn

HEADER = (
    b"From: <mailer-daemon@x.example>\r\nTo: a@corp.example\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
)
SEEDS = (
    b"",
    HEADER
    + b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n--b\r\n\r\nSorry\r\n--b\r\n'
    b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\nOriginal-Envelope-Id: e1\r\n\r\n"
    b"Original-Recipient: rfc822;a@x.example\r\nFinal-Recipient: rfc822; b@x.example\r\n"
    b"Action: failed\r\nStatus: 5.1.1\r\n"
    b"Diagnostic-Code: smtp; 550 5.1.1 no\r\n\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n"
    b"Message-ID: <1@corp.example>\r\n\r\n--b--\r\n",
    HEADER + b"Subject: Undelivered mail\r\n\r\n> Message-ID: <2@corp.example>\r\nReturned mail follows\r\n",
    HEADER
    + b"Content-Type: multipart/report; boundary=b\r\nContent-Transfer-Encoding: base64\r\n\r\n--b\r\n--b\r\n--b",
)


def look(data: bytes) -> None:
    for raw in (data, HEADER + data):
        dsn = read_dsn(raw)
        if dsn is not None:
            assert len(dsn.recipients) <= MAX_RECIPIENTS
            assert len(dsn.original_message_ids) <= MAX_MESSAGE_IDS
            assert all(one[0] == "<" and one[-1] == ">" for one in dsn.original_message_ids)
            assert all("\r" not in one and "\n" not in one for one in dsn.original_message_ids)


if __name__ == "__main__":
    fuzzing.main(look, SEEDS)
