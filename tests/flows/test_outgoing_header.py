"""S5: outsiders read nothing of our network in the header of what leaves, and loops are found all the same."""

import re
from typing import Any

import pytest

from gateway.mail.envelope import Direction
from tests import make
from tests.flows.conftest import Start
from tests.flows.edge import arrival, arrivals
from tests.flows.gateway import HOSTNAME, SERVER_IP, SERVER_NAME, Gateway, document, server
from tests.nexthop import NextHop

BOB = "bob@corp.example"
ANN = "ann@partner.example"
# What must not be read outside, looked for without any code of the product: our networks and our names.
INTERNAL = re.compile(
    rb"(?<![\d.])(?:10(?:\.\d+){3}|192\.168(?:\.\d+){2}|172\.(?:1[6-9]|2\d|3[01])(?:\.\d+){2}|198\.51\.100\.\d+)(?!\d)"
    rb"|\bf[cd][0-9a-f]{2}:[0-9a-f:]+|2001:db8:aaaa:[0-9a-f:]*"
    rb"|corp\.internal|mail01|\.local\b|localhost",
    re.IGNORECASE,
)
TRACE = (
    f"from {SERVER_NAME} ([{SERVER_IP}])\r\n by exchange.corp.internal with ESMTP;\r\n Tue, 24 Nov 2026 09:29:59 +0000",
    "from ws17 (192.168.7.17) by MAIL01.CORP.INTERNAL with MAPI; Tue, 24 Nov 2026 09:29:58 +0000",
    "from [IPv6:fd12:3456::17] by mail01 with LMTP; Tue, 24 Nov 2026 09:29:57 +0000",
    "by relay.corp.example with SMTP id 7; Tue, 24 Nov 2026 09:29:56 +0000",
)
SOFTWARE = (
    ("X-Originating-IP", "[10.20.7.17]"),
    ("X-MS-Exchange-Organization-SCL", "-1"),
    ("X-MS-Exchange-CrossTenant-OriginalArrivalTime", "24 Nov 2026 09:29:58.0000 (UTC)"),
    ("x-ms-exchange-transport-crosstenantheadersstamped", "MAIL01"),
    ("X-Mailer", "Corp Shop 3.1 on app5"),
    ("User-Agent", "Mozilla Thunderbird"),
    ("Thread-Index", "AdqZ7cF2hZzZK3rLQ0m2kQ=="),
    ("Thread-Topic", "Order 4711"),
)
TALKATIVE = (
    ("X-Routed-By", "queue 3 at MAIL01.corp.INTERNAL"),
    ("X-Route", "hop [198.51.100.20]\r\n\tand hop 172.20.1.2"),
    ("X-Scanned", "by 2001:DB8:AAAA::25, clean"),
    ("X-Printer", "http://printer.floor2.local/job/12"),
    ("Reply-To", "desk@ws17.corp.internal"),
)
UNTOUCHED = (
    b"From: =?utf-8?q?B=C3=B6b?=  <bob@corp.example>\r\n",
    b"To: Ann <ann@partner.example>,\r\n\tCarl <carl@partner.example>\r\n",
    b"Subject:   Offer 10.20  for\r\n app5, as agreed \r\n",
    b"Date: Tue, 24 Nov 2026 09:29:58 +0100 (CET)\r\n",
    b"References: <one@partner.example>\r\n <two@partner.example>\r\n",
)
BODY = b"\r\nThe printer is printer.floor2.local, at 10.20.0.9.\r\n"


@pytest.fixture(scope="module")
def gateway(arrange: Start, inside: NextHop, outside: NextHop) -> Gateway:
    filters = {"header_hygiene": {"mode": "enforce"}, "loop": {"mode": "enforce"}}
    networks = ["198.51.100.0/24", "2001:db8:aaaa::/48"]
    return arrange(document(inside, outside, filters=filters, internal_networks=networks), [server()])


def message(*fields: tuple[str, str], message_id: str = "<order-4711@shop.corp.internal>") -> bytes:
    """A message as our own machines write it: full of our network, above and below what people wrote."""
    lines = [*(("Received", one) for one in TRACE), *fields[::2]]
    text = "".join(f"{name}: {value}\r\n" for name, value in lines).encode()
    text += b"".join(UNTOUCHED) + f"Message-ID: {message_id}\r\n".encode()
    return text + "".join(f"{name}: {value}\r\n" for name, value in fields[1::2]).encode() + BODY


