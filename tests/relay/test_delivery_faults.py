"""A next hop that fails at random: nothing is lost, and what the hop has acknowledged is never sent again."""

import asyncio
import random
from collections import Counter

import pytest

from gateway.accepted import Accepted, Settled, State
from gateway.engines.dns import DnsResolver
from gateway.relay.delivery import Delivery
from gateway.relay.hops import Hops
from gateway.relay.pool import Pool, PoolSettings
from gateway.relay.retry import Outages
from gateway.relay.settlement import Due
from tests.nexthop import EXTENSIONS, Does, NextHop, PlainStep
from tests.parcels import IMPATIENT, RAW, accepted, policy

CLEAR: dict[str, tuple[PlainStep, ...]] = {
    "CONNECT": ("421 4.3.2 Busy", Does.CLOSE),
    "EHLO": (Does.RESET,),
    "MAIL": ("421 4.3.2 Leaving", "451 4.3.0 Later", Does.CLOSE, b"rubbish\r\n"),
    "RCPT": ("421 4.3.2 Leaving", "451 4.2.1 Later", Does.RESET, b"250 Ok\r\n250 Ok\r\n"),
    "DATA": ("421 4.3.2 Leaving", "451 4.3.0 Later", Does.CLOSE),
    "END": ("451 4.3.0 Later",),
}
# The message has come in whole, and the sender cannot know it.
UNCLEAR: tuple[PlainStep, ...] = (
    Does.CLOSE,
    Does.RESET,
    Does.STALL,
    b"rubbish\r\n",
    b"250-half\r\n",
    "421 4.3.2 Leaving",
)


def script(hop: NextHop, chance: random.Random, unclear: list[int]) -> None:
    """Let a fifth of all steps fail; count the unclear ends."""
    for verb, steps in CLEAR.items():
        if verb != "END":
            hop.on(verb, lambda _line, steps=steps: chance.choice(steps) if chance.random() < 0.2 else None)

    def end(_line: str) -> PlainStep | None:
        if chance.random() < 0.2:
            unclear[0] += 1
            return chance.choice(UNCLEAR)
        return chance.choice(CLEAR["END"]) if chance.random() < 0.2 else None

    hop.on("END", end)


@pytest.mark.parametrize("extensions", [EXTENSIONS, ()])
async def test_nothing_is_lost_and_nothing_acknowledged_is_sent_again(extensions: tuple[str, ...]) -> None:
    chance = random.Random(len(extensions))
    unclear = [0]
    results: list[Settled] = []
    async with NextHop(extensions=extensions) as hop:
        script(hop, chance, unclear)
        pool = Pool(lambda: "mx.corp.example", PoolSettings(timeouts=IMPATIENT, wait_seconds=5))
        delivery = Delivery(pool, Hops(DnsResolver([("127.0.0.1", 1)])), results.extend)
        groups = [
            accepted(*(f"u{number}-{to}@partner.example" for to in range(3)), number=number) for number in range(60)
        ]
        waiting = {group.id: [Due(one) for one in group.recipients] for group in groups}
        for _ in range(200):
            if not any(waiting.values()):
                break
            await _round(delivery, hop, groups, waiting, results)
        assert not any(waiting.values())
        acknowledged = Counter(name for taken in hop.messages if taken.was_acknowledged for name in taken.recipients)
        names = {str(one.address) for group in groups for one in group.recipients}
        assert set(acknowledged) == names
        assert set(acknowledged.values()) == {1}, "taken for failed, and sent again"
        assert unclear[0] > 10, "the script has failed too little to show anything"
        await delivery.close(1)


async def _round(
    delivery: Delivery, hop: NextHop, groups: list[Accepted], waiting: dict[str, list[Due]], results: list[Settled]
) -> None:
    """Try all that wait once; every one of them must be settled exactly once."""
    results.clear()
    delivery.outages = Outages()  # time passes between rounds
    due = [group for group in groups if waiting[group.id]]
    await asyncio.gather(*(delivery.attempt(group, (RAW,), waiting[group.id], policy(hop)) for group in due))
    settled = Counter((one.message_id, str(one.recipient)) for one in results)
    assert settled == Counter((group.id, str(one.recipient.address)) for group in due for one in waiting[group.id])
    done = {(one.message_id, one.recipient) for one in results if one.state is State.DELIVERED}
    assert {one.state for one in results} <= {State.DELIVERED, State.QUEUED}
    for group in due:
        waiting[group.id] = [one for one in waiting[group.id] if (group.id, one.recipient.address) not in done]
