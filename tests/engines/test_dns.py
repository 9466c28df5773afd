"""The resolver against a real server: three kinds of answers, caching, single flight, trouble."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from gateway.engines.dns import FAILED_SECONDS, DnsAnswer, DnsResolver, DnsStatus, system_nameservers
from tests.nameserver import Nameserver, Trouble


class Clock:
    """Seconds that pass when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def server() -> AsyncIterator[Nameserver]:
    async with Nameserver() as running:
        yield running


def resolver_of(server: Nameserver, **options: object) -> DnsResolver:
    return DnsResolver([server.address], **{"timeout_seconds": 0.3, "tries": 1, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rrtype", "record", "value"),
    [
        ("A", "192.0.2.7", "192.0.2.7"),
        ("AAAA", "2001:db8::7", "2001:db8::7"),
        ("MX", "10 MX.Corp.Example.", "10 mx.corp.example"),
        ("MX", "0 .", "0 ."),
        ("PTR", "Host.Corp.Example.", "host.corp.example"),
        ("NS", "ns.corp.example.", "ns.corp.example"),
        ("TXT", '"v=spf1 " "-all"', "v=spf1 -all"),
        ("TXT", '"Gr\\195\\188\\195\\159e"', "Grüße"),
        ("TLSA", "3 1 1 " + "ab" * 32, "3 1 1 " + "ab" * 32),
    ],
)
async def test_a_record_is_told_in_its_own_text(server: Nameserver, rrtype: str, record: str, value: str) -> None:
    server.add("corp.example", rrtype, [record])
    assert await resolver_of(server).query("corp.example", rrtype) == DnsAnswer(DnsStatus.FOUND, (value,))


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("corp.example", DnsStatus.FOUND),
        ("CORP.example.", DnsStatus.FOUND),
        ("alias.example", DnsStatus.FOUND),
        ("mailless.example", DnsStatus.NO_DATA),
        ("nobody.example", DnsStatus.NO_NAME),
        ("broken.example", DnsStatus.FAILED),
        ("refusing.example", DnsStatus.FAILED),
        ("silent.example", DnsStatus.FAILED),
        ("garbage.example", DnsStatus.FAILED),
        ("loop.example", DnsStatus.FAILED),
        ("a..example", DnsStatus.NO_NAME),
        ("x" * 64 + ".example", DnsStatus.NO_NAME),
        ("x." * 130 + "example", DnsStatus.NO_NAME),
    ],
)
async def test_absent_and_unknown_are_different_answers(server: Nameserver, name: str, status: DnsStatus) -> None:
    server.add("corp.example", "A", ["192.0.2.1"])
    server.add("alias.example", "CNAME", ["corp.example."])
    server.add("mailless.example", "TXT", ["nothing"])
    server.add("loop.example", "CNAME", ["loop.example."])
    server.trouble = {
        "broken.example": Trouble.SERVFAIL,
        "refusing.example": Trouble.REFUSED,
        "silent.example": Trouble.SILENT,
        "garbage.example": Trouble.GARBAGE,
    }
    answer = await resolver_of(server).query(name, "A")
    assert answer.status is status
    assert bool(answer.values) == (status is DnsStatus.FOUND)


async def test_a_failure_says_what_it_was(server: Nameserver) -> None:
    server.trouble = {"broken.example": Trouble.SERVFAIL, "silent.example": Trouble.SILENT}
    resolver = resolver_of(server)
    assert (await resolver.query("broken.example", "A")).why == "SERVFAIL"
    assert (await resolver.query("silent.example", "A")).why == "timed out"


async def test_the_next_server_is_asked_when_the_first_fails(server: Nameserver) -> None:
    async with Nameserver({("corp.example", "A"): ["192.0.2.1"]}) as second:
        server.trouble["corp.example"] = Trouble.SERVFAIL
        resolver = DnsResolver([server.address, second.address], timeout_seconds=0.3)
        assert (await resolver.query("corp.example", "A")).values == ("192.0.2.1",)


async def test_a_truncated_answer_is_fetched_over_tcp(server: Nameserver) -> None:
    server.add("big.example", "TXT", [f'"{number} {"x" * 200}"' for number in range(40)])
    answer = await resolver_of(server).query("big.example", "TXT")
    assert len(answer.values) == 40
    assert server.asked_by_tcp["big.example", "TXT"] == 1


async def test_a_second_question_is_answered_from_the_cache_until_the_ttl_ends(server: Nameserver) -> None:
    server.ttl = 30
    server.add("corp.example", "A", ["192.0.2.1"])
    clock = Clock()
    resolver = resolver_of(server, clock=clock)
    for _ in range(3):
        await resolver.query("corp.example", "A")
    assert server.asked["corp.example", "A"] == 1
    clock.now += 31
    await resolver.query("corp.example", "A")
    assert server.asked["corp.example", "A"] == 2


async def test_an_absent_name_is_remembered_as_long_as_its_zone_says(server: Nameserver) -> None:
    server.negative_ttl = 40
    clock = Clock()
    resolver = resolver_of(server, clock=clock)
    await resolver.query("nobody.example", "A")
    clock.now += 39
    await resolver.query("nobody.example", "A")
    assert server.asked["nobody.example", "A"] == 1
    clock.now += 2
    server.add("nobody.example", "A", ["192.0.2.1"])
    assert (await resolver.query("nobody.example", "A")).is_found


