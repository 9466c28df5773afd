"""Replies: codes by the standards, one line each, nothing that could split a line."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail import reply as replies
from gateway.mail.reply import (
    REFUSALS,
    Reply,
    chunk_ok,
    greeting,
    multiline,
    queued,
    refusal,
    wire,
    with_link,
)

TABLE = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("QUEUED", "250 2.0.0"),
        ("SENDER_OK", "250 2.1.0"),  # RFC 3463 section 3.2: X.1.0
        ("RECIPIENT_OK", "250 2.1.5"),  # destination address valid
        ("START_TLS", "220 2.0.0"),
        ("CLOSING", "221 2.0.0"),
        ("UNKNOWN_COMMAND", "500 5.5.1"),
        ("LINE_TOO_LONG", "500 5.5.2"),
        ("BAD_ARGUMENTS", "501 5.5.4"),
        ("HELO_FIRST", "503 5.5.1"),
        ("NO_VALID_RECIPIENTS", "554 5.5.1"),
        ("UNKNOWN_PARAMETER", "555 5.5.4"),  # RFC 5321 section 4.1.1.11
        ("BAD_SENDER", "501 5.1.7"),
        ("BAD_RECIPIENT", "501 5.1.3"),
        ("SENDER_WANTS_SMTPUTF8", "550 5.6.7"),  # RFC 6531 section 3.5
        ("RECIPIENT_WANTS_SMTPUTF8", "553 5.6.7"),
        ("RELAYING_DENIED", "550 5.7.1"),
        ("NO_SUCH_RECIPIENT", "550 5.1.1"),
        ("TOO_MANY_RECIPIENTS", "452 4.5.3"),  # RFC 5321 section 4.5.3.1.10
        ("MESSAGE_TOO_BIG", "552 5.3.4"),  # RFC 1870 section 6.1
        ("HEADER_TOO_BIG", "552 5.3.4"),
        ("LOOP", "554 5.4.6"),
        ("TLS_FIRST", "530 5.7.0"),  # RFC 3207 section 4
        ("TLS_UNAVAILABLE", "454 4.7.0"),
        ("TOO_MANY_CONNECTIONS", "421 4.3.2"),
        ("CONNECTING_TOO_FAST", "421 4.7.0"),
        ("IDLE_TOO_LONG", "421 4.4.2"),
        ("SHUTTING_DOWN", "421 4.3.2"),
        ("STORAGE_FULL", "452 4.3.1"),
        ("STORAGE_FAILED", "451 4.3.0"),
    ],
)
def test_each_situation_has_its_codes(reply: str, status: str) -> None:
    assert wire(TABLE[reply]).decode().startswith(status + " ")


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_reply_is_one_line_of_printable_ascii_with_codes_of_one_class(name: str) -> None:
    reply = TABLE[name]
    assert re.fullmatch(rb"[2-5][0-5][0-9] [ -~]{2,500}\r\n", wire(reply))
    if reply.code == 354:
        assert reply.enhanced == ""  # RFC 3463 section 2
    else:
        assert re.fullmatch(rf"{reply.code // 100}\.[0-7]\.[0-9]{{1,2}}", reply.enhanced)


def test_no_two_replies_say_the_same() -> None:
    lines = [wire(reply) for reply in TABLE.values()]
    assert len(set(lines)) == len(lines)


def test_a_peer_that_said_helo_gets_no_enhanced_code() -> None:
    assert wire(replies.OK) == b"250 2.0.0 OK\r\n"
    assert wire(replies.OK, enhanced=False) == b"250 OK\r\n"
    assert wire(replies.START_MAIL) == b"354 Start mail input; end with <CRLF>.<CRLF>\r\n"


def test_built_replies() -> None:
    assert wire(greeting("mx.corp.example")) == b"220 mx.corp.example ESMTP\r\n"
    assert wire(queued("7KQ2-M9PX")) == b"250 2.0.0 Message accepted, ref 7KQ2-M9PX\r\n"
    assert wire(chunk_ok(86)) == b"250 2.0.0 86 octets received\r\n"


def test_several_lines_are_one_reply() -> None:
    assert multiline(250, ["mx.corp.example", "PIPELINING", "SIZE 1000"]) == (
        b"250-mx.corp.example\r\n250-PIPELINING\r\n250 SIZE 1000\r\n"
    )
    assert multiline(250, ["mx.corp.example"]) == b"250 mx.corp.example\r\n"


def test_a_refusal_has_its_words_the_reference_and_the_portal() -> None:
    assert wire(refusal("business", "7KQ2-M9PX", "https://portal.corp.example")) == (
        b"550 5.7.1 Sender is not a known business partner (ref 7KQ2-M9PX) https://portal.corp.example\r\n"
    )
    assert wire(refusal("loop", "7KQ2-M9PX", "")) == b"554 5.4.6 Mail loop (ref 7KQ2-M9PX)\r\n"


def test_a_refusal_names_what_follows_the_category() -> None:
    assert wire(refusal("author:bank.example", "7KQ2-M9PX", "https://portal.corp.example")) == (
        b"550 5.7.1 This host may not send under the author's domain bank.example (ref 7KQ2-M9PX)"
        b" https://portal.corp.example\r\n"
    )
    line = wire(refusal("author:" + "x\r\n" * 500, "7KQ2-M9PX", ""))
    assert line.endswith(b"x?? (ref 7KQ2-M9PX)\r\n")
    assert line.count(b"\n") == 1


@pytest.mark.parametrize("category", sorted(REFUSALS))
def test_each_category_is_refused_or_deferred_by_its_own_code(category: str) -> None:
    reply = refusal(category, "7KQ2-M9PX", "https://portal.corp.example")
    assert (reply.code, reply.enhanced) == (REFUSALS[category].code, REFUSALS[category].enhanced)
    assert reply.is_permanent is (category != "failed")
    assert not reply.is_positive


def test_an_unknown_category_is_refused_in_general_words() -> None:
    assert refusal("no such category", "7KQ2-M9PX", "") == refusal("generic", "7KQ2-M9PX", "")


def test_a_link_that_would_make_the_line_too_long_is_left_out_whole() -> None:
    long = "https://portal.corp.example/" + "x" * 500
    assert with_link(replies.RELAYING_DENIED, long) == replies.RELAYING_DENIED
    assert with_link(replies.RELAYING_DENIED, "") == replies.RELAYING_DENIED
    assert with_link(replies.RELAYING_DENIED, "https://a.example").text == "Relaying denied https://a.example"


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([220, 250, 354, 451, 550]), st.sampled_from(["", "2.0.0", "5.7.999"]), st.text(max_size=700))
def test_whatever_the_text_a_reply_is_one_line_within_the_limit(code: int, enhanced: str, text: str) -> None:
    for line in (wire(Reply(code, enhanced, text)), wire(Reply(code, enhanced, text), enhanced=False)):
        assert re.fullmatch(rb"[0-9]{3} [ -~]*\r\n", line)
        assert len(line) <= 512  # RFC 5321 section 4.5.3.1.5
