"""Mail transactions of the client against a next hop that answers as told."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from gateway.mail.envelope import Direction, Notify, Recipient, Ret
from tests.nexthop import EXTENSIONS, Does, NextHop
from tests.parcels import IMPATIENT, RAW, address, codes, connected, parcel, send, texts

BY_STEPS = tuple(one for one in EXTENSIONS if one != "PIPELINING")


@pytest.fixture
async def hop() -> AsyncIterator[NextHop]:
    async with NextHop() as running:
        yield running


@pytest.fixture(params=["pipelined", "by steps"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[NextHop]:
    """A hop with, and one without PIPELINING: the outcome must be the same."""
    async with NextHop(extensions=EXTENSIONS if request.param == "pipelined" else BY_STEPS) as running:
        yield running


async def test_a_message_arrives_as_it_is(either: NextHop) -> None:
    outcome = await send(either, parcel("ann@partner.example", "al@partner.example"))
    [taken] = either.messages
    assert taken.raw == RAW
    assert taken.recipients == ["ann@partner.example", "al@partner.example"]
    assert texts(outcome) == ["250 2.0.0 Taken"] * 2


async def test_a_pipelining_host_gets_the_envelope_in_one_group(hop: NextHop) -> None:
    waiting = asyncio.Event()
    hop.on("MAIL", waiting)  # the answer to MAIL waits; what was sent with it is in the host's buffer already
    connection = await connected(hop)
    sending = asyncio.create_task(connection.send(parcel()))
    await hop.until(lambda: any(line.startswith("MAIL") for line in hop.commands))
    waiting.set()
    await sending
    assert [line.split()[0] for line in hop.commands] == ["EHLO", "MAIL", "RCPT", "DATA"]
    await connection.quit()


async def test_a_host_without_pipelining_gets_one_command_at_a_time() -> None:
    async with NextHop(extensions=BY_STEPS) as hop:
        hop.on("MAIL", Does.STALL)
        outcome = await send(hop, parcel(), IMPATIENT)
        assert hop.commands[1:] == ["MAIL FROM:<bob@corp.example> SIZE=57"]
        assert texts(outcome) == ["4.4.2 timed out before the message ended"]


async def test_recipients_are_answered_one_by_one(either: NextHop) -> None:
    either.on("RCPT", "550 5.1.1 No such user", when="bob@")
    either.on("RCPT", "451 4.7.1 Later", when="carol@")
    connection = await connected(either)
    outcome = await connection.send(parcel("ann@partner.example", "bob@partner.example", "carol@partner.example"))
    assert texts(outcome) == ["250 2.0.0 Taken", "550 5.1.1 No such user", "451 4.7.1 Later"]
    assert either.messages[0].recipients == ["ann@partner.example"]
    assert outcome.elsewhere == ()
    await connection.quit()


async def test_nothing_is_sent_when_nobody_is_accepted_and_the_connection_goes_on(either: NextHop) -> None:
    either.on("RCPT", "550 5.1.1 No such user", times=2)
    connection = await connected(either)
    assert codes(await connection.send(parcel("a@partner.example", "b@partner.example"))) == [550, 550]
    assert either.messages == []
    assert codes(await connection.send(parcel())) == [250]
    assert either.connections == 1
    await connection.quit()


async def test_a_host_that_wants_a_message_for_nobody_gets_an_empty_one(hop: NextHop) -> None:
    hop.on("RCPT", "550 5.1.1 No such user", times=1)
    hop.on("DATA", "354 Go on", times=1)
    hop.on("END", "554 5.5.1 No recipients", times=1)
    connection = await connected(hop)
    assert texts(await connection.send(parcel())) == ["550 5.1.1 No such user"]
    assert [taken.raw for taken in hop.messages] == [b""]
    assert codes(await connection.send(parcel())) == [250]
    assert hop.messages[1].raw == RAW
    await connection.quit()


async def test_a_host_that_refuses_the_sender_and_takes_a_message_is_left(hop: NextHop) -> None:
    hop.on("MAIL", "550 5.7.1 Not you")
    hop.on("RCPT", "250 Ok")
    hop.on("DATA", "354 Go on")
    connection = await connected(hop)
    assert texts(await connection.send(parcel())) == ["550 5.7.1 Not you"]
    assert not connection.is_usable
    assert hop.messages == []


@pytest.mark.parametrize(
    ("verb", "reply", "elsewhere"),
    [
        ("MAIL", "550 5.7.1 Not you", False),
        ("MAIL", "452 4.3.1 Disk full", True),  # this host's trouble: another may take it at once
        ("RCPT", "451 4.7.1 Greylisted", False),
        ("DATA", "554 5.7.1 No", False),
        ("DATA", "451 4.3.0 Later", False),
        ("END", "554 5.7.1 Spam", False),
        ("END", "451 4.3.0 Later", False),
    ],
)
async def test_a_refusal_is_that_of_all_recipients(either: NextHop, verb: str, reply: str, elsewhere: bool) -> None:
    either.on(verb, reply, times=1 if verb != "RCPT" else 2)
    connection = await connected(either)
    outcome = await connection.send(parcel("a@partner.example", "b@partner.example"))
    assert texts(outcome) == [reply] * 2
    assert outcome.elsewhere == ((0, 1) if elsewhere else ())
    assert codes(await connection.send(parcel())) == [250]
    assert either.connections == 1
    await connection.quit()


@pytest.mark.parametrize(
    ("verb", "reply"),
    [(verb, reply) for verb in ("MAIL", "RCPT", "DATA", "END") for reply in ("199 Hm", "334 Hm", "600 Hm", "Hm")]
    + [("MAIL", "354 Go on"), ("RCPT", "354 Go on"), ("DATA", "250 Ok"), ("END", "354 Go on")],
)
async def test_a_reply_that_makes_no_sense_is_never_taken_for_a_delivery(
    either: NextHop, verb: str, reply: str
) -> None:
    either.on(verb, reply)
    [result] = (await send(either, parcel())).replies
    assert 400 <= result.code < 500
    assert not [taken for taken in either.messages if taken.was_acknowledged]


async def test_a_host_that_says_go_on_to_everything_gets_no_message(either: NextHop) -> None:
    for verb in ("MAIL", "RCPT", "DATA"):
        either.on(verb, "354 Go on")
    [reply] = (await send(either, parcel())).replies
    assert 400 <= reply.code < 500
    assert either.messages == []


@pytest.mark.parametrize("how", [Does.CLOSE, Does.RESET])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
async def test_a_connection_lost_in_the_envelope_lets_another_host_have_it(
    either: NextHop, verb: str, how: Does
) -> None:
    either.on(verb, how)
    outcome = await send(either, parcel("a@partner.example", "b@partner.example"))
    assert all(text.startswith("4.4.2 ") and text.endswith("before the message ended") for text in texts(outcome))
    assert outcome.elsewhere == (0, 1)
    assert not outcome.is_stale


@pytest.mark.parametrize("how", [Does.CLOSE, Does.RESET, b"", b"rubbish\r\n", "250-half a reply"])
async def test_a_connection_lost_after_the_dot_waits_for_another_attempt(either: NextHop, how: Does | bytes) -> None:
    either.on("END", how)
    outcome = await send(either, parcel(), IMPATIENT)
    [text] = texts(outcome)
    assert text.startswith("4.4.2 ")
    assert text.endswith("after the message")
    # Not at another host at once: the message may have been taken.
    assert outcome.elsewhere == ()


async def test_a_code_alone_is_a_reply(either: NextHop) -> None:
    either.on("END", "250")  # RFC 5321 section 4.2
    assert codes(await send(either, parcel())) == [250]


async def test_recipients_that_were_refused_stay_refused_when_the_connection_breaks(either: NextHop) -> None:
    either.on("RCPT", "550 5.1.1 No such user", when="bob@")
    either.on("END", Does.RESET)
    outcome = await send(either, parcel("ann@partner.example", "bob@partner.example"))
    assert codes(outcome) == [450, 550]


async def test_a_host_that_leaves_with_421_is_tried_elsewhere(either: NextHop) -> None:
    either.on("RCPT", "421 4.3.2 Shutting down")
    outcome = await send(either, parcel())
    assert texts(outcome) == ["421 4.3.2 Shutting down"]
    assert outcome.elsewhere == (0,)


async def test_552_for_a_recipient_means_too_many_of_them(hop: NextHop) -> None:
    hop.on("RCPT", "552 Too many recipients", when="bob@")
    assert codes(await send(hop, parcel("ann@partner.example", "bob@partner.example"))) == [250, 452]


async def test_552_for_a_full_mailbox_is_final(hop: NextHop) -> None:
    hop.on("RCPT", "552 5.2.2 Mailbox full", when="bob@")
    assert codes(await send(hop, parcel("ann@partner.example", "bob@partner.example"))) == [250, 552]


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "CONTENT", "END"])
async def test_a_silent_host_is_left_in_time(either: NextHop, verb: str) -> None:
    either.on(verb, Does.STALL)
    outcome = await send(either, parcel(), IMPATIENT)
    [text] = texts(outcome)
    assert text.startswith("4.4.2 timed out")


async def test_a_host_that_dribbles_its_reply_is_left_in_time(hop: NextHop) -> None:
    dribbling = asyncio.Event()
    hop.on("MAIL", b"250-x\r\n250-y\r\n250-z")
    hop.on("RCPT", dribbling)
    outcome = await send(hop, parcel(), IMPATIENT)
    assert texts(outcome) == ["4.4.2 timed out before the message ended"]
    dribbling.set()


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"250 " + b"x" * 3000 + b"\r\n", "reply line too long"),
        (b"250 " + b"x" * 3000, "reply line too long"),
        (b"250-x\r\n" * 101, "reply too long"),
        (b"250-" + b"x" * 1000 + b"\r\n" + (b"250-" + b"x" * 1000 + b"\r\n") * 8, "reply too long"),
        (b"\x00\xff\x00\r\n", "not an SMTP reply"),
        (b"\r\n", "not an SMTP reply"),
        (b"25O Ok\r\n", "not an SMTP reply"),
        (b"2500 Ok\r\n", "not an SMTP reply"),
        (b"HTTP/1.1 400 Bad Request\r\n", "not an SMTP reply"),
    ],
)
async def test_rubbish_ends_the_connection(hop: NextHop, octets: bytes, why: str) -> None:
    hop.on("END", octets)
    outcome = await send(hop, parcel())
    assert texts(outcome) == [f"4.4.2 {why} after the message"]


async def test_a_reply_of_eight_kilobytes_in_many_lines_is_understood(hop: NextHop) -> None:
    lines = [f"250{' ' if number == 79 else '-'}2.0.0 line {number} {'x' * 80}" for number in range(80)]
    hop.on("END", "\r\n".join(lines))
    [reply] = (await send(hop, parcel())).replies
    assert (reply.code, reply.enhanced) == (250, "2.0.0")
    assert len(str(reply)) == 512  # as much as is kept


async def test_a_reply_is_kept_on_one_line_without_controls(hop: NextHop) -> None:
    hop.on("END", b"550-5.7.1 first\x1b[31m\x00\r\n550 5.7.1 second\xff\r\n")
    assert texts(await send(hop, parcel())) == ["550 5.7.1 first?[31m? second\ufffd"]


@pytest.mark.parametrize("extra", [b"250 2.0.0 Ok\r\n250 2.0.0 Once more\r\n", b"250 2.0.0 Ok\r\n25"])
async def test_a_host_that_is_out_of_step_is_not_used_again(hop: NextHop, extra: bytes) -> None:
    hop.on("END", extra)
    connection = await connected(hop)
    assert codes(await connection.send(parcel())) == [250]
    assert not connection.is_usable


async def test_a_second_reply_to_mail_does_not_accept_a_recipient(either: NextHop) -> None:
    either.on("MAIL", b"250 Ok\r\n250 Ok\r\n")
    either.on("RCPT", "550 5.1.1 No such user")
    [reply] = (await send(either, parcel(), IMPATIENT)).replies
    assert reply.code >= 400
    assert not either.messages


async def test_an_early_acceptance_is_none(hop: NextHop) -> None:
    raw = b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" * 1 + (b"y" * 76 + b"\r\n") * 60_000
    hop.on("CONTENT", b"250 2.0.0 Taken, I am sure\r\n", times=1)
    outcome = await send(hop, parcel(raw=raw))
    [reply] = outcome.replies
    assert 400 <= reply.code < 500
    assert "unexpected reply" in str(reply)


async def test_a_refusal_in_the_middle_of_a_message_stands(hop: NextHop) -> None:
    raw = b"Subject: big\r\n\r\n" + (b"y" * 76 + b"\r\n") * 60_000
    hop.on("CONTENT", b"552 5.3.4 Too big after all\r\n", times=1)
    outcome = await send(hop, parcel(raw=raw))
    assert texts(outcome) == ["552 5.3.4 Too big after all"]


async def test_a_big_message_arrives_whole_in_bounded_pieces(either: NextHop) -> None:
    raw = b"Subject: big\r\n\r\n" + b"".join(b"..%d\r\n.\r\n" % number for number in range(100_000))
    outcome = await send(either, parcel(raw=raw, pieces=(raw[:1000], memoryview(raw)[1000:])))
    assert codes(outcome) == [250]
    assert either.messages[0].raw == raw


async def test_a_kept_connection_that_has_gone_is_stale(either: NextHop) -> None:
    connection = await connected(either)
    assert codes(await connection.send(parcel())) == [250]
    await either.drop_connections()
    outcome = await connection.send(parcel())
    assert outcome.is_stale
    assert len(either.messages) == 1


@pytest.mark.parametrize("reply", ["421 4.4.2 Too long idle", Does.CLOSE, Does.RESET])
async def test_a_kept_connection_that_ends_at_mail_is_stale(either: NextHop, reply: str | Does) -> None:
    connection = await connected(either)
    await connection.send(parcel())
    either.on("MAIL", reply)
    assert (await connection.send(parcel())).is_stale


async def test_a_kept_connection_that_ends_later_is_an_attempt(hop: NextHop) -> None:
    connection = await connected(hop)
    await connection.send(parcel())
    hop.on("END", Does.CLOSE)
    outcome = await connection.send(parcel())
    assert not outcome.is_stale
    assert codes(outcome) == [450]


async def test_dsn_parameters_go_to_a_host_that_takes_them(hop: NextHop) -> None:
    wanting = Recipient(
        address("ann@partner.example"), Direction.OUTBOUND, (Notify.SUCCESS, Notify.DELAY), "rfc822;Ann+x@old.example"
    )
    outcome = await send(hop, parcel(wanting, ret=Ret.HDRS, envid="QQ=1 2"))
    assert hop.messages[0].mail == "FROM:<bob@corp.example> SIZE=57 RET=HDRS ENVID=QQ+3D1+202"
    assert hop.messages[0].rcpts == ["TO:<ann@partner.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Ann+2Bx@old.example"]
    assert outcome.passes_dsn


async def test_dsn_parameters_stay_with_us_where_the_host_has_no_dsn() -> None:
    async with NextHop(extensions=["PIPELINING"]) as hop:
        wanting = Recipient(address("ann@partner.example"), Direction.OUTBOUND, (Notify.SUCCESS,), "rfc822;a@b.example")
        outcome = await send(hop, parcel(wanting, ret=Ret.FULL, envid="1"))
        assert (hop.messages[0].mail, hop.messages[0].rcpts) == (
            "FROM:<bob@corp.example>",
            ["TO:<ann@partner.example>"],
        )
        assert not outcome.passes_dsn


async def test_the_null_path_is_sent_as_such(hop: NextHop) -> None:
    await send(hop, parcel(mail_from=""))
    assert hop.messages[0].mail.startswith("FROM:<> ")


async def test_a_cancelled_transaction_leaves_no_usable_connection(hop: NextHop) -> None:
    hop.on("END", Does.STALL)
    connection = await connected(hop)
    sending = asyncio.create_task(connection.send(parcel()))
    await hop.arrival()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert not connection.is_usable
    await hop.until(lambda: hop.open == 1)


def test_it_works_on_uvloop_too() -> None:
    raw = b"Subject: big\r\n\r\n" + (b".y" * 38 + b"\r\n") * 20_000

    async def go() -> None:
        async with NextHop() as hop:
            connection = await connected(hop)
            assert codes(await connection.send(parcel())) == [250]
            assert codes(await connection.send(parcel(raw=raw))) == [250]
            assert [taken.raw for taken in hop.messages] == [RAW, raw]
            hop.on("MAIL", Does.STALL)
            await connection.quit()
            assert texts(await send(hop, parcel(), IMPATIENT)) == ["4.4.2 timed out before the message ended"]

    uvloop.run(go())
