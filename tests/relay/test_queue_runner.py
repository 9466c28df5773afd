"""The queue's engine with a real spool, database, importer and next hop."""

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.accepted import Accepted, Location, Settled, State
from gateway.engines.dns import DnsResolver
from gateway.mail.address import Address
from gateway.mail.dsn import read_dsn
from gateway.mail.envelope import Direction, Notify, Recipient
from gateway.relay.delivery import Delivery
from gateway.relay.hops import Hops
from gateway.relay.importer import Importer
from gateway.relay.notices import Notices
from gateway.relay.pool import Pool, PoolSettings
from gateway.relay.queue_runner import QueueRunner, QueueSettings, _Memory, due_of
from gateway.relay.segments import SegmentKeeper
from gateway.spool import Spool, new_owner
from gateway.spool.journal import Journal
from gateway.store import database as database_module
from gateway.store import held, messages, queue
from gateway.store.claiming import Claim, ClaimedRecipient
from gateway.store.database import Database
from gateway.store.messages import DeliveryRow, ImportItem
from tests.nexthop import Does, NextHop
from tests.parcels import NOW, QUICK, RAW, accepted, address, policy
from tests.store.conftest import migrated_file

__all__ = ["migrated_file"]


class PostOffice:
    """A deliver process without its frame. `now` is the time of its clock."""

    def __init__(self, root: Path, database: Database, hop: NextHop, **settings: Any) -> None:
        self.now = NOW
        self.root = root / "spool"
        self.owner = new_owner("deliver")
        self.database = database
        self.spool = Spool(self.root, self.owner)
        self.importer = Importer(database, self.owner, Journal(self.root / self.owner), max_unimported=100)
        self.policy = policy(hop)
        pool = Pool(lambda: "mx.corp.example", PoolSettings(timeouts=QUICK))
        self.delivery = Delivery(pool, Hops(DnsResolver([("127.0.0.1", 1)])), self.importer.settle, clock=self.clock)
        self.notices = Notices(database, self.spool, lambda: self.policy, self.queued, owner="runner", clock=self.clock)
        self.runner = QueueRunner(
            database,
            self.root,
            self.owner,
            self.delivery,
            lambda: self.policy,
            self.notices,
            QueueSettings(**{"poll_seconds": 0.02, **settings}),
            after_settle=self.importer.after_settle,
            clock=self.clock,
        )
        self.tasks: list[asyncio.Task[None]] = []

    def clock(self) -> Any:
        return self.now

    def queued(self, group: Accepted, location: Location, pieces: Any) -> None:
        self.importer.put(group, location)
        self.delivery.first_attempt(group, pieces, self.policy)

    def start(self) -> None:
        self.tasks = [asyncio.create_task(self.importer.run()), asyncio.create_task(self.runner.run())]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        for result in await asyncio.gather(*self.tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError), result
        await self.runner.close(0.2)
        await self.delivery.close(0.2)
        await self.importer.finish(2)
        self.spool.close()

    async def take(
        self, group: Accepted, raw: bytes = RAW, *, leased_to: str = "", location: Location | None = None
    ) -> Location:
        """Put a group into spool (unless it lies there) and database, queued or leased to somebody."""
        if location is None:
            [location] = await self.spool.append([(group, (raw,))])
        item = ImportItem(group, location, (), leased_to, self.now + timedelta(minutes=5))
        messages.import_batch(self.database, [item])
        return location

    def rows(self, group: Accepted) -> dict[str, DeliveryRow]:
        return {str(row.recipient): row for row in messages.outcomes(self.database, group.id)}

    async def until(self, group: Accepted, *states: State) -> dict[str, DeliveryRow]:
        """Wait until the deliveries of a group have these states, by recipient."""
        async with asyncio.timeout(15):
            while tuple(row.state for row in self.rows(group).values()) != states:
                await asyncio.sleep(0.01)
        return self.rows(group)


@pytest.fixture
async def hop() -> AsyncIterator[NextHop]:
    async with NextHop() as running:
        yield running


@pytest.fixture
async def office(tmp_path: Path, migrated_file: Path, hop: NextHop) -> AsyncIterator[PostOffice]:
    async with an_office(tmp_path, migrated_file, hop) as made:
        made.start()
        yield made


@contextlib.asynccontextmanager
async def an_office(root: Path, file: Path, hop: NextHop, **settings: Any) -> AsyncIterator[PostOffice]:
    shutil.copy(file, root / "gatepost.sqlite")
    database = Database(f"sqlite:///{root / 'gatepost.sqlite'}", data_dir=root)
    made = PostOffice(root, database, hop, **settings)
    try:
        yield made
    finally:
        await made.stop()
        database.close()


