"""Header fields: finding, folding, and reading the ones that decisions rest on."""

import contextlib

from tests.soak import fuzzing

with fuzzing.instrumented():
    from gateway.mail.authres import parse_authentication_results
    from gateway.mail.errors import Malformed
    from gateway.mail.fields import fold, scan_header, unfold
    from gateway.mail.received import parse_received
    from gateway.mail.splice import splice

SEEDS = (
    b"",
    b"\r\n",
    b"From: a@x.example\r\nSubject: one\r\n two\r\n\r\nbody\r\n",
    b"Subject : blank before colon\r\n\tfolded\r\nno colon here\r\nX: 1\r\n\r\n",
    b": no name\r\n \r\nX:\r\n\r\n..\r\n",
    b"Received: from a.example (b.example [192.0.2.1]) by c.example with ESMTPS id 1; Mon, 6 Jan 2025 10:00:00 +0000",
    b'mx.example; spf=pass (a (b) "c") smtp.mailfrom=x.example; dkim=fail reason="bad \\" one" header.d=y.example',
    b"X-Long: " + b"a" * 2000 + b"\r\n\r\n",
)


def look(data: bytes) -> None:
    spans, body_start, _ = scan_header(data, 8192)
    assert 0 <= body_start <= len(data)
    end = 0
    for span in spans:
        # In order, apart from each other, within the header: a splice by spans can hit nothing else.
        assert end <= span.start < span.value_start <= span.end <= body_start
        end = span.end
        unfold(data[span.value_start : span.end])
    without = b"".join(splice(data, remove=[(span.start, span.end) for span in spans]))
    assert len(without) == len(data) - sum(span.end - span.start for span in spans)
    text = data.decode("utf-8", "replace")
    parse_received(text)
    with contextlib.suppress(Malformed):
        parse_authentication_results(text)
    check_fold(text)


def check_fold(text: str) -> None:
    try:
        field = fold("X-Test", text)
    except Malformed:
        return
    assert field.endswith(b"\r\n")
    lines = field.split(b"\r\n")[:-1]
    assert all(len(line) <= 998 for line in lines)
    assert all(line.startswith((b" ", b"\t")) and line.strip() for line in lines[1:])
    assert b"\r" not in field.replace(b"\r\n", b"")
    assert b"\n" not in field.replace(b"\r\n", b"")
    spans, _, _ = scan_header(field + b"\r\n", 1 << 20)
    assert [span.name for span in spans] == ["X-Test"]


if __name__ == "__main__":
    fuzzing.main(look, SEEDS)
