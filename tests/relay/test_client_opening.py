"""Opening a connection: greeting, EHLO and HELO, and STARTTLS at each level against hosts that do it well and badly."""

import asyncio
import socket
import ssl

import pytest
import trustme
import uvloop

from gateway.relay.client import Endpoint, Unreachable, client_context, connect
from tests.nexthop import EXTENSIONS, Does, NextHop
from tests.parcels import IMPATIENT, QUICK, codes, connected, endpoint, hop_context, parcel


async def refused(hop: NextHop, tls: str = "opportunistic") -> str:
    with pytest.raises(Unreachable) as caught:
        await connected(hop, tls=tls, timeouts=IMPATIENT)
    return str(caught.value.reply)


async def test_ehlo_tells_our_name_and_learns_what_the_host_offers() -> None:
    async with NextHop(extensions=["PIPELINING", "size 1000", "X-SOMETHING a b"]) as hop:
        connection = await connected(hop)
        assert hop.commands == ["EHLO mx.corp.example"]
        assert connection.extensions == {"PIPELINING": "", "SIZE": "1000", "X-SOMETHING": "a b"}
        assert (connection.host_name, connection.tls) == ("hop.example", "")
        await connection.quit()
        await hop.until(lambda: hop.commands[-1:] == ["QUIT"])


@pytest.mark.parametrize("reply", ["500 What?", "502 5.5.1 No", "550 Not that"])
async def test_a_host_that_knows_no_ehlo_is_told_helo(reply: str) -> None:
    async with NextHop() as hop:
        hop.on("EHLO", reply)
        connection = await connected(hop)
        assert connection.extensions == {}
        assert codes(await connection.send(parcel())) == [250]
        assert hop.messages[0].mail == "FROM:<bob@corp.example>"
        await connection.quit()


async def test_a_greeting_of_many_lines_is_one_greeting() -> None:
    async with NextHop() as hop:
        hop.on("CONNECT", "220-hop.example\r\n220-No spam\r\n220 please")
        connection = await connected(hop)
        assert codes(await connection.send(parcel())) == [250]
        await connection.quit()
        assert len(hop.messages) == 1


@pytest.mark.parametrize(
    ("verb", "step", "why"),
    [
        ("CONNECT", "421 4.3.2 Busy", "4.3.2 greeting: 421 4.3.2 Busy"),
        ("CONNECT", "554 No SMTP here", "4.3.2 greeting: 554 No SMTP here"),  # the mail waits all the same
        ("CONNECT", Does.CLOSE, "at the start: connection closed by the host"),
        ("CONNECT", Does.STALL, "at the start: timed out"),
        ("CONNECT", b"SSH-2.0-OpenSSH\r\n", "at the start: not an SMTP reply"),
        ("CONNECT", b"220 x\r\n220 y\r\n", "at the start: unexpected reply: 220 y"),
        ("EHLO", "421 4.3.2 Bye", "4.3.2 HELO: 421 4.3.2 Bye"),
        ("EHLO", "451 Later", "4.3.2 HELO: 451 Later"),
        ("EHLO", "354 Go on", "4.3.2 HELO: 354 Go on"),
        ("EHLO", Does.CLOSE, "at the start: connection closed by the host"),
        ("EHLO", Does.STALL, "at the start: timed out"),
    ],
)
async def test_a_host_that_does_not_let_us_in_is_unreachable_for_now(verb: str, step: str | bytes, why: str) -> None:
    async with NextHop() as hop:
        hop.on(verb, step)
        said = await refused(hop)
        assert said.endswith(why)
        assert said.startswith("4.")


async def test_helo_refused_as_well_is_unreachable() -> None:
    async with NextHop() as hop:
        hop.on("EHLO", "502 No")
        hop.on("HELO", "550 5.7.1 Nor that")
        assert await refused(hop) == "4.3.2 HELO: 550 5.7.1 Nor that"


async def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = Endpoint("mx.example", "127.0.0.1", unused.getsockname()[1])
        with pytest.raises(Unreachable, match=rf"cannot connect to mx.example \[127.0.0.1\]:{dead.port}: "):
            await connect(dead, hostname="mx.corp.example", timeouts=IMPATIENT, context=client_context())


async def test_a_connection_that_is_never_accepted_times_out() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for other in others:  # fill the backlog
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        with pytest.raises(Unreachable, match="timed out"):
            await connect(
                Endpoint("", *full.getsockname()),
                hostname="mx.corp.example",
                timeouts=IMPATIENT,
                context=client_context(),
            )
        for other in others:
            other.close()


async def test_a_host_that_calls_itself_by_our_name_is_a_loop_where_mx_led_to_it() -> None:
    async with NextHop(name="MX.corp.example") as hop:
        await (await connected(hop)).quit()  # a hop that the operator named
        with pytest.raises(Unreachable, match=r"5\.4\.6 .*a loop"):
            await connect(
                endpoint(hop, is_mx=True), hostname="mx.corp.example", timeouts=QUICK, context=client_context()
            )


# -- TLS


