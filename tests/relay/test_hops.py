"""From routes and DNS to the endpoints of an attempt; the names are served by a real nameserver."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.engines.dns import DnsResolver
from gateway.mail.address import Address
from gateway.policy.document import NextHop, Route
from gateway.relay.client import Endpoint
from gateway.relay.hops import MAX_ENDPOINTS, Hops, Ourselves
from gateway.relay.reply_stream import HostReply
from tests.nameserver import Nameserver, Trouble
from tests.parcels import address

ANN = address("ann@partner.example")
TO_MX = Route()


@pytest.fixture
async def server() -> AsyncIterator[Nameserver]:
    async with Nameserver() as running:
        yield running


async def resolve(server: Nameserver, route: Route, to: Address = ANN, **ours: Any) -> list[str] | str:
    """Return the endpoints' texts, or the reply that says why there are none."""
    resolver = DnsResolver([server.address], timeout_seconds=0.3, tries=1)
    found = await Hops(resolver, lambda: Ourselves(**ours)).endpoints(route, to)
    return str(found) if isinstance(found, HostReply) else [str(endpoint) for endpoint in found]


def route(*hosts: str, mx: bool = False, port: int = 25, **fields: Any) -> Route:
    return Route(hops=tuple(NextHop(host=host, port=port, mx=mx) for host in hosts), **fields)


async def test_hops_come_in_their_order(server: Nameserver) -> None:
    server.add("one.example", "A", ["192.0.2.1"])
    server.add("two.example", "AAAA", ["2001:db8::2"])
    assert await resolve(server, route("two.example", "one.example", "192.0.2.3", "2001:db8::4", port=26)) == [
        "two.example [2001:db8::2]:26",
        "one.example [192.0.2.1]:26",
        "[192.0.2.3]:26",
        "[2001:db8::4]:26",
    ]


async def test_level_and_origin_are_part_of_the_endpoint(server: Nameserver) -> None:
    server.add("partner.example", "MX", ["10 mx.partner.example."])
    server.add("mx.partner.example", "A", ["192.0.2.1"])
    hops = Hops(DnsResolver([server.address]))
    assert await hops.endpoints(Route(tls="required"), ANN) == (
        Endpoint("mx.partner.example", "192.0.2.1", 25, "required", is_mx=True),
    )
    assert await hops.endpoints(route("192.0.2.9", tls="never"), ANN) == (Endpoint("", "192.0.2.9", 25, "never"),)


async def test_without_hops_it_is_the_mx_of_the_recipients_domain(server: Nameserver) -> None:
    server.add("partner.example", "MX", ["20 b.example.", "10 a.example."])
    server.add("a.example", "A", ["192.0.2.1", "192.0.2.2"])
    server.add("b.example", "A", ["192.0.2.3"])
    found = await resolve(server, TO_MX)
    assert sorted(found[:2]) == ["a.example [192.0.2.1]:25", "a.example [192.0.2.2]:25"]
    assert found[2:] == ["b.example [192.0.2.3]:25"]


async def test_a_hop_may_be_the_mx_of_another_domain(server: Nameserver) -> None:
    server.add("provider.example", "MX", ["10 a.example."])
    server.add("a.example", "A", ["192.0.2.1"])
    assert await resolve(server, route("provider.example", mx=True, port=587)) == ["a.example [192.0.2.1]:587"]


async def test_a_domain_without_mx_takes_its_own_mail(server: Nameserver) -> None:
    server.add("partner.example", "A", ["192.0.2.1"])
    assert await resolve(server, TO_MX) == ["partner.example [192.0.2.1]:25"]


@pytest.mark.parametrize(
    ("domain", "found"),
    [("[192.0.2.1]", ["[192.0.2.1]:25"]), ("[IPv6:2001:db8::1]", ["[2001:db8::1]:25"])],
)
async def test_an_address_literal_needs_no_dns(server: Nameserver, domain: str, found: list[str]) -> None:
    assert await resolve(server, TO_MX, Address("ann", domain)) == found
    assert not server.asked


async def test_a_domain_in_letters_of_the_world_is_looked_up_in_a_labels(server: Nameserver) -> None:
    server.add("xn--mller-kva.example", "MX", ["10 a.example."])
    server.add("a.example", "A", ["192.0.2.1"])
    assert await resolve(server, TO_MX, Address("ann", "müller.example")) == ["a.example [192.0.2.1]:25"]


