"""Our Received field, and those of others."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail.address import Address
from gateway.mail.envelope import Tls
from gateway.mail.fields import scan_header, unfold
from gateway.mail.received import Received, parse_received, received_field, with_protocol

AT = datetime(2026, 11, 24, 5, 0, tzinfo=timezone(timedelta(hours=1)))


def ours(
    helo: str = "mail.partner.example",
    peer_ip: str = "192.0.2.10",
    peer_name: str = "mail.partner.example",
    tls: Tls | None = None,
    recipient: Address | None = None,
) -> bytes:
    return received_field(
        helo=helo,
        peer_ip=peer_ip,
        peer_name=peer_name,
        by="mx.corp.example",
        protocol=with_protocol(esmtp=True, tls=tls is not None),
        tls=tls,
        id="01ARYZ6S41TSV4RRFFQ67KQ2M9",
        at=AT,
        recipient=recipient,
    )


@pytest.mark.parametrize(
    ("esmtp", "tls", "auth", "smtputf8", "keyword"),
    [
        (False, False, False, False, "SMTP"),
        (True, False, False, False, "ESMTP"),
        (True, True, False, False, "ESMTPS"),  # RFC 3848
        (True, False, True, False, "ESMTPA"),
        (True, True, True, False, "ESMTPSA"),
        (True, False, False, True, "UTF8SMTP"),  # RFC 6531 section 4.3
        (True, True, False, True, "UTF8SMTPS"),
        (True, True, True, True, "UTF8SMTPSA"),
    ],
)
def test_the_protocol_has_its_registered_name(esmtp: bool, tls: bool, auth: bool, smtputf8: bool, keyword: str) -> None:
    assert with_protocol(esmtp=esmtp, tls=tls, auth=auth, smtputf8=smtputf8) == keyword


def test_our_field_says_who_how_and_when() -> None:
    tls = Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384")
    assert ours(tls=tls, recipient=Address("user", "corp.example")) == (
        b"Received: from mail.partner.example (mail.partner.example [192.0.2.10])\r\n"
        b"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n"
        b"\tby mx.corp.example with ESMTPS id 01ARYZ6S41TSV4RRFFQ67KQ2M9\r\n"
        b"\tfor <user@corp.example>;\r\n"
        b"\tTue, 24 Nov 2026 04:00:00 +0000\r\n"
    )


def test_without_one_recipient_none_is_named() -> None:
    assert b"for" not in ours()


def test_an_ipv6_peer_without_a_name_is_written_as_a_literal() -> None:
    assert b"from helo.example ([IPv6:2001:db8::1])\r\n" in ours(
        helo="helo.example", peer_ip="2001:db8::1", peer_name=""
    )


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400), st.text(max_size=400))
def test_whatever_the_peer_calls_itself_the_field_is_one_and_tells_the_true_address(helo: str, peer_name: str) -> None:
    raw = ours(helo=helo, peer_name=peer_name)
    spans, _, defects = scan_header(raw + b"\r\n", 1 << 20)
    assert [(span.start, span.end) for span in spans] == [(0, len(raw))]
    assert defects == ()
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    found = parse_received(unfold(raw[9:]))
    assert (found.from_ip, found.by, found.with_, found.at) == ("192.0.2.10", "mx.corp.example", "ESMTP", AT)


@pytest.mark.parametrize(
    ("value", "from_name", "peer_name", "from_ip", "by", "with_"),
    [
        (  # Postfix
            "from mail.a.example (unknown [192.0.2.1]) (using TLSv1.3 with cipher X (256/256 bits)) (No client"
            " certificate requested) by mx.b.example (Postfix) with ESMTPS id 4AB for <u@b.example>; Tue, 24 Nov"
            " 2026 04:00:00 +0000 (UTC)",
            *("mail.a.example", "", "192.0.2.1", "mx.b.example", "ESMTPS"),
        ),
        (  # Exim
            "from host.a.example ([192.0.2.1]:2525 helo=[203.0.113.9]) by mx.b.example with esmtps (TLS1.3) tls X"
            " (Exim 4.96) (envelope-from <a@a.example>) id 1abc-000 for u@b.example; Tue, 24 Nov 2026 04:00:00 +0000",
            *("host.a.example", "", "192.0.2.1", "mx.b.example", "esmtps"),
        ),
        (
            "from [192.0.2.1] (helo=203.0.113.9) by mx.b.example with esmtp; Tue, 24 Nov 2026 04:00:00 +0000",
            *("[192.0.2.1]", "", "192.0.2.1", "mx.b.example", "esmtp"),
        ),
        (  # Sendmail, with an ident user and a doubt
            "from helo.a.example (user@host.a.example [192.0.2.1] (may be forged)) by mx.b.example (8.17/8.17) with"
            " ESMTP id x; Tue, 24 Nov 2026 04:00:00 GMT",
            *("helo.a.example", "host.a.example", "192.0.2.1", "mx.b.example", "ESMTP"),
        ),
        (  # Exchange
            "from EX1.a.example (192.0.2.1) by EX2.b.example (198.51.100.1) with Microsoft SMTP Server"
            " (version=TLS1_2, cipher=X) id 15.2.1; Tue, 24 Nov 2026 04:00:00 +0000",
            *("EX1.a.example", "", "192.0.2.1", "EX2.b.example", "Microsoft"),
        ),
        (  # Exchange over IPv6
            "from EX1.a.example (2001:db8::1) by EX2.b.example (2001:db8::2) with mapi id 15.2.1; Tue, 24 Nov 2026"
            " 04:00:00 +0000",
            *("EX1.a.example", "", "2001:db8::1", "EX2.b.example", "mapi"),
        ),
        (  # qmail: what follows HELO is the peer's word
            "from unknown (HELO [203.0.113.9]) (192.0.2.1) by mx.b.example with SMTP; 24 Nov 2026 04:00:00 -0000",
            *("unknown", "", "192.0.2.1", "mx.b.example", "SMTP"),
        ),
        (  # Gmail
            "from mail.a.example (mail.a.example. [192.0.2.1]) by mx.b.example with ESMTPS id x for <u@b.example>"
            " (version=TLS1_3); Mon, 23 Nov 2026 20:00:00 -0800 (PST)",
            *("mail.a.example", "mail.a.example", "192.0.2.1", "mx.b.example", "ESMTPS"),
        ),
        (  # names that try to look like an address or a clause
            "from [203.0.113.9] (host.a.example [IPv6:2001:db8::1]) by mx.b.example; Tue, 24 Nov 2026 04:00:00 +0000",
            *("[203.0.113.9]", "host.a.example", "2001:db8::1", "mx.b.example", ""),
        ),
        (
            "from x(y [203.0.113.9]) (host.a.example [192.0.2.1]) by mx.b.example; Tue, 24 Nov 2026 04:00:00 +0000",
            *("x", "host.a.example", "192.0.2.1", "mx.b.example", ""),
        ),
        (
            "from by (host.a.example [192.0.2.1]) by mx.b.example; Tue, 24 Nov 2026 04:00:00 +0000",
            *("by", "host.a.example", "192.0.2.1", "mx.b.example", ""),
        ),
        (
            "by mx.b.example (Postfix, from userid 1000) id 4AB; Tue, 24 Nov 2026 04:00:00 +0000",
            *("", "", "", "mx.b.example", ""),
        ),
    ],
)
def test_fields_of_other_servers_are_read(
    value: str, from_name: str, peer_name: str, from_ip: str, by: str, with_: str
) -> None:
    found = parse_received(value)
    assert (found.from_name, found.peer_name, found.from_ip) == (from_name, peer_name, from_ip)
    assert (found.by, found.with_, found.at) == (by, with_, datetime(2026, 11, 24, 4, 0, tzinfo=UTC))


def test_the_other_clauses_are_read() -> None:
    found = parse_received(
        "from a (b [192.0.2.1]) by c with ESMTP id 4AB for <u@b.example>; Tue, 24 Nov 2026 04:00:00 GMT"
    )
    assert (found.id, found.for_) == ("4AB", "u@b.example")


@pytest.mark.parametrize("ip", ["fe80::1%eth0", "18::1d%2b", "fe80::1%25eth0", "::ffff:192.0.2.1%1", "2001:db8::1%"])
@pytest.mark.parametrize(
    "value",
    [
        "from [203.0.113.9] (unknown [IPv6:{}]) by mx.b.example",
        "from [203.0.113.9] (unknown [{}]) by mx.b.example",
        "from [203.0.113.9] ({}) by mx.b.example",
        "from unknown (HELO [203.0.113.9]) ({}) by mx.b.example",
        "from host.a.example ([{}]:2525 helo=[203.0.113.9]) by mx.b.example",
        "from [203.0.113.9] [{}] by mx.b.example",
        "from [IPv6:{}] by mx.b.example",
        "from {} by mx.b.example",
    ],
)
def test_an_address_with_a_scope_is_none_and_no_name_takes_its_place(value: str, ip: str) -> None:
    found = parse_received(value.format(ip))
    assert (found.peer_name, found.from_ip, found.by) == ("", "", "mx.b.example")


def test_an_ipv4_address_in_the_form_of_ipv6_is_read_whole() -> None:
    assert parse_received("from a (::ffff:192.0.2.1) by c").from_ip == "::ffff:c000:201"


@pytest.mark.parametrize(
    "value",
    [
        "",
        ";",
        "(",
        "from",
        "from from from",
        "((((((",
        "by",
        "x" * 100_000,
        "(" * 100_000,
        "\\(" * 100_000,
        "(\\)" * 100_000,
    ],
)
def test_what_makes_no_sense_gives_nothing(value: str) -> None:
    found = parse_received(value)
    assert (found.from_ip, found.at) == ("", None)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["from ", "by ", "(", ")", "[192.0.2.1]", "\\", ";", "helo=", "x", "::1", " "]), max_size=20
    )
)
def test_no_value_breaks_the_reader(pieces: list[str]) -> None:
    assert isinstance(parse_received("".join(pieces)), Received)