def send(gateway: Gateway, raw: bytes, *recipients: str) -> str:
    with gateway.server() as peer:
        answer = peer.offer(raw, *(recipients or (ANN,)), mail_from=BOB)
    assert answer.code == 250, answer
    return answer.ref


@pytest.fixture(scope="module")
def ref(gateway: Gateway) -> str:
    """One message with everything in it, sent outside."""
    return send(gateway, message(*SOFTWARE, *TALKATIVE))


@pytest.fixture(scope="module")
def left(ref: str, outside: NextHop) -> bytes:
    """The header of that message on the wire."""
    raw = arrival(outside, ref).raw
    assert raw.endswith(BODY)
    return raw[: -len(BODY)]


def names(header: bytes) -> list[str]:
    return [name.decode().lower() for name in re.findall(rb"^([!-9;-~]+):", header, re.MULTILINE)]


def test_internal_received_fields_do_not_leave(left: bytes) -> None:
    received = re.findall(rb"^Received:.*(?:\r\n[ \t].*)*", left, re.MULTILINE)
    assert len(received) == 1, "only our own"
    assert f"by {HOSTNAME}".encode() in received[0]
    assert b"from" not in received[0]


@pytest.mark.parametrize("name", [name for name, _value in SOFTWARE])
def test_a_field_of_our_software_does_not_leave(left: bytes, name: str) -> None:
    assert name.lower() not in names(left)


def test_an_internal_host_in_the_message_id_does_not_leave(left: bytes) -> None:
    (value,) = re.findall(rb"^Message-ID: (.*)\r$", left, re.MULTILINE | re.IGNORECASE)
    assert re.fullmatch(rb"<[!-;=?-~]+@gate\.corp\.example>", value)


def test_a_public_message_id_leaves_as_it_is(gateway: Gateway, outside: NextHop) -> None:
    raw = arrival(outside, send(gateway, message(message_id="<m.1@corp.example>"))).raw
    assert b"\r\nMessage-ID: <m.1@corp.example>\r\n" in raw


def test_the_same_internal_message_id_always_leaves_as_the_same(gateway: Gateway, outside: NextHop) -> None:
    refs = [send(gateway, message(message_id="<thread@ws17>")) for _ in range(2)]
    ids = [re.findall(rb"\r\nMessage-ID: (.*)\r\n", arrival(outside, one).raw) for one in refs]
    assert ids[0] == ids[1] != [b"<thread@ws17>"]


def test_nothing_of_our_networks_and_hosts_is_in_the_header_on_the_wire(left: bytes) -> None:
    assert len(INTERNAL.findall(message(*SOFTWARE, *TALKATIVE))) > 10, "the pattern finds what there is to find"
    assert INTERNAL.findall(left) == []


@pytest.mark.parametrize(
    "line",
    [
        b"From bob@ws17.corp.internal Tue Nov 24 09:29:58 2026\r\n",
        b" continued from mail01.corp.internal\r\n",
        b"a line of 10.20.7.17 without a colon\r\n",
    ],
)
def test_a_line_that_is_no_field_at_all_does_not_leave_either(gateway: Gateway, outside: NextHop, line: bytes) -> None:
    kept = b"a line that says nothing\r\n"
    raw = arrival(outside, send(gateway, line + UNTOUCHED[0] + kept + UNTOUCHED[2] + BODY)).raw
    assert INTERNAL.search(line)
    assert INTERNAL.search(raw[: -len(BODY)]) is None
    assert raw.endswith(UNTOUCHED[0] + kept + UNTOUCHED[2] + BODY)


def test_the_machine_that_sent_it_is_known_to_us_alone(gateway: Gateway, ref: str, left: bytes) -> None:
    row = gateway.message(ref)
    assert (row.peer_ip, row.helo, row.direction) == (SERVER_IP, SERVER_NAME, Direction.OUTBOUND)
    assert SERVER_IP.encode() not in left
    assert SERVER_NAME.encode() not in left


@pytest.mark.parametrize("line", UNTOUCHED, ids=lambda line: line.split(b":")[0].decode())
def test_what_people_wrote_and_what_threads_is_untouched(left: bytes, line: bytes) -> None:
    assert left.count(line) == 1
    assert names(left).count(line.split(b":")[0].decode().lower()) == 1