async def test_a_failure_is_remembered_for_seconds_only(server: Nameserver) -> None:
    server.trouble["corp.example"] = Trouble.SERVFAIL
    server.add("corp.example", "A", ["192.0.2.1"])
    clock = Clock()
    resolver = resolver_of(server, clock=clock)
    await resolver.query("corp.example", "A")
    server.trouble.clear()
    assert not (await resolver.query("corp.example", "A")).is_found
    clock.now += FAILED_SECONDS + 0.1
    assert (await resolver.query("corp.example", "A")).is_found


async def test_the_cache_is_bounded_and_drops_the_oldest(server: Nameserver) -> None:
    for number in range(6):
        server.add(f"h{number}.example", "A", ["192.0.2.1"])
    resolver = resolver_of(server, cache_entries=4)
    for number in range(6):
        await resolver.query(f"h{number}.example", "A")
    for number in (5, 4, 3, 2):
        await resolver.query(f"h{number}.example", "A")
    assert server.asked.total() == 6
    await resolver.query("h0.example", "A")
    assert server.asked.total() == 7


async def test_simultaneous_questions_travel_once(server: Nameserver) -> None:
    server.add("corp.example", "A", ["192.0.2.1"])
    server.held = asyncio.Event()
    resolver = resolver_of(server, timeout_seconds=5.0)
    asking = [asyncio.create_task(resolver.query("corp.example", "A")) for _ in range(50)]
    async with asyncio.timeout(5):
        while not server.asked:
            await asyncio.sleep(0)
    asking[0].cancel()  # one who gives up does not take the answer from the others
    server.held.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert {answer.values for answer in answers[1:] if isinstance(answer, DnsAnswer)} == {("192.0.2.1",)}
    assert server.asked["corp.example", "A"] == 1


@pytest.mark.parametrize("trusted", [True, False])
async def test_the_authentic_bit_is_believed_of_a_trusted_resolver_only(server: Nameserver, trusted: bool) -> None:
    server.add("signed.example", "A", ["192.0.2.1"])
    server.add("plain.example", "A", ["192.0.2.1"])
    server.authentic.add("signed.example")
    resolver = resolver_of(server, trust_ad=trusted)
    assert (await resolver.query("signed.example", "A")).authentic is trusted
    assert (await resolver.query("plain.example", "A")).authentic is False


async def test_mail_hosts_come_by_preference(server: Nameserver) -> None:
    server.add("corp.example", "MX", ["20 b.example.", "10 a.example.", "30 c.example."])
    answer = await resolver_of(server).mx("corp.example")
    assert (answer.hosts, answer.preferences) == (("a.example", "b.example", "c.example"), (10, 20, 30))


async def test_equal_preferences_share_the_load(server: Nameserver) -> None:
    server.add("corp.example", "MX", ["10 a.example.", "10 b.example.", "20 c.example."])
    resolver = resolver_of(server)
    seen = {(await resolver.mx("corp.example")).hosts for _ in range(64)}
    assert seen == {("a.example", "b.example", "c.example"), ("b.example", "a.example", "c.example")}


@pytest.mark.parametrize(
    ("records", "status", "hosts", "null_mx", "implicit"),
    [
        ({"MX": ["0 ."]}, DnsStatus.FOUND, (), True, False),  # RFC 7505
        ({"MX": ["0 .", "10 a.example."]}, DnsStatus.FOUND, ("a.example",), False, False),
        ({"A": ["192.0.2.1"]}, DnsStatus.FOUND, ("corp.example",), False, True),  # RFC 5321 section 5.1
        ({}, DnsStatus.NO_NAME, (), False, False),
    ],
)
async def test_a_domain_may_take_no_mail_or_have_no_mx(
    server: Nameserver,
    records: dict[str, list[str]],
    status: DnsStatus,
    hosts: tuple[str, ...],
    null_mx: bool,
    implicit: bool,
) -> None:
    for rrtype, values in records.items():
        server.add("corp.example", rrtype, values)
    answer = await resolver_of(server).mx("corp.example")
    assert (answer.status, answer.hosts, answer.null_mx, answer.implicit) == (status, hosts, null_mx, implicit)


async def test_mx_without_an_answer_is_a_temporary_failure(server: Nameserver) -> None:
    server.trouble["corp.example"] = Trouble.SERVFAIL
    answer = await resolver_of(server).mx("corp.example")
    assert (answer.status, answer.why) == (DnsStatus.FAILED, "SERVFAIL")


async def test_a_thousand_mail_hosts_are_cut_short(server: Nameserver) -> None:
    server.add("corp.example", "MX", [f"{number} h{number}.example." for number in range(300)])
    answer = await resolver_of(server, timeout_seconds=5.0).mx("corp.example")
    assert answer.hosts == tuple(f"h{number}.example" for number in range(50))


async def test_addresses_of_both_families_ipv4_first(server: Nameserver) -> None:
    server.add("mx.example", "AAAA", ["2001:db8::1"])
    server.add("mx.example", "A", ["192.0.2.1"])
    assert (await resolver_of(server).addresses("mx.example")).values == ("192.0.2.1", "2001:db8::1")


async def test_a_name_of_one_family_has_addresses(server: Nameserver) -> None:
    server.add("six.example", "AAAA", ["2001:db8::1"])
    assert (await resolver_of(server).addresses("six.example")).values == ("2001:db8::1",)
    assert (await resolver_of(server).addresses("none.example")).status is DnsStatus.NO_NAME


def test_it_works_on_uvloop_too() -> None:
    async def ask() -> DnsAnswer:
        async with Nameserver({("corp.example", "A"): ["192.0.2.1"]}) as server:
            return await resolver_of(server).query("corp.example", "A")

    assert uvloop.run(ask()).values == ("192.0.2.1",)


def test_the_systems_resolvers_are_addresses_with_the_dns_port() -> None:
    assert all(port == 53 for _, port in system_nameservers())