async def test_what_waits_is_delivered_and_needs_its_bytes_no_more(office: PostOffice, hop: NextHop) -> None:
    group = accepted("ann@partner.example", "al@partner.example")
    location = await office.take(group)
    rows = await office.until(group, State.DELIVERED, State.DELIVERED)
    assert (hop.messages[0].raw, hop.messages[0].recipients) == (RAW, ["al@partner.example", "ann@partner.example"])
    assert {(row.attempts, row.last_reply) for row in rows.values()} == {(1, "250 2.0.0 Taken")}
    assert queue.unsettled_segments(office.database, [location.segment]) == set()


async def test_recipients_of_one_message_go_their_own_ways(office: PostOffice, hop: NextHop) -> None:
    hop.on("RCPT", "451 4.2.1 Later", when="carol@")
    hop.on("RCPT", "550 5.1.1 No such user", when="bob@")
    group = accepted("ann@partner.example", "bob@partner.example", "carol@partner.example")
    await office.take(group)
    rows = await office.until(group, State.DELIVERED, State.FAILED, State.QUEUED)
    assert rows["carol@partner.example"].due_at is not None
    assert timedelta(seconds=45) < rows["carol@partner.example"].due_at - NOW < timedelta(seconds=75)


async def test_a_temporary_failure_is_tried_again_when_it_is_due(office: PostOffice, hop: NextHop) -> None:
    hop.on("RCPT", "451 4.7.1 Greylisted", times=1)
    group = accepted()
    await office.take(group)
    [row] = (await office.until(group, State.QUEUED)).values()
    while not row.attempts:
        await asyncio.sleep(0.01)
        [row] = office.rows(group).values()
    assert (row.attempts, row.last_reply) == (1, "451 4.7.1 Greylisted")
    office.now += timedelta(seconds=30)
    await asyncio.gather(*(office.take(accepted(number=number)) for number in range(2, 5)))
    await hop.arrival(3)  # the runner has looked at the queue since
    assert office.rows(group)["ann@partner.example"].attempts == 1
    office.now += timedelta(seconds=60)
    rows = await office.until(group, State.DELIVERED)
    assert rows["ann@partner.example"].attempts == 2


async def test_a_failure_is_told_to_the_sender_once(office: PostOffice, hop: NextHop) -> None:
    hop.on("END", "554 5.7.1 We do not like it", when="ann@")
    group = accepted()
    location = await office.take(group)
    await office.until(group, State.FAILED)
    await hop.until(lambda: any("bob@corp.example" in taken.recipients for taken in hop.messages))
    notice = next(taken for taken in hop.messages if "bob@corp.example" in taken.recipients)
    assert notice.mail.startswith("FROM:<> ")
    assert notice.rcpts == ["TO:<bob@corp.example> NOTIFY=NEVER"]
    found = read_dsn(notice.raw)
    assert found is not None
    assert [(one.final, one.status, one.diagnostic) for one in found.recipients] == [
        ("ann@partner.example", "5.7.1", "554 5.7.1 We do not like it")
    ]
    await hop.until(lambda: not queue.notices_due(office.database, 10))
    await hop.until(lambda: messages.recent(office.database, 10, search="Notice"))
    [about] = messages.recent(office.database, 10, search="Notice")
    assert about.is_notice
    await office.until(msgspec.structs.replace(group, id=about.id), State.DELIVERED)
    assert len(hop.messages) == 2
    assert queue.unsettled_segments(office.database, [location.segment]) == set()


async def test_a_notice_that_cannot_be_delivered_ends_quietly(office: PostOffice, hop: NextHop) -> None:
    hop.on("RCPT", "550 5.1.1 Nobody here")
    group = accepted()
    await office.take(group)
    await office.until(group, State.FAILED)
    await hop.until(lambda: messages.recent(office.database, 10, search="Notice"))
    [about] = messages.recent(office.database, 10, search="Notice")
    await office.until(msgspec.structs.replace(group, id=about.id), State.FAILED)
    assert queue.notices_due(office.database, 10) == []
    assert len(messages.recent(office.database, 10)) == 2


