"""Attempts from memory and for the queue, over real connections: every recipient is settled once, whatever happens."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import uvloop

from gateway.accepted import Accepted, Settled, State
from gateway.engines.dns import DnsResolver
from gateway.mail.address import Address
from gateway.mail.envelope import Direction, Recipient
from gateway.policy.compile import Policy
from gateway.relay.delivery import GROUPS_AT_ONCE, OVERHEAD_BYTES, RECIPIENTS_PER_PARCEL, Delivery
from gateway.relay.hops import Hops, Ourselves
from gateway.relay.pool import Pool, PoolSettings
from gateway.relay.retry import BackOff
from gateway.relay.settlement import Due
from tests import make
from tests.nameserver import Nameserver
from tests.nexthop import Does, NextHop
from tests.parcels import IMPATIENT, NOW, QUICK, RAW, accepted, policy


class Desk:
    """The edge: takes results, as the importer does."""

    def __init__(self) -> None:
        self.results: list[Settled] = []

    def __call__(self, results: Any) -> None:
        self.results += results

    @property
    def by_recipient(self) -> dict[str, Settled]:
        assert len({result.recipient for result in self.results}) == len(self.results), "settled twice"
        return {str(result.recipient): result for result in self.results}

    def states(self) -> dict[str, State]:
        return {name: result.state for name, result in self.by_recipient.items()}


class Office:
    """A delivery with its parts."""

    def __init__(
        self, *, nameserver: Nameserver | None = None, now: Callable[[], datetime] = lambda: NOW, **options: Any
    ) -> None:
        pool_settings = PoolSettings(
            timeouts=options.pop("timeouts", QUICK), wait_seconds=options.pop("wait_seconds", 10)
        )
        self.desk = Desk()
        # A port where nobody answers unless the test brings a nameserver.
        resolver = DnsResolver([nameserver.address if nameserver else ("127.0.0.1", 1)], timeout_seconds=0.2, tries=1)
        hops = Hops(resolver, lambda: Ourselves("mx.corp.example", allow_local_mx=True))
        self.delivery = Delivery(Pool(lambda: "mx.corp.example", pool_settings), hops, self.desk, clock=now, **options)

    async def attempt(self, group: Accepted, a_policy: Policy, *due: Due) -> dict[str, Settled]:
        """Try once; return the results by recipient."""
        self.desk.results.clear()
        await self.delivery.attempt(group, (RAW,), due or [Due(one) for one in group.recipients], a_policy)
        return self.desk.by_recipient


@pytest.fixture
async def hop() -> AsyncIterator[NextHop]:
    async with NextHop() as running:
        yield running


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    made = Office()
    yield made
    await made.delivery.close(0)


async def settled(office: Office, count: int) -> None:
    async with asyncio.timeout(10):
        while len(office.desk.results) < count:
            await asyncio.sleep(0.002)


# -- from memory


async def test_a_message_is_delivered_from_memory(office: Office, hop: NextHop) -> None:
    office.delivery.first_attempt(accepted(), (RAW[:10], memoryview(RAW)[10:]), policy(hop))
    assert office.delivery.first_attempts == 1
    await settled(office, 1)
    assert hop.messages[0].raw == RAW
    [result] = office.desk.results
    assert (result.state, result.attempts, result.host) == (State.DELIVERED, 1, f"[127.0.0.1]:{hop.port}")
    await hop.until(lambda: office.delivery.first_attempts == 0)
    assert office.delivery.held_bytes == 0


async def test_what_would_take_too_much_memory_is_left_to_the_queue(hop: NextHop) -> None:
    waiting = asyncio.Event()
    hop.on("END", waiting)
    office = Office(memory_bytes=2 * (len(RAW) + OVERHEAD_BYTES))
    for number in range(5):
        office.delivery.first_attempt(accepted(number=number), (RAW,), policy(hop))
    # Those over the limit are settled at once: due now, no attempt made.
    assert [(one.state, one.attempts, one.due_at) for one in office.desk.results] == [(State.QUEUED, 0, NOW)] * 3
    waiting.set()
    await settled(office, 5)
    assert len(hop.messages) == 2
    office.delivery.first_attempt(accepted(number=9), (RAW,), policy(hop))
    await settled(office, 6)
    assert office.desk.results[-1].state is State.DELIVERED
    await office.delivery.close()


async def test_a_burst_over_few_connections_is_settled_whole(office: Office, hop: NextHop) -> None:
    for number in range(300):
        office.delivery.first_attempt(accepted(number=number), (RAW,), policy(hop, max_connections=4))
    await settled(office, 300)
    assert {result.state for result in office.desk.results} == {State.DELIVERED}
    assert (len({one.message_id for one in office.desk.results}), len(hop.messages)) == (300, 300)
    assert hop.most_open <= 4


async def test_messages_after_a_burst_are_delivered_as_before(office: Office, hop: NextHop) -> None:
    for number in (0, 100, 200):  # the second and third time tasks of the first are there
        for one in range(number, number + 5):
            office.delivery.first_attempt(accepted(number=one), (RAW,), policy(hop))
        assert office.delivery.first_attempts == 5
        await settled(office, 5 * (number // 100 + 1))
        await hop.until(lambda: office.delivery.first_attempts == 0)
        assert office.delivery.held_bytes == 0
    assert len({one.message_id for one in office.desk.results}) == 15


async def test_closing_lets_attempts_end_and_puts_back_what_takes_too_long(hop: NextHop) -> None:
    office = Office()
    hop.on("END", Does.STALL, when="slow@")
    office.delivery.first_attempt(accepted("ann@partner.example", number=1), (RAW,), policy(hop))
    office.delivery.first_attempt(accepted("slow@partner.example", number=2), (RAW,), policy(hop))
    await hop.arrival(2)
    await office.delivery.close(0.05)
    slow = office.desk.by_recipient["slow@partner.example"]
    assert (slow.state, slow.attempts, slow.due_at) == (State.QUEUED, 0, NOW)
    assert office.desk.states()["ann@partner.example"] is State.DELIVERED
    office.delivery.first_attempt(accepted("late@partner.example", number=3), (RAW,), policy(hop))
    assert office.desk.states()["late@partner.example"] is State.QUEUED
    assert office.delivery.pool.open_connections == 0


# -- recipients


async def test_recipients_are_settled_by_themselves(office: Office, hop: NextHop) -> None:
    hop.on("RCPT", "550 5.1.1 No", when="bob@")
    hop.on("RCPT", "451 4.2.1 Later", when="carol@")
    group = accepted("ann@partner.example", "bob@partner.example", "carol@partner.example")
    results = await office.attempt(group, policy(hop))
    assert office.desk.states() == {
        "ann@partner.example": State.DELIVERED,
        "bob@partner.example": State.FAILED,
        "carol@partner.example": State.QUEUED,
    }
    assert results["bob@partner.example"].reply == "550 5.1.1 No"


async def test_only_those_who_are_due_are_tried(office: Office, hop: NextHop) -> None:
    group = accepted("ann@partner.example", "bob@partner.example")
    results = await office.attempt(group, policy(hop), Due(group.recipients[1], attempts=4))
    assert {name: one.attempts for name, one in results.items()} == {"bob@partner.example": 5}
    assert hop.messages[0].recipients == ["bob@partner.example"]


async def test_many_recipients_go_in_several_parcels(office: Office, hop: NextHop) -> None:
    names = [f"user{number}@partner.example" for number in range(RECIPIENTS_PER_PARCEL + 30)]
    await office.attempt(accepted(*names), policy(hop))
    assert set(office.desk.states().values()) == {State.DELIVERED}
    assert sorted(len(taken.recipients) for taken in hop.messages) == [30, RECIPIENTS_PER_PARCEL]
    assert sorted(name for taken in hop.messages for name in taken.recipients) == sorted(names)


async def test_a_host_that_takes_few_recipients_at_once_gets_the_rest_at_once(office: Office, hop: NextHop) -> None:
    for number in range(3):
        hop.on("RCPT", "452 4.5.3 Too many recipients", when=f"user{number}@", times=1)
    hop.on("RCPT", "452 4.5.3 Too many recipients", when="user0@", times=1)
    names = [f"user{number}@partner.example" for number in range(6)]
    await office.attempt(accepted(*names), policy(hop))
    assert set(office.desk.states().values()) == {State.DELIVERED}
    assert [len(taken.recipients) for taken in hop.messages] == [3, 2, 1]


async def test_a_host_that_takes_no_recipient_is_not_asked_for_ever(office: Office, hop: NextHop) -> None:
    hop.on("RCPT", "452 4.5.3 Too many recipients")
    await office.attempt(accepted("a@partner.example", "b@partner.example"), policy(hop))
    assert set(office.desk.states().values()) == {State.QUEUED}
    assert sum(line.startswith("RCPT") for line in hop.commands) == 2


# -- several hosts


async def test_the_next_hop_in_line_takes_over(office: Office, hop: NextHop) -> None:
    async with NextHop() as dead:
        pass
    results = await office.attempt(accepted(), policy(dead, hop))
    assert (results["ann@partner.example"].state, len(hop.messages)) == (State.DELIVERED, 1)


@pytest.mark.parametrize(
    ("verb", "step"),
    [
        ("CONNECT", "421 4.3.2 Not now"),
        ("CONNECT", "554 Out of service"),
        ("CONNECT", Does.CLOSE),
        ("EHLO", Does.RESET),
        ("MAIL", "452 4.3.1 Disk full"),
        ("MAIL", "421 4.3.2 Going down"),
        ("MAIL", Does.CLOSE),
        ("RCPT", Does.CLOSE),
        ("DATA", "421 4.3.2 Going down"),
    ],
)
async def test_a_host_in_trouble_hands_over_to_the_next(
    office: Office, hop: NextHop, verb: str, step: str | Does
) -> None:
    async with NextHop() as first:
        first.on(verb, step)
        results = await office.attempt(accepted(), policy(first, hop))
        assert results["ann@partner.example"].state is State.DELIVERED
        assert (len(first.messages), len(hop.messages)) == (0, 1)


@pytest.mark.parametrize(
    ("verb", "step", "state"),
    [
        ("RCPT", "451 4.7.1 Greylisted", State.QUEUED),
        ("RCPT", "550 5.1.1 No such user", State.FAILED),
        ("MAIL", "550 5.7.1 Not you", State.FAILED),
        ("DATA", "451 4.3.0 Later", State.QUEUED),
        ("END", "451 4.3.0 Later", State.QUEUED),
        ("END", "554 5.7.1 Spam", State.FAILED),
        ("END", Does.CLOSE, State.QUEUED),  # it may have been taken: not again at once
    ],
)
async def test_what_a_host_decided_is_not_asked_of_another(
    office: Office, hop: NextHop, verb: str, step: str | Does, state: State
) -> None:
    async with NextHop() as first:
        first.on(verb, step)
        results = await office.attempt(accepted(), policy(first, hop))
        assert results["ann@partner.example"].state is state
        assert hop.connections == 0


async def test_only_those_whom_the_first_host_left_open_go_to_the_next(office: Office, hop: NextHop) -> None:
    async with NextHop() as first:
        first.on("RCPT", "550 5.1.1 No", when="bob@")
        first.on("RCPT", "421 4.3.2 Bye", when="carol@")
        group = accepted("ann@partner.example", "bob@partner.example", "carol@partner.example")
        await office.attempt(group, policy(first, hop))
        assert office.desk.states() == {
            "ann@partner.example": State.DELIVERED,
            "bob@partner.example": State.FAILED,
            "carol@partner.example": State.DELIVERED,
        }
        assert sorted(name for taken in (*first.messages, *hop.messages) for name in taken.recipients) == [
            "ann@partner.example",
            "carol@partner.example",
        ]


async def test_a_lost_final_reply_makes_one_extra_delivery_at_most(office: Office, hop: NextHop) -> None:
    hop.on("END", Does.CLOSE, times=1)
    group = accepted()
    first = (await office.attempt(group, policy(hop)))["ann@partner.example"]
    assert (first.state, first.due_at is not None and first.due_at > NOW) == (State.QUEUED, True)
    again = await office.attempt(group, policy(hop), Due(group.recipients[0], first.attempts))
    assert again["ann@partner.example"].state is State.DELIVERED
    assert len(hop.messages) == 2


async def test_a_dead_next_hop_is_not_tried_by_each_message() -> None:
    office = Office(timeouts=IMPATIENT)
    async with NextHop() as hop:
        hop.on("CONNECT", Does.CLOSE)
        for number in range(20):
            result = (await office.attempt(accepted(number=number), policy(hop)))["ann@partner.example"]
            assert result.state is State.QUEUED
            assert "at the start: connection closed" in result.reply
            # Our own hop: once it is back, mail should follow soon, whatever the number of attempts.
            assert result.due_at is not None
        assert hop.connections == 1


async def test_long_back_off_is_cut_while_our_own_next_hop_is_down() -> None:
    office = Office(back_off=BackOff(jitter=0.0))
    async with NextHop() as hop:
        pass
    group = accepted()
    result = (await office.attempt(group, policy(hop), Due(group.recipients[0], 9)))["ann@partner.example"]
    assert result.due_at == NOW + timedelta(minutes=15)


async def test_a_host_that_is_full_of_mail_makes_the_rest_wait_in_the_queue(hop: NextHop) -> None:
    hop.on("END", Does.STALL)
    office = Office(wait_seconds=0.05, timeouts=QUICK)
    first = asyncio.create_task(office.attempt(accepted("a@partner.example"), policy(hop, max_connections=1)))
    await hop.arrival()
    await office.delivery.attempt(
        accepted("b@partner.example", number=2),
        (RAW,),
        [Due(Recipient(Address("b", "partner.example"), Direction.OUTBOUND))],
        policy(hop, max_connections=1),
    )
    assert office.desk.states() == {"b@partner.example": State.QUEUED}
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert office.desk.states()["a@partner.example"] is State.QUEUED


# -- routes and DNS


async def test_recipients_go_where_their_domains_mx_leads(hop: NextHop) -> None:
    async with Nameserver() as nameserver, NextHop() as other:
        office = Office(nameserver=nameserver)
        for name in ("one", "two"):
            nameserver.add(f"{name}.example", "MX", [f"10 mx.{name}.example."])
            nameserver.add(f"mx.{name}.example", "A", ["127.0.0.1"])
        nameserver.add("nomail.example", "MX", ["0 ."])
        routes = {
            "one": {"hops": [{"host": "one.example", "port": hop.port, "mx": True}]},
            "two": {"hops": [{"host": "two.example", "port": other.port, "mx": True}]},
        }
        a_policy = make.policy(routes=routes, domain_routes={"one.example": "one", "two.example": "two"})
        group = accepted("a@one.example", "b@two.example", "c@one.example", "d@nomail.example", "e@nowhere.example")
        results = await office.attempt(group, a_policy)
        assert office.desk.states() == {
            "a@one.example": State.DELIVERED,
            "b@two.example": State.DELIVERED,
            "c@one.example": State.DELIVERED,
            "d@nomail.example": State.FAILED,
            "e@nowhere.example": State.FAILED,
        }
        assert results["d@nomail.example"].reply == "5.1.10 nomail.example takes no mail (null MX)"
        assert [taken.recipients for taken in hop.messages] == [["a@one.example", "c@one.example"]]
        assert [taken.recipients for taken in other.messages] == [["b@two.example"]]
        await office.delivery.close()


async def test_the_route_of_the_verdict_comes_first(office: Office, hop: NextHop) -> None:
    async with NextHop() as other:
        routes = {name: {"hops": [{"host": "127.0.0.1", "port": one.port}]} for name, one in [("a", hop), ("b", other)]}
        a_policy = make.policy(routes=routes, outbound_route="a")
        await office.attempt(accepted(route="b"), a_policy)
        await office.attempt(accepted(route="gone"), a_policy)
        assert (len(other.messages), len(hop.messages)) == (1, 1)


async def test_a_changed_policy_counts_from_the_next_attempt(office: Office, hop: NextHop) -> None:
    async with NextHop() as other:
        for target in (hop, other, hop):
            await office.attempt(accepted(), policy(target))
        assert (len(hop.messages), len(other.messages)) == (2, 1)


async def test_a_slow_domain_does_not_hold_up_the_results_of_others(hop: NextHop) -> None:
    office = Office()
    waiting = asyncio.Event()
    async with NextHop() as slow:
        slow.on("END", waiting)
        routes = {name: {"hops": [{"host": "127.0.0.1", "port": one.port}]} for name, one in [("a", hop), ("b", slow)]}
        a_policy = make.policy(routes=routes, outbound_route="a", domain_routes={"slow.example": "b"})
        office.delivery.first_attempt(accepted("x@slow.example", "ann@partner.example"), (RAW,), a_policy)
        await settled(office, 1)
        assert office.desk.states() == {"ann@partner.example": State.DELIVERED}
        waiting.set()
        await settled(office, 2)
        await office.delivery.close()


async def test_an_error_of_ours_settles_the_rest_for_another_attempt(hop: NextHop) -> None:
    class Broken:
        def fixed(self, *_: object) -> None:
            return None

        async def endpoints(self, *_: object) -> None:
            raise RuntimeError("a bug")

    office = Office()
    office.delivery.hops = Broken()  # type: ignore[assignment]
    results = await office.attempt(accepted("a@partner.example", "b@partner.example"), policy(hop))
    assert {one.reply for one in results.values()} == {"4.3.0 an error of ours"}
    assert set(office.desk.states().values()) == {State.QUEUED}


async def test_a_policy_that_makes_no_sense_loses_no_mail(office: Office, hop: NextHop) -> None:
    results = await office.attempt(accepted(), object())  # type: ignore[arg-type]
    assert [(one.state, one.reply) for one in results.values()] == [(State.QUEUED, "4.3.0 an error of ours")]


async def test_everybody_is_put_back_when_an_attempt_at_many_domains_is_broken_off(
    office: Office, hop: NextHop
) -> None:
    hop.on("END", Does.STALL)
    hops = [{"host": "127.0.0.1", "port": hop.port}]
    domains = [f"d{number}.example" for number in range(GROUPS_AT_ONCE + 20)]
    a_policy = make.policy(
        routes={domain: {"hops": hops} for domain in domains}, domain_routes={domain: domain for domain in domains}
    )
    group = accepted(*(f"a@{domain}" for domain in domains))
    trying = asyncio.create_task(office.attempt(group, a_policy))
    await hop.arrival()
    trying.cancel()
    await asyncio.gather(trying, return_exceptions=True)
    assert set(office.desk.states()) == {f"a@{domain}" for domain in domains}
    assert {(one.state, one.attempts) for one in office.desk.results} == {(State.QUEUED, 0)}


async def test_mail_from_outside_that_cannot_be_delivered_is_held(office: Office, hop: NextHop) -> None:
    hop.on("END", "554 5.7.1 Second scanner: virus")
    group = accepted("bob@corp.example", mail_from="ann@partner.example", direction=Direction.INBOUND)
    results = await office.attempt(group, policy(hop))
    assert (results["bob@corp.example"].state, results["bob@corp.example"].notice_due) == (State.HELD, "")


def test_it_works_on_uvloop_too() -> None:
    async def go() -> None:
        async with NextHop() as hop:
            office = Office()
            for number in range(50):
                office.delivery.first_attempt(accepted(number=number), (RAW,), policy(hop))
            await settled(office, 50)
            assert {result.state for result in office.desk.results} == {State.DELIVERED}
            await office.delivery.close()

    uvloop.run(go())