@pytest.mark.parametrize("level", ["opportunistic", "required"])
async def test_tls_is_used_where_it_is_offered(level: str) -> None:
    async with NextHop(tls=hop_context()) as hop:
        connection = await connected(hop, tls=level)
        assert codes(await connection.send(parcel())) == [250]
        assert connection.tls.startswith("TLSv1.")
        assert hop.messages[0].tls
        assert [line.split()[0] for line in hop.commands[:3]] == ["EHLO", "STARTTLS", "EHLO"]
        await connection.quit()


async def test_tls_is_left_alone_at_level_never() -> None:
    async with NextHop(tls=hop_context()) as hop:
        connection = await connected(hop, tls="never")
        outcome = await connection.send(parcel())
        assert (outcome.tls, hop.messages[0].tls) == ("", False)
        await connection.quit()


async def test_what_the_host_offered_before_the_handshake_is_forgotten() -> None:
    async with NextHop(tls=hop_context()) as hop:
        hop.on("EHLO", "250-hop.example\r\n250-STARTTLS\r\n250-DSN\r\n250 SIZE 1", times=1)
        connection = await connected(hop)
        assert set(connection.extensions) == {one.split()[0] for one in EXTENSIONS}
        await connection.quit()


async def test_required_tls_that_is_not_offered_is_no_connection() -> None:
    async with NextHop() as hop:
        assert (await refused(hop, "required")).startswith("4.7.4 TLS is required and hop.example [127.0.0.1]")
        assert hop.messages == []


BROKEN = [
    ("STARTTLS", "454 4.7.0 No TLS today", "STARTTLS refused: 454 4.7.0 No TLS today"),
    ("STARTTLS", "550 5.7.0 Never", "STARTTLS refused"),
    ("STARTTLS", Does.CLOSE, "STARTTLS: connection closed by the host"),
    ("STARTTLS", Does.STALL, "STARTTLS: timed out"),
    # Bytes in clear behind the 220 would be read as if they came over TLS.
    ("STARTTLS", b"220 Go on\r\n250-hop.example\r\n250 AUTH PLAIN\r\n", "the host spoke before the handshake"),
    ("STARTTLS", b"220 Go on\r\n2", "the host spoke before the handshake"),
]


@pytest.mark.parametrize(("verb", "step", "why"), BROKEN)
async def test_tls_that_fails_is_fatal_where_it_is_required(verb: str, step: str | bytes, why: str) -> None:
    async with NextHop(tls=hop_context()) as hop:
        hop.on(verb, step)
        assert (await refused(hop, "required")).startswith(f"4.7.5 TLS is required and failed: {why}")


@pytest.mark.parametrize(("verb", "step", "why"), BROKEN)
async def test_tls_that_fails_is_done_without_on_a_fresh_connection(verb: str, step: str | bytes, why: str) -> None:
    async with NextHop(tls=hop_context()) as hop:
        hop.on(verb, step)
        connection = await connected(hop, timeouts=IMPATIENT)
        assert codes(await connection.send(parcel())) == [250]
        assert (hop.connections, hop.messages[0].connection, hop.messages[0].tls) == (2, 2, False)
        await connection.quit()


@pytest.mark.parametrize("level", ["opportunistic", "required"])
async def test_a_handshake_that_is_none(level: str) -> None:
    async with NextHop(tls=hop_context(), handshakes=False) as hop:
        if level == "required":
            assert (await refused(hop, level)).startswith("4.7.5 TLS is required and failed: handshake failed")
        else:
            connection = await connected(hop, tls=level)
            assert connection.tls == ""
            await connection.quit()


async def test_old_tls_is_no_tls() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("hop.example").configure_cert(context)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with NextHop(tls=context) as hop:
        assert (await refused(hop, "required")).startswith("4.7.5 TLS is required and failed: handshake failed")


async def test_a_host_that_refuses_ehlo_after_the_handshake() -> None:
    async with NextHop(tls=hop_context()) as hop:
        hop.on("EHLO", "550 No more", when="EHLO")
        hop.on("HELO", "250 hop.example")
        assert (await refused(hop, "required")).startswith("4.7.4 ")


@pytest.mark.parametrize("host", ["", "a" * 70 + ".example", "under_score.example", "xn--.example"])
async def test_a_host_name_that_tls_cannot_say_does_not_stop_the_mail(host: str) -> None:
    async with NextHop(tls=hop_context()) as hop:
        odd = Endpoint(host, "127.0.0.1", hop.port)
        connection = await connect(odd, hostname="mx.corp.example", timeouts=QUICK, context=client_context())
        assert codes(await connection.send(parcel())) == [250]
        await connection.quit()


def test_tls_works_on_uvloop_too() -> None:
    async def go() -> None:
        async with NextHop(tls=hop_context()) as hop:
            connection = await connected(hop, tls="required")
            assert codes(await connection.send(parcel())) == [250]
            await connection.quit()
        async with NextHop(tls=hop_context(), handshakes=False) as hop:
            connection = await connected(hop)
            assert connection.tls == ""
            await connection.quit()
        await asyncio.sleep(0)

    uvloop.run(go())
