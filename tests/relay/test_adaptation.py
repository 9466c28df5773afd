"""What a host does not offer: size, 8-bit bodies, SMTPUTF8; and addresses that must never reach the wire."""

import email
import email.policy

import pytest

from gateway.mail.address import Address
from gateway.mail.envelope import Body, Direction, Recipient
from tests.nexthop import NextHop
from tests.parcels import address, parcel, send, texts

EIGHT = "Subject: Gruss\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße\r\n".encode()
SIGNED = b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n--b--\r\n"
MUELLER = Address("müller", "partner.example")


@pytest.mark.parametrize(
    ("limit", "reply"),
    [
        ("SIZE 56", "5.3.4 message of 57 octets, the host takes 56"),
        ("SIZE 57", "250 2.0.0 Taken"),
        ("SIZE 0", "250 2.0.0 Taken"),  # RFC 1870 section 4: no limit
        ("SIZE", "250 2.0.0 Taken"),
        ("SIZE many", "250 2.0.0 Taken"),
        ("SIZE " + "9" * 1000, "250 2.0.0 Taken"),
    ],
)
async def test_a_message_over_the_hosts_limit_is_not_sent(limit: str, reply: str) -> None:
    async with NextHop(extensions=["PIPELINING", limit]) as hop:
        assert texts(await send(hop, parcel())) == [reply]
        assert len(hop.messages) == reply.startswith("250")


@pytest.mark.parametrize(
    ("raw", "body", "declared"),
    [
        (b"Subject: x\r\n\r\nplain\r\n", Body.SEVEN_BIT, False),
        (b"Subject: x\r\n\r\nplain\r\n", Body.EIGHT_BIT_MIME, True),
        (EIGHT, Body.SEVEN_BIT, True),  # whatever the sender said
    ],
)
async def test_eight_bits_are_declared_to_a_host_that_takes_them(raw: bytes, body: Body, declared: bool) -> None:
    async with NextHop() as hop:
        await send(hop, parcel(raw=raw, body=body))
        assert ("BODY=8BITMIME" in hop.messages[0].mail) is declared
        assert hop.messages[0].raw == raw


@pytest.mark.parametrize("pieces", [(EIGHT,), (EIGHT[:90], memoryview(EIGHT)[90:])])
async def test_eight_bits_are_re_encoded_for_a_host_without_8bitmime(pieces: tuple[bytes | memoryview, ...]) -> None:
    async with NextHop(extensions=["PIPELINING", "SIZE"]) as hop:
        await send(hop, parcel(raw=EIGHT, pieces=pieces, body=Body.EIGHT_BIT_MIME))
        [taken] = hop.messages
        assert taken.raw.isascii()
        assert taken.mail == f"FROM:<bob@corp.example> SIZE={len(taken.raw)}"
        assert email.message_from_bytes(taken.raw, policy=email.policy.default).get_content() == "Grüße\r\n"


async def test_seven_bits_stay_as_they_are_for_a_host_without_8bitmime() -> None:
    async with NextHop(extensions=[]) as hop:
        await send(hop, parcel(body=Body.EIGHT_BIT_MIME))
        assert hop.messages[0].raw == parcel().pieces[0]


async def test_a_signed_message_is_not_re_encoded() -> None:
    async with NextHop(extensions=["PIPELINING"]) as hop:
        outcome = await send(hop, parcel(raw=SIGNED))
        assert texts(outcome) == ["5.6.3 the host takes 7-bit messages only: multipart/signed must not be changed"]
        assert hop.messages == []


async def test_smtputf8_is_said_to_a_host_that_offers_it() -> None:
    async with NextHop() as hop:
        await send(hop, parcel(Recipient(MUELLER, Direction.OUTBOUND), smtputf8=True))
        assert "SMTPUTF8" in hop.messages[0].mail
        assert hop.messages[0].recipients == ["müller@partner.example"]


ASCII = "Subject: x\r\n\r\nGrüße\r\n".encode()
UTF8 = "Subject: Grüße\r\n\r\nx\r\n".encode()


@pytest.mark.parametrize(
    ("mail_from", "raw", "smtputf8", "replies"),
    [
        ("bob@corp.example", ASCII, True, ["250", "5.6.7"]),
        ("bob@corp.example", ASCII, False, ["250", "5.6.7"]),  # an alias of ours may have led there
        ("bob@corp.example", UTF8, True, ["5.6.7", "5.6.7"]),
        ("bob@corp.example", UTF8, False, ["250", "5.6.7"]),  # raw UTF-8 in old mail passes as it came
        ("bøb@corp.example", ASCII, True, ["5.6.7", "5.6.7"]),
    ],
)
async def test_a_host_without_smtputf8_gets_what_needs_none(
    mail_from: str, raw: bytes, smtputf8: bool, replies: list[str]
) -> None:
    async with NextHop(extensions=["PIPELINING", "8BITMIME"]) as hop:
        outcome = await send(
            hop,
            parcel(
                "ann@partner.example",
                Recipient(MUELLER, Direction.OUTBOUND),
                mail_from=mail_from,
                raw=raw,
                smtputf8=smtputf8,
            ),
        )
        assert [text.split()[0] for text in texts(outcome)] == replies
        assert [taken.recipients for taken in hop.messages] == ([["ann@partner.example"]] if "250" in replies else [])


async def test_a_header_is_looked_at_across_its_pieces() -> None:
    async with NextHop(extensions=["PIPELINING", "8BITMIME"]) as hop:
        for pieces in [(UTF8[:10], UTF8[10:12], UTF8[12:]), (b"X: y\r\n", b"\r", b"\n", "Grüße".encode())]:
            await send(hop, parcel(raw=b"".join(pieces), pieces=pieces, smtputf8=True))
        assert [taken.raw for taken in hop.messages] == ["X: y\r\n\r\nGrüße\r\n".encode()]


@pytest.mark.parametrize(
    "bad",
    [
        Address("a\r\nRCPT TO:<evil@partner.example>", "partner.example"),
        Address("a\nb", "partner.example"),
        Address("a b", "partner.example"),
        Address("a> NOTIFY=NEVER", "partner.example"),
        Address("a", "partner.example>\r\nDATA"),
        Address('"a\r\nb"', "partner.example"),
        Address("a\x00", "partner.example"),
    ],
)
async def test_an_address_that_would_be_commands_never_reaches_the_wire(bad: Address) -> None:
    async with NextHop() as hop:
        outcome = await send(hop, parcel(Recipient(bad, Direction.OUTBOUND), "ann@partner.example"))
        assert [text.split()[0] for text in texts(outcome)] == ["5.1.3", "250"]
        outcome = await send(hop, parcel(mail_from="x@corp.example"))
        assert texts(outcome) == ["250 2.0.0 Taken"]
        assert not any("evil" in line or "NEVER" in line for line in hop.commands)


async def test_a_quoted_local_part_is_sent_as_it_is() -> None:
    quoted = address('"a b>c"@partner.example')
    async with NextHop() as hop:
        assert texts(await send(hop, parcel(Recipient(quoted, Direction.OUTBOUND)))) == ["250 2.0.0 Taken"]
        assert hop.messages[0].rcpts == ['TO:<"a b>c"@partner.example>']