@pytest.mark.parametrize(
    ("zone", "trouble", "reply"),
    [
        ({}, {}, "5.1.2 partner.example: there is no such domain"),
        ({("partner.example", "MX"): ["0 ."]}, {}, "5.1.10 partner.example takes no mail (null MX)"),
        ({("partner.example", "TXT"): ["x"]}, {}, "5.1.2 no mail host of partner.example has an address"),
        ({("partner.example", "MX"): ["1 a.example."]}, {}, "5.1.2 no mail host of partner.example has an address"),
        ({}, {"partner.example": Trouble.SERVFAIL}, "4.4.3 MX of partner.example: SERVFAIL"),
        ({}, {"partner.example": Trouble.SILENT}, "4.4.3 MX of partner.example: timed out"),
        (
            {("partner.example", "MX"): ["1 a.example.", "2 b.example."]},
            {"a.example": Trouble.SERVFAIL},
            "4.4.3 address of a.example: SERVFAIL",
        ),
    ],
)
async def test_what_dns_says_decides_between_never_and_later(
    server: Nameserver, zone: dict[tuple[str, str], list[str]], trouble: dict[str, Trouble], reply: str
) -> None:
    server.zone.update(zone)
    server.trouble = trouble
    assert await resolve(server, TO_MX) == reply


async def test_one_host_without_an_answer_does_not_hide_the_others(server: Nameserver) -> None:
    server.add("partner.example", "MX", ["1 a.example.", "2 b.example."])
    server.add("b.example", "A", ["192.0.2.1"])
    server.trouble["a.example"] = Trouble.SERVFAIL
    assert await resolve(server, TO_MX) == ["b.example [192.0.2.1]:25"]


async def test_a_hop_of_the_operator_without_an_address_makes_mail_wait(server: Nameserver) -> None:
    assert await resolve(server, route("gone.example")) == "4.4.3 next hop gone.example: has no address"
    server.add("one.example", "A", ["192.0.2.1"])
    assert await resolve(server, route("gone.example", "one.example")) == ["one.example [192.0.2.1]:25"]


async def test_a_hop_that_may_come_back_outweighs_one_that_will_not(server: Nameserver) -> None:
    both = Route(hops=(NextHop(host="nowhere.example", mx=True), NextHop(host="gone.example")))
    assert await resolve(server, both) == "4.4.3 next hop gone.example: has no address"


async def test_a_name_without_dots_is_the_systems_affair(server: Nameserver) -> None:
    assert "localhost [127.0.0.1]:25" in await resolve(server, route("localhost"))
    assert not server.asked


# -- mail that would come back to us


async def test_mail_hosts_that_are_not_preferred_to_us_are_left_out(server: Nameserver) -> None:
    server.add("partner.example", "MX", ["10 a.example.", "20 MX.corp.example.", "20 b.example.", "30 c.example."])
    server.add("a.example", "A", ["192.0.2.1"])
    server.add("b.example", "A", ["192.0.2.2"])
    server.add("c.example", "A", ["192.0.2.3"])
    assert await resolve(server, TO_MX, hostname="mx.Corp.example") == ["a.example [192.0.2.1]:25"]


async def test_mail_whose_best_host_we_are_is_a_loop(server: Nameserver) -> None:
    server.add("partner.example", "MX", ["10 mx.corp.example.", "20 a.example."])
    reply = await resolve(server, TO_MX, hostname="mx.corp.example")
    assert reply == "5.4.6 mail for partner.example loops back to us"


@pytest.mark.parametrize(
    ("found", "allow_local", "is_refused"),
    [
        ("127.0.0.1", False, True),
        ("127.1.2.3", False, True),
        ("0.0.0.0", False, True),
        ("224.0.0.1", False, True),
        ("::1", False, True),
        ("::", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("192.0.2.1", False, False),
        ("127.0.0.1", True, False),
        ("198.51.100.25", True, True),  # our own listener
        ("198.51.100.25", False, True),
    ],
)
async def test_dns_cannot_lead_mail_to_ourselves(
    server: Nameserver, found: str, allow_local: bool, is_refused: bool
) -> None:
    server.add("partner.example", "MX", ["10 a.example."])
    server.add("a.example", "AAAA" if ":" in found else "A", [found])
    result = await resolve(server, TO_MX, listening=frozenset({("198.51.100.25", 25)}), allow_local_mx=allow_local)
    assert (result == "5.4.6 mail for partner.example loops back to us") is is_refused


@pytest.mark.parametrize("literal", ["[127.0.0.1]", "[IPv6:::1]", "[IPv6:::ffff:127.0.0.1]"])
async def test_a_literal_cannot_lead_mail_to_ourselves(server: Nameserver, literal: str) -> None:
    assert str(await resolve(server, TO_MX, Address("root", literal))).startswith("5.4.6")


async def test_the_operator_may_name_a_hop_on_this_machine(server: Nameserver) -> None:
    assert await resolve(server, route("127.0.0.1", port=2580)) == ["[127.0.0.1]:2580"]


async def test_hostile_dns_makes_no_endless_list(server: Nameserver) -> None:
    server.add("partner.example", "MX", [f"{number} h{number}.example." for number in range(40)])
    for number in range(40):
        server.add(f"h{number}.example", "A", [f"192.0.2.{octet}" for octet in range(20)])
    assert len(await resolve(server, TO_MX)) == MAX_ENDPOINTS
