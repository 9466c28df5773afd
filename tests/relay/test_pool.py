"""Kept connections: reuse, limits, fairness between sources, and what happens when a host fails."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from gateway.relay import pool as pool_module
from gateway.relay.client import Endpoint, Unreachable
from gateway.relay.parcel import Outcome
from gateway.relay.pool import Crowded, Pool, PoolSettings
from tests.nexthop import Does, NextHop
from tests.parcels import IMPATIENT, QUICK, codes, endpoint, parcel


@pytest.fixture
async def hop() -> AsyncIterator[NextHop]:
    async with NextHop() as running:
        yield running


def pool_of(**settings: object) -> Pool:
    return Pool(lambda: "mx.corp.example", PoolSettings(**{"timeouts": QUICK, **settings}))  # type: ignore[arg-type]


async def send(
    pool: Pool, hop: NextHop, source: str = "a", limit: int = 10, to: str = "ann@partner.example"
) -> Outcome:
    return await pool.send(endpoint(hop), parcel(to), source=source, max_connections=limit)


async def test_a_connection_is_used_again(hop: NextHop) -> None:
    pool = pool_of()
    for _ in range(5):
        assert codes(await send(pool, hop)) == [250]
    assert (hop.connections, len(hop.messages)) == (1, 5)
    assert sum(line.startswith("EHLO") for line in hop.commands) == 1
    await pool.close()


async def test_a_connection_is_left_after_its_share_of_messages(hop: NextHop) -> None:
    pool = pool_of(parcels_per_connection=3)
    for _ in range(7):
        await send(pool, hop)
    assert [taken.connection for taken in hop.messages] == [1, 1, 1, 2, 2, 2, 3]
    await hop.until(lambda: hop.commands.count("QUIT") == 2)
    await pool.close()


async def test_an_idle_connection_is_left_in_time(hop: NextHop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "SWEEP_SECONDS", 0.02)
    pool = pool_of(idle_seconds=0.05)
    await send(pool, hop)
    await hop.until(lambda: "QUIT" in hop.commands and hop.open == 0)
    assert pool.open_connections == 0
    await send(pool, hop)
    assert hop.connections == 2
    await pool.close()


async def test_a_kept_connection_that_died_is_replaced_without_a_failed_attempt(hop: NextHop) -> None:
    pool = pool_of()
    await asyncio.gather(*(send(pool, hop) for _ in range(3)))
    await hop.drop_connections()
    assert codes(await send(pool, hop)) == [250]
    assert len(hop.messages) == 4
    await pool.close()


async def test_a_kept_connection_that_ends_at_mail_is_replaced_without_a_failed_attempt(hop: NextHop) -> None:
    pool = pool_of()
    await send(pool, hop)
    hop.on("MAIL", "421 4.4.2 Idle too long", times=1)
    assert codes(await send(pool, hop)) == [250]
    assert (hop.connections, len(hop.messages)) == (2, 2)
    await pool.close()


async def test_the_routes_limit_is_never_exceeded(hop: NextHop) -> None:
    pool = pool_of()
    outcomes = await asyncio.gather(*(send(pool, hop, limit=3) for _ in range(60)))
    assert {codes(outcome)[0] for outcome in outcomes} == {250}
    assert (hop.most_open, len(hop.messages)) == (3, 60)
    await pool.close()


async def test_a_new_destination_begins_with_few_connections_and_grows_with_success(hop: NextHop) -> None:
    waiting = asyncio.Event()
    hop.on("END", waiting)
    pool = pool_of()
    sending = [asyncio.create_task(send(pool, hop, limit=40)) for _ in range(200)]
    await hop.arrival(pool_module.FIRST_WINDOW)
    assert hop.connections == pool_module.FIRST_WINDOW
    waiting.set()
    await asyncio.gather(*sending)
    assert pool_module.FIRST_WINDOW < hop.most_open <= 40
    await pool.close()


async def test_sources_take_turns_at_a_full_destination(hop: NextHop) -> None:
    waiting = asyncio.Event()
    hop.on("END", waiting, times=1)
    pool = pool_of()
    sending = [asyncio.create_task(send(pool, hop, "busy", 1, f"busy{number}@partner.example")) for number in range(6)]
    await hop.arrival()
    sending += [asyncio.create_task(send(pool, hop, "calm", 1, f"calm{number}@partner.example")) for number in range(2)]
    await asyncio.sleep(0)
    waiting.set()
    await asyncio.gather(*sending)
    order = [taken.recipients[0][:5] for taken in hop.messages]
    assert order == ["busy0", "busy1", "calm0", "busy2", "calm1", "busy3", "busy4", "busy5"]
    await pool.close()


async def test_when_nobody_can_connect_all_who_wait_learn_it_at_once() -> None:
    async with NextHop() as hop:
        hop.on("CONNECT", Does.STALL)
        pool = pool_of(timeouts=IMPATIENT)
        results = await asyncio.gather(*(send(pool, hop, limit=2) for _ in range(50)), return_exceptions=True)
        assert {type(result) for result in results} == {Unreachable}
        assert hop.connections <= 2
        assert pool.open_connections == 0
        await pool.close()


async def test_a_host_that_takes_no_more_connections_serves_all_over_those_it_has(hop: NextHop) -> None:
    waiting = asyncio.Event()
    hop.on("END", waiting, times=2)
    pool = pool_of()
    sending = [asyncio.create_task(send(pool, hop, limit=20)) for _ in range(2)]
    await hop.arrival(2)
    hop.on("CONNECT", "421 4.7.0 Too many connections")
    sending += [asyncio.create_task(send(pool, hop, limit=20)) for _ in range(20)]
    await hop.until(lambda: hop.connections > 2)
    waiting.set()
    outcomes = await asyncio.gather(*sending)
    assert {codes(outcome)[0] for outcome in outcomes} == {250}
    assert {taken.connection for taken in hop.messages} == {1, 2}
    assert hop.connections < 12  # it did not try for each message
    await pool.close()


async def test_waiting_for_a_full_destination_is_bounded(hop: NextHop) -> None:
    waiting = asyncio.Event()
    hop.on("END", waiting)
    pool = pool_of(wait_seconds=0.05)
    first = asyncio.create_task(send(pool, hop, limit=1))
    await hop.arrival()
    with pytest.raises(Crowded):
        await send(pool, hop, limit=1)
    waiting.set()
    assert codes(await first) == [250]
    assert codes(await send(pool, hop, limit=1)) == [250]
    await pool.close()


async def test_one_who_leaves_the_line_holds_nobody_up(hop: NextHop) -> None:
    waiting = asyncio.Event()
    hop.on("END", waiting)
    pool = pool_of()
    sending = [asyncio.create_task(send(pool, hop, limit=1)) for _ in range(4)]
    await hop.arrival()
    sending[1].cancel()
    sending[2].cancel()
    waiting.set()
    results = await asyncio.gather(*sending, return_exceptions=True)
    assert [type(result) for result in results] == [
        Outcome,
        asyncio.CancelledError,
        asyncio.CancelledError,
        Outcome,
    ]
    await pool.close()


async def test_one_who_is_cancelled_as_his_turn_comes_passes_it_on(hop: NextHop) -> None:
    pool = pool_of()
    for _ in range(30):
        first = asyncio.create_task(send(pool, hop, limit=1))
        second = asyncio.create_task(send(pool, hop, limit=1))
        third = asyncio.create_task(send(pool, hop, limit=1))
        first.add_done_callback(lambda _, task=second: task.cancel())  # in the very moment of handing over
        assert codes(await asyncio.wait_for(third, 5)) == [250]
        await asyncio.gather(first, second, return_exceptions=True)
    assert hop.most_open == 1
    await pool.close()


async def test_a_cancelled_parcel_frees_its_place(hop: NextHop) -> None:
    hop.on("END", Does.STALL, times=1)
    pool = pool_of()
    sending = asyncio.create_task(send(pool, hop, limit=1))
    await hop.arrival()
    next_one = asyncio.create_task(send(pool, hop, limit=1))
    await asyncio.sleep(0)
    sending.cancel()
    assert codes(await asyncio.wait_for(next_one, 5)) == [250]
    await pool.close()


async def test_the_process_has_so_many_connections_and_no_more() -> None:
    async with NextHop() as one, NextHop() as two, NextHop() as three:
        pool = pool_of(connections=2, wait_seconds=5.0)
        await send(pool, one)
        await send(pool, two)
        # Both places are taken by idle connections: one of them goes.
        assert codes(await send(pool, three)) == [250]
        assert pool.open_connections == 2
        waiting = asyncio.Event()
        for hop in (one, two, three):
            hop.on("END", waiting)
        sending = [asyncio.create_task(send(pool, hop)) for hop in (one, two, three) for _ in range(4)]
        await three.until(lambda: sum(len(hop.messages) for hop in (one, two, three)) == 3 + 2)
        assert one.open + two.open + three.open == 2
        for hop in (one, two, three):
            hop.forget()
        waiting.set()
        assert {codes(outcome)[0] for outcome in await asyncio.gather(*sending)} == {250}
        await pool.close()


async def test_destinations_that_nobody_uses_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "SWEEP_SECONDS", 0.01)
    pool = pool_of(idle_seconds=0.0)
    async with NextHop() as hop:
        dead = hop.port
    for number in range(20):
        nowhere = Endpoint(f"mx{number}.example", "127.0.0.1", dead)
        with pytest.raises(Unreachable):
            await pool.send(nowhere, parcel(), source="a", max_connections=5)
    assert pool.destinations == 0
    async with NextHop() as hop:
        await send(pool, hop)
        await hop.until(lambda: pool.destinations == 0 and hop.open == 0)


async def test_closing_takes_leave_of_idle_connections(hop: NextHop) -> None:
    pool = pool_of()
    await asyncio.gather(*(send(pool, hop) for _ in range(3)))
    await pool.close()
    await hop.until(lambda: hop.open == 0)
    assert hop.commands.count("QUIT") == 3


def test_it_works_on_uvloop_too() -> None:
    async def go() -> None:
        async with NextHop() as hop:
            pool = pool_of()
            outcomes = await asyncio.gather(*(send(pool, hop, limit=2) for _ in range(40)))
            assert {codes(outcome)[0] for outcome in outcomes} == {250}
            assert (hop.most_open, len(hop.messages)) == (2, 40)
            await pool.close()

    uvloop.run(go())