def test_the_envelope_and_the_body_are_untouched(ref: str, left: bytes, outside: NextHop) -> None:
    assert left  # with the body that was sent
    taken = arrival(outside, ref)
    assert taken.mail.startswith(f"FROM:<{BOB}>")
    assert taken.recipients == [ANN]


def test_removed_lines_are_kept_in_the_trace(gateway: Gateway, ref: str) -> None:
    changes = gateway.trace(ref).changes
    removed = {change.before for change in changes if change.after is None}
    lines = (*SOFTWARE, *TALKATIVE, *(("Received", one) for one in TRACE))
    assert removed == {f"{name}: {value}".replace("\r\n", "") for name, value in lines}
    (replaced,) = [change for change in changes if change.before and change.after]
    assert replaced.before == "Message-ID: <order-4711@shop.corp.internal>"


def test_our_own_people_get_the_header_as_it_was(gateway: Gateway, inside: NextHop, outside: NextHop) -> None:
    raw = message(*SOFTWARE, *TALKATIVE)
    ref = send(gateway, raw, ANN, "carol@corp.example")
    assert arrival(inside, ref).raw.endswith(raw)
    assert arrival(inside, ref).recipients == ["carol@corp.example"]
    went_out = arrival(outside, ref)
    assert went_out.recipients == [ANN]
    assert b"X-Mailer" not in went_out.raw


# -- loops


def without_trace(raw: bytes) -> bytes:
    """Return a message as a forwarder sends it on that takes our trace fields out, as we do."""
    return re.sub(rb"^Received:.*\r\n(?:[ \t].*\r\n)*", b"", raw, flags=re.MULTILINE)


def circle(gateway: Gateway, inside: NextHop, raw: bytes, most: int = 10) -> tuple[int, Any]:
    """Send a message in, take it at the company's server, send it in again; return how often, and the last answer."""
    for number in range(most):
        answer = gateway.receive(raw)
        if answer.code != 250:
            return number, answer
        raw = without_trace(arrival(inside, answer.ref).raw)
        assert b"Received:" not in raw
    return most, answer


def test_a_loop_ends_though_nobody_leaves_received_fields(gateway: Gateway, inside: NextHop) -> None:
    passes, answer = circle(gateway, inside, make.message())
    assert passes == 4
    assert (answer.code, answer.text.split()[0]) == (554, "5.4.6")
    trace = gateway.trace(answer.ref)
    assert [verdict.reason for verdict in trace.verdicts] == ["loop:passes"]


def test_a_loop_over_the_world_ends(gateway: Gateway, inside: NextHop, outside: NextHop) -> None:
    raw, passes = message(*SOFTWARE), 0
    while passes < 10:  # out to a forwarder, in again, out again by our own forwarding
        is_out = passes % 2 == 0
        with gateway.server() if is_out else gateway.partner() as peer:
            answer = peer.offer(raw, ANN if is_out else BOB, mail_from=BOB)
        if answer.code != 250:
            break
        raw = without_trace(arrival(outside if is_out else inside, answer.ref).raw)
        passes += 1
    assert passes == 4
    assert (answer.code, answer.text.split()[0]) == (554, "5.4.6")


def test_nobody_else_can_make_a_message_look_like_a_loop(gateway: Gateway, inside: NextHop) -> None:
    forged = (("X-Gatepost-Hop", f"v1 9 {'0' * 32}"), ("X-Gatepost-Hop", "v1 999 "))
    ref = gateway.receive(make.message(*forged)).ref
    assert arrival(inside, ref).raw.count(b"X-Gatepost-Hop:") == 1


def test_the_hop_marker_says_nothing_of_us(left: bytes) -> None:
    (value,) = re.findall(rb"^X-Gatepost-Hop: (.*)\r$", left, re.MULTILINE)
    assert re.fullmatch(rb"v1 1 [0-9a-f]{32}", value)


def test_a_message_that_cannot_be_cleaned_does_not_leave(gateway: Gateway, outside: NextHop) -> None:
    many = b"".join(b"X-Line-%d: 1\r\n" % number for number in range(2100))
    with gateway.server() as peer:
        answer = peer.offer(many + message(), ANN, mail_from=BOB)
    assert answer.code == 554
    assert gateway.trace(answer.ref).verdicts[0].reason == "header_hygiene:unseen"
    assert arrivals(outside, answer.ref) == []