async def test_a_delay_is_told_while_the_message_waits(office: PostOffice, hop: NextHop) -> None:
    hop.on("RCPT", "451 4.3.0 Later", when="ann@")
    patient = Recipient(address("ann@partner.example"), Direction.OUTBOUND, (Notify.DELAY,))
    group = accepted(patient)
    await office.take(group)
    office.now += timedelta(hours=5)
    await hop.until(lambda: any("bob@corp.example" in taken.recipients for taken in hop.messages))
    found = read_dsn(hop.messages[0].raw)
    assert found is not None
    assert [(one.action, one.status) for one in found.recipients] == [("delayed", "4.3.0")]
    await hop.until(lambda: not queue.notices_due(office.database, 10))
    office.now += timedelta(hours=1)
    async with asyncio.timeout(15):
        while office.rows(group)["ann@partner.example"].attempts < 2:
            await asyncio.sleep(0.01)
    assert queue.notices_due(office.database, 10) == []
    assert office.rows(group)["ann@partner.example"].state is State.QUEUED


async def test_mail_from_outside_is_held_and_nobody_is_told(office: PostOffice, hop: NextHop) -> None:
    hop.on("END", "554 5.7.1 Second scanner: virus")
    group = accepted("bob@corp.example", mail_from="ann@partner.example", direction=Direction.INBOUND)
    location = await office.take(group)
    await office.until(group, State.HELD)
    [item] = held.list_items(office.database)
    assert (item.kind, item.location) == ("undeliverable", location)
    assert queue.notices_due(office.database, 10) == []


async def test_what_expired_is_returned(office: PostOffice, hop: NextHop) -> None:
    hop.on("RCPT", "451 4.3.0 Later", when="ann@")
    group = accepted(expires_at=NOW + timedelta(minutes=2))
    await office.take(group)
    for _ in range(2):
        await asyncio.sleep(0)
        office.now += timedelta(minutes=10)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await office.until(group, State.FAILED)
    [row] = office.rows(group).values()
    assert row.state is State.FAILED
    assert row.last_reply.startswith("5.4.7 gave up after ")


# -- what cannot be read


async def test_a_damaged_record_is_held_for_a_person(office: PostOffice, hop: NextHop) -> None:
    group = accepted()
    [location] = await office.spool.append([(group, (RAW,))])
    path = office.root / location.segment
    octets = bytearray(path.read_bytes())
    octets[-5] ^= 1
    path.write_bytes(bytes(octets))
    messages.import_batch(office.database, [ImportItem(group, location, (), "", NOW)])
    [row] = (await office.until(group, State.HELD)).values()
    assert row.last_reply == "5.3.0 the message cannot be read from the spool"
    assert hop.messages == []


async def test_a_record_that_is_not_found_is_looked_for_again_then_held(office: PostOffice) -> None:
    group = accepted()
    gone = Location(f"{office.owner}/99999999.seg", 0, 100)
    messages.import_batch(office.database, [ImportItem(group, gone, (), "", NOW)])
    for attempts in range(1, 5):
        async with asyncio.timeout(10):
            while office.rows(group)["ann@partner.example"].attempts < attempts:
                await asyncio.sleep(0.01)
        assert office.rows(group)["ann@partner.example"].state is State.QUEUED
        office.now += timedelta(hours=4)
    await office.until(group, State.HELD)


# -- leases


async def test_what_a_dead_worker_delivered_is_not_delivered_again_however_late_he_is_adopted(
    office: PostOffice, hop: NextHop
) -> None:
    """His leases end when what he noted beside the records counts, neither at once nor by time."""
    dead = new_owner("smtp")
    spool, journal = Spool(office.root, dead), Journal(office.root / dead)
    delivered, open_, other = accepted(number=1), accepted(number=2), accepted(number=3)
    for group in (delivered, open_):
        [location] = await spool.append([(group, (RAW,))])
        await office.take(group, leased_to=dead, location=location)
    reply = "250 2.0.0 OK"
    who = delivered.recipients[0].address
    journal.note([Settled(delivered.id, delivered.group, who, State.DELIVERED, reply, "next.example:25", NOW, 1)])
    journal.flush()
    spool.close()  # to others, no different from being killed
    office.now += timedelta(days=30)  # his leases are over by time as well
    await office.take(other)
    await office.until(other, State.DELIVERED)
    assert [office.rows(group)["ann@partner.example"].state for group in (delivered, open_)] == [State.ACTIVE] * 2
    keeper = SegmentKeeper(office.spool, office.database, office.importer, root=office.root, adopts=True)
    keeper.on_adopted = office.runner.wake
    await asyncio.to_thread(keeper.adopt_dead)
    await office.until(open_, State.DELIVERED)
    await office.until(delivered, State.DELIVERED)
    assert len(hop.messages) == 2


