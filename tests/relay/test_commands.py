"""Arguments of commands, as table; sequences are in tests/dialogs. No socket is needed for either."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mail import reply as replies
from gateway.mail.envelope import Body, ListenerKind, Notify, Ret
from gateway.relay.arguments import (
    MailParameters,
    RcptParameters,
    mail_parameters,
    rcpt_parameters,
    split_mail,
    split_rcpt,
)
from gateway.relay.commands import COMMANDS
from gateway.relay.conversation import Conversation, StartTls, Take
from gateway.relay.reasons import Refusal
from gateway.relay.services import ListenerSettings
from tests import served


@pytest.mark.parametrize(
    ("argument", "path", "parameters"),
    [
        (b"FROM:<>", b"", b""),
        (b"from:<a@b.example>", b"a@b.example", b""),
        (b"FROM: <a@b.example>", b"a@b.example", b""),
        (b"FROM:<a@b.example> SIZE=1", b"a@b.example", b"SIZE=1"),
        (b"FROM:<a@b.example>   SIZE=1 ", b"a@b.example", b"SIZE=1 "),
        (b'FROM:<"a b>c"@b.example> X', b'"a b>c"@b.example', b"X"),
        (b'FROM:<"a\\"b"@b.example>', b'"a\\"b"@b.example', b""),
        (b"FROM:<\xc3\xa9@b.example>", b"\xc3\xa9@b.example", b""),
    ],
)
def test_the_argument_of_mail_is_split(argument: bytes, path: bytes, parameters: bytes) -> None:
    assert split_mail(argument) == (path, parameters)
    assert split_rcpt(b"TO" + argument[4:]) == (path, parameters)


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b"FROM",
        b"FROM:",
        b"FROM:a@b.example",
        b"TO:<a@b.example>",
        b"FROM <a@b.example>",
        b" FROM:<a@b.example>",
        b"FROM:\t<a@b.example>",
        b"FROM:<a@b.example",
        b"FROM:a@b.example>",
        b"FROM:<<a@b.example>>",
        b"FROM:<a@b.example>SIZE=1",
        b"FROM:<a@b.example>\tSIZE=1",
        b'FROM:<"a@b.example>',
        b"FROM:<a\x00@b.example>",
        b"FROM:<a\x7f@b.example>",
        b"FROM:Ann <a@b.example>",
        b"FROM:         <a@b.example>",
    ],
)
def test_what_is_no_argument_of_mail(argument: bytes) -> None:
    assert split_mail(argument) is None


@given(st.lists(st.sampled_from([b"<", b">", b'"', b"\\", b"a", b" ", b"@"]), max_size=1500))
def test_splitting_ends_soon_and_invents_nothing(pieces: list[bytes]) -> None:
    # Hypothesis' deadline is the bound: a pattern that goes back and forth would take for ever.
    for split, verb, tail in ((split_mail, b"FROM:<", b"".join(pieces)), (split_rcpt, b"TO:<", b"".join(pieces) * 3)):
        found = split(verb + tail)
        assert found is None or tail.startswith(found[0] + b">")
        assert found is None or tail.endswith(found[1])


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        (b"", MailParameters()),
        (b"SIZE=100", MailParameters(size=100)),
        (b"size=0 body=8bitmime", MailParameters(size=0, body=Body.EIGHT_BIT_MIME)),
        (b"BODY=7BIT  SMTPUTF8 ", MailParameters(smtputf8=True)),
        (b"RET=HDRS ENVID=QQ314159", MailParameters(ret=Ret.HDRS, envid="QQ314159")),
        (b"ret=full ENVID=a+2Bb+3Dc", MailParameters(ret=Ret.FULL, envid="a+b=c")),
    ],
)
def test_parameters_of_mail(text: bytes, parameters: MailParameters) -> None:
    assert mail_parameters(text, dsn=True) == parameters


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"SIZE", 501),
        (b"SIZE=", 501),
        (b"SIZE=-1", 501),
        (b"SIZE=1k", 501),
        (b"SIZE=123456789012345678901", 501),
        (b"SIZE=1 SIZE=1", 501),
        (b"SIZE=1 size=1", 501),
        (b"BODY=BINARYMIME", 501),
        (b"BODY", 501),
        (b"SMTPUTF8=yes", 501),
        (b"RET=ALL", 501),
        (b"ENVID=a=b", 501),
        (b"ENVID=+0A", 501),
        (b"ENVID=" + b"a" * 101, 501),
        (b"=x", 501),
        (b"-X=x", 501),
        (b"X=\x01", 501),
        (b"X=\xff", 501),
        (b"AUTH=<>", 555),
        (b"X-UNKNOWN", 555),
        (b"XVERP=+=", 501),
        (b"SIZE=1 HOLDFOR=10", 555),
        (b"NOTIFY=NEVER", 555),
    ],
)
def test_wrong_parameters_of_mail(text: bytes, code: int) -> None:
    refusal = mail_parameters(text, dsn=True)
    assert isinstance(refusal, Refusal)
    assert (refusal.reply.code, refusal.reply.enhanced) == (code, "5.5.4")


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        (b"", RcptParameters()),
        (b"NOTIFY=NEVER", RcptParameters((Notify.NEVER,))),
        (b"notify=success,Failure,DELAY", RcptParameters((Notify.SUCCESS, Notify.FAILURE, Notify.DELAY))),
        (b"NOTIFY=DELAY,DELAY", RcptParameters((Notify.DELAY,))),
        (b"ORCPT=rfc822;bob+2Btag@corp.example", RcptParameters((), "rfc822;bob+tag@corp.example")),
        (b"ORCPT=utf-8;bob\\x{e9}@corp.example".replace(b"e9", b"E9"), RcptParameters((), "utf-8;bobé@corp.example")),
    ],
)
def test_parameters_of_rcpt(text: bytes, parameters: RcptParameters) -> None:
    assert rcpt_parameters(text, dsn=True, smtputf8=True) == parameters


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"NOTIFY", 501),
        (b"NOTIFY=", 501),
        (b"NOTIFY=NEVER,DELAY", 501),
        (b"NOTIFY=SOMETIMES", 501),
        (b"NOTIFY=DELAY,", 501),
        (b"NOTIFY=DELAY NOTIFY=DELAY", 501),
        (b"ORCPT", 501),
        (b"ORCPT=bob@corp.example", 501),
        (b"ORCPT=rfc822;", 501),
        (b"ORCPT=;bob", 501),
        (b"ORCPT=rfc822;a+0D+0Ab", 501),
        (b"ORCPT=rfc822;" + b"a" * 500, 501),
        (b"ORCPT=rfc822;b\xc3\xa9", 501),
        (b"ORCPT=utf-8;b\\x{E9}", 501),  # without SMTPUTF8
        (b"SIZE=1", 555),
    ],
)
def test_wrong_parameters_of_rcpt(text: bytes, code: int) -> None:
    refusal = rcpt_parameters(text, dsn=True, smtputf8=False)
    assert isinstance(refusal, Refusal)
    assert (refusal.reply.code, refusal.reply.enhanced) == (code, "5.5.4")


@pytest.mark.parametrize("text", [b"RET=FULL", b"ENVID=a"])
def test_without_dsn_its_parameters_are_unknown(text: bytes) -> None:
    refusal = mail_parameters(text, dsn=False)
    assert isinstance(refusal, Refusal)
    assert refusal.reply.code == 555
    refusal = rcpt_parameters(b"NOTIFY=NEVER", dsn=False, smtputf8=False)
    assert isinstance(refusal, Refusal)
    assert refusal.reply.code == 555


# --- Any octets, in any pieces ----------------------------------------------------------------------------------------

WORDS = [
    *(name + b" " for name in COMMANDS),
    b"\r\n",
    b"\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b".",
    b"\r\n.\r\n",
    b"EHLO client.example\r\n",
    b"MAIL FROM:<ann@partner.example>\r\n",
    b"MAIL FROM:<>",
    b" SIZE=100",
    b"RCPT TO:<bob@corp.example>\r\n",
    b"RCPT TO:<ann@partner.example>\r\n",
    b"DATA\r\n",
    b"BDAT 5\r\nabcde",
    b"BDAT 7 LAST\r\nhi\r\n!\r\n",
    b"BDAT 0 LAST\r\n",
    b"STARTTLS\r\n",
    b"ADDR=192.0.2.9",
    b"GET / HTTP/1.1\r\n",
    b"x" * 700,
    b"\xff\xfe",
]


def converse(pieces: Iterator[bytes], kind: ListenerKind) -> tuple[bytes, list[bytes]]:
    """Hold a conversation with an intake that takes everything; return all that was said and taken."""
    document = served.policy(limits={"message_bytes": 65536, "errors": 50}, trust={"xclient": ["192.0.2.0/24"]})
    running = served.Served(document, kind, None)
    talk = Conversation(ListenerSettings(kind, "mx.corp.example"), running.services, "192.0.2.1")
    talk.open()
    taken = []
    for piece in pieces:
        talk.receive(piece)
        while not talk.is_over and (talk.step is not None or talk.has_more):
            if isinstance(talk.step, Take):
                taken.append(talk.step.raw)
                talk.answered(replies.QUEUED)
            elif isinstance(talk.step, StartTls):
                raise AssertionError("TLS was not offered")
            else:
                talk.proceed()
        if talk.is_over:
            break
    talk.lose()
    assert running.table.open_connections == 0
    assert running.services.in_data.count == 0
    assert len(running.events.connections) == len(running.events.ends) == 1
    return b"".join(talk.out), taken


@given(
    st.lists(st.sampled_from(WORDS), max_size=40).map(b"".join),
    st.integers(1, 80),
    st.sampled_from(list(ListenerKind)),
)
def test_whatever_comes_replies_are_whole_and_messages_clean(octets: bytes, size: int, kind: ListenerKind) -> None:
    said, taken = converse(iter([octets]), kind)
    for line in said.split(b"\r\n")[:-1]:
        assert len(line) <= 510
        assert line[:3].isdigit()
        assert line[3:4] in (b" ", b"-")
        assert line.isascii()
        assert b"\n" not in line
    for raw in taken:
        assert raw.count(b"\r\n") == raw.count(b"\r") == raw.count(b"\n")
        assert b"\0" not in raw
    assert converse((octets[at : at + size] for at in range(0, len(octets), size)), kind) == (said, taken)


@given(st.binary(max_size=300))
def test_random_octets_take_nothing(octets: bytes) -> None:
    said, taken = converse(iter([octets]), ListenerKind.INBOUND)
    assert said.startswith(b"220 ")
    assert taken == []
