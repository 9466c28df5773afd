"""Claims of what is due, in turns, and leases that end with their owners."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from gateway.accepted import Location, State
from gateway.mail.address import Address
from gateway.mail.envelope import Direction
from gateway.store import queue
from gateway.store.database import Database
from gateway.store.queue import Claim, ClaimedRecipient, DeliveryKey
from tests.store.make import ADA, BOB, NOW, OWNER, accepted, item, location, settled, states, store

# PostgreSQL goes by its own clock, so what is to be due there is due long before that.
PAST = NOW.replace(year=2020)


def claim(database: Database, owner: str = "me", **changes: Any) -> list[Claim]:
    return queue.claim(database, **({"owner": owner, "now": PAST, "limit": 100, "lease_seconds": 60} | changes))


def queued(to: Address = ADA, source: str = "", number: int = 0, **changes: Any) -> Any:
    at = changes.pop("at", PAST)
    return item(accepted(to, at=at, source=source, **changes), owner="", place=location(number))


def test_what_is_due_is_claimed_with_its_record(database: Database) -> None:
    one = accepted(ADA, BOB, at=PAST, source="S1")
    store(
        database, item(one, settled(one, State.QUEUED, due_at=PAST, attempts=3), settled(one, State.DELIVERED, to=BOB))
    )
    (mine,) = claim(database)
    assert mine == Claim(
        one.id, 0, location(), "S1", (ClaimedRecipient(ADA, Direction.INBOUND, attempts=3, is_delay_told=False),)
    )
    assert states(database, one.id) == {"ada@corp.example": State.ACTIVE, "bob@corp.example": State.DELIVERED}


def test_what_is_claimed_is_not_claimed_again(database: Database) -> None:
    store(database, queued())
    assert len(claim(database, "me")) == 1
    assert claim(database, "you") == []
    assert claim(database, "me") == []


def test_what_is_not_due_yet_waits(sqlite: Database) -> None:
    one = accepted(at=PAST)
    store(sqlite, item(one, settled(one, State.QUEUED, due_at=PAST + timedelta(minutes=5))))
    assert claim(sqlite, now=PAST + timedelta(minutes=4)) == []
    assert len(claim(sqlite, now=PAST + timedelta(minutes=5))) == 1


def test_what_is_due_further_ahead_than_any_back_off_is_due_since_the_clock_has_jumped(sqlite: Database) -> None:
    one = accepted(at=PAST)
    store(sqlite, item(one, settled(one, State.QUEUED, due_at=PAST + timedelta(days=30))))
    assert len(claim(sqlite)) == 1


def test_sources_and_domains_take_turns(database: Database) -> None:
    flood = [queued(Address(f"user{number}", "flood.example"), source="S1", number=number) for number in range(50)]
    after = PAST + timedelta(hours=1)
    few = [
        queued(Address("a", "calm.example"), source="S1", number=90, at=after),
        queued(Address("b", "calm.example"), source="S2", number=91, at=after),
        queued(Address("c", "calm.example"), source="", number=92, at=after),
    ]
    store(database, *flood, *few)
    taken = claim(database, limit=6, now=after)
    assert sorted(one.recipients[0].address.domain for one in taken) == ["calm.example"] * 3 + ["flood.example"] * 3
    assert {one.source for one in taken} == {"", "S1", "S2"}


def test_paused_domains_are_left_alone(database: Database) -> None:
    store(database, queued(Address("a", "slow.example")), queued(Address("a", "fast.example"), number=1))
    (mine,) = claim(database, paused=["slow.example"])
    assert mine.recipients[0].address.domain == "fast.example"


def test_only_records_of_the_own_host_are_claimed(database: Database) -> None:
    for folder in ("mx-smtp-0a1b2c3d-1-beef", "mx-2-smtp-0a1b2c3d-1-beef", "other-smtp-0a1b2c3d-1-beef"):
        store(database, item(accepted(at=PAST), owner="", place=Location(f"{folder}/00000001.seg", 0, 10)))
    assert [one.location.segment for one in claim(database, host="mx")] == ["mx-smtp-0a1b2c3d-1-beef/00000001.seg"]
    assert len(claim(database, host="mx-2")) == 1
    assert len(claim(database)) == 1


def test_the_limit_counts_groups_and_all_due_recipients_of_a_group_come_together(database: Database) -> None:
    store(database, *[item(accepted(ADA, BOB, at=PAST), owner="", place=location(number)) for number in range(3)])
    taken = claim(database, limit=2)
    assert [len(one.recipients) for one in taken] == [2, 2]


def test_what_an_owner_out_of_sight_had_in_hand_is_claimed_after_the_lease(database: Database) -> None:
    store(database, item(accepted(at=PAST)))
    now = PAST + timedelta(minutes=6)
    (mine,) = claim(database, now=now, is_here=lambda owner: owner != OWNER)
    assert mine.location == location()
    assert claim(database, "you", now=now, is_here=lambda owner: True) == []


def test_an_owner_whose_folder_is_here_keeps_what_it_has_even_when_the_clock_jumps_a_month(sqlite: Database) -> None:
    store(sqlite, item(accepted(at=PAST)))
    for days in (-30, 30):
        assert claim(sqlite, now=PAST + timedelta(days=days), is_here=lambda owner: True) == []


def test_a_lease_of_somebody_out_of_sight_holds_until_its_time(sqlite: Database) -> None:
    store(sqlite, item(accepted(at=PAST)))
    assert claim(sqlite, now=PAST + timedelta(minutes=4)) == []
    assert len(claim(sqlite, now=PAST - timedelta(days=30))) == 1  # it ends further ahead than any lease does


def test_a_renewed_lease_holds_longer(sqlite: Database) -> None:
    store(sqlite, item(accepted(ADA, BOB, at=PAST)))
    assert queue.renew(sqlite, OWNER, PAST + timedelta(minutes=10)) == 2
    assert queue.renew(sqlite, "nobody", PAST + timedelta(minutes=10)) == 0
    assert claim(sqlite, now=PAST + timedelta(minutes=9)) == []


def test_what_an_owner_releases_is_due_at_once(database: Database) -> None:
    one, two = accepted(at=PAST), accepted(at=PAST)
    store(database, item(one), item(two, settled(two, State.DELIVERED)))
    assert queue.release_owner(database, OWNER, now=PAST) == 1
    assert [mine.message_id for mine in claim(database)] == [one.id]


def test_two_who_claim_at_once_never_get_the_same(database: Database) -> None:
    store(database, *[queued(number=number) for number in range(300)])

    def take(owner: str) -> Iterable[tuple[str, int]]:
        taken: list[tuple[str, int]] = []
        while some := claim(database, owner, limit=7):
            taken += [(one.message_id, one.group) for one in some]
        return taken

    with ThreadPoolExecutor(4) as threads:
        shares = list(threads.map(take, ["a", "b", "c", "d"]))
    everything = [group for share in shares for group in share]
    # On PostgreSQL one may find all that it looked at taken and stop: what is left is taken now.
    everything += [(one.message_id, one.group) for one in claim(database, "e", limit=300)]
    assert len(everything) == len(set(everything)) == 300


def test_a_told_delay_is_known_to_the_next_attempt(database: Database) -> None:
    one = accepted(at=PAST)
    store(database, item(one, settled(one, State.QUEUED, due_at=PAST, notice_due="delayed")))
    queue.notice_sent(database, [DeliveryKey(one.id, 0, ADA)], now=PAST)
    (mine,) = claim(database)
    assert mine.recipients[0].is_delay_told