async def test_what_a_living_worker_has_in_hand_is_left_to_him(office: PostOffice, hop: NextHop) -> None:
    owner = new_owner("smtp")
    living = Spool(office.root, owner)
    mine, other = accepted(number=1), accepted(number=2)
    await office.take(mine, leased_to=owner)
    office.now += timedelta(days=30)  # the clock jumps; he lives all the same
    await office.take(other)
    await office.until(other, State.DELIVERED)
    assert office.rows(mine)["ann@partner.example"].state is State.ACTIVE
    living.close()


async def test_what_is_under_way_at_the_end_goes_back_to_the_queue(
    tmp_path: Path, migrated_file: Path, hop: NextHop
) -> None:
    hop.on("END", Does.STALL)
    async with an_office(tmp_path, migrated_file, hop) as office:
        office.start()
        group = accepted()
        await office.take(group)
        await hop.arrival()
        office.tasks[1].cancel()
        await office.runner.close(0)
        [row] = (await office.until(group, State.QUEUED)).values()
        assert row.attempts == 0


# -- bounds


async def test_so_many_groups_are_in_hand_and_no_more(tmp_path: Path, migrated_file: Path, hop: NextHop) -> None:
    waiting = asyncio.Event()
    hop.on("END", waiting)
    async with an_office(tmp_path, migrated_file, hop, groups_at_once=3) as office:
        for number in range(9):
            await office.take(accepted(number=number))
        office.start()
        await hop.arrival(3)
        assert office.runner.under_way == 3
        assert queue.depth(office.database, now=office.now).queued == 6
        waiting.set()
        await hop.arrival(9)


async def test_memory_is_given_in_turn_and_never_exceeded() -> None:
    memory = _Memory(10)
    order: list[str] = []

    async def use(name: str, amount: int, done: asyncio.Event) -> None:
        await memory.take(amount)
        order.append(name)
        await done.wait()
        memory.give_back(amount)

    events = {name: asyncio.Event() for name in "abcde"}
    sizes = {"a": 6, "b": 4, "c": 5, "d": 100, "e": 1}
    tasks = {name: asyncio.create_task(use(name, sizes[name], events[name])) for name in "abcde"}
    await asyncio.sleep(0)
    assert order == ["a", "b"]
    events["a"].set()
    await asyncio.sleep(0.01)
    assert order == ["a", "b", "c"]
    tasks["d"].cancel()  # who leaves the line holds nobody up
    await asyncio.sleep(0.01)
    events["b"].set()
    await asyncio.sleep(0.01)
    assert order == ["a", "b", "c", "e"]
    events["c"].set()
    events["e"].set()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    await asyncio.wait_for(memory.take(1000), 1)  # alone, a message may be bigger


async def test_a_redirected_recipient_is_tried_under_the_new_address() -> None:
    ann = Recipient(address("ann@partner.example"), Direction.OUTBOUND, (Notify.NEVER,), "rfc822;x@partner.example")
    claim = Claim(
        accepted().id,
        0,
        Location("o/1.seg", 0, 1),
        "",
        (
            ClaimedRecipient(Address("ann", "partner.example"), Direction.OUTBOUND, 3, True),
            ClaimedRecipient(Address("owner", "corp.example"), Direction.INTERNAL, 0, False),
        ),
    )
    known, new = due_of(claim, accepted(ann, "bob@partner.example"))
    assert (known.recipient, known.attempts, known.is_delay_told) == (ann, 3, True)
    assert new.recipient == Recipient(Address("owner", "corp.example"), Direction.INTERNAL)


# -- the database away


async def test_a_claim_whose_answer_was_lost_is_found_again(
    tmp_path: Path, migrated_file: Path, hop: NextHop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.05)
    async with an_office(tmp_path, migrated_file, hop) as office:
        lost, waiting = accepted(number=1), accepted(number=2)
        await office.take(waiting)
        # As after a commit whose answer did not arrive: leased to us, and we do not know of it.
        await office.take(lost, leased_to=office.owner)
        blocker = sqlite3.connect(tmp_path / "gatepost.sqlite", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        office.start()
        await hop.until(lambda: office.runner.may_hold_more)
        assert hop.messages == []
        blocker.execute("ROLLBACK")
        blocker.close()
        await office.until(waiting, State.DELIVERED)
        await office.until(lost, State.DELIVERED)
        assert len(hop.messages) == 2
