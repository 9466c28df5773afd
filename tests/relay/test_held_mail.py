"""Held mail: its bytes go from the spool to the vault, and come back whole when it is released."""

import asyncio
import errno
from datetime import UTC, datetime, timedelta

import pytest

from gateway.accepted import Accepted, Location, State
from gateway.mail.address import Address
from gateway.mail.envelope import Direction
from gateway.mail.errors import Conflict, Malformed, NotFound
from gateway.masterkey import create_master_key, load_master_key
from gateway.relay.answers import StoreAnswers
from gateway.relay.held_mail import VAULT_KIND, clear_vault, move_to_vault, pack, redirect, unpack
from gateway.relay.release import Releases
from gateway.relay.schedule_worker import Schedule, keep_held
from gateway.relay.segments import SegmentKeeper
from gateway.settings import Settings
from gateway.spool import read
from gateway.spool.sent import SentIds
from gateway.store import held, messages, queue
from gateway.store.queue import DeliveryKey
from gateway.vault import Vault
from gateway.verdict import SentMessageQuestion
from tests.relay.conftest import RAW, Logged, Place
from tests.store.make import ADA, BOB, OUTSIDER, accepted


@pytest.fixture
def settings(place: Place) -> Settings:
    settings = Settings(data_dir=place.data_dir)
    create_master_key(settings.master_key)
    return settings


@pytest.fixture
def vault(settings: Settings) -> Vault:
    return Vault(settings.vault, load_master_key(settings.master_key))


async def hold(place: Place, *to: object, **changes: object) -> tuple[Accepted, Location]:
    usual = {"held": "business_only", "held_reason": "business_only:unknown-sender"}
    one, location = await place.accept(*to, **{**usual, **changes})
    await place.importer._import_once()
    return one, location


def test_an_object_holds_head_and_message() -> None:
    one = accepted(subject="Größe")
    assert unpack(pack(one, RAW)) == (one, RAW)
    assert unpack(pack(one, b"")) == (one, b"")


@pytest.mark.parametrize("data", [b"", b"\x01", b"\xff\xff\xff\xff", b"\x02\0\0\0\xc1\xc1", pack(accepted(), b"")[:20]])
def test_what_is_no_held_message_is_told(data: bytes) -> None:
    with pytest.raises(Malformed):
        unpack(data)


async def test_held_bytes_move_to_the_vault_and_free_the_spool(place: Place, settings: Settings, vault: Vault) -> None:
    one, location = await hold(place)
    assert move_to_vault(settings, place.database, vault) == 1
    [item] = held.list_items(place.database)
    assert item.location is None
    head, body = unpack(vault.get(item.vault_name))
    assert (head.id, body) == (one.id, RAW)
    await place.spool.roll()
    keeper = SegmentKeeper(place.spool, place.database, place.importer, root=place.root)
    await keeper.tidy()
    assert not (place.root / location.segment).exists()
    assert move_to_vault(settings, place.database, vault) == 0


async def test_many_are_moved_in_one_turn_as_long_as_there_is_time(
    place: Place, settings: Settings, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = held.outside_vault
    monkeypatch.setattr(held, "outside_vault", lambda database, after: page(database, after=after, limit=2))
    for _ in range(5):
        await hold(place)
    assert move_to_vault(settings, place.database, vault, seconds=0.0) == 0
    assert move_to_vault(settings, place.database, vault) == 5


async def test_what_another_host_has_is_left_to_it(
    place: Place, settings: Settings, vault: Vault, logged: Logged
) -> None:
    _, location = await hold(place)
    (place.root / location.segment).parent.rename(place.root.parent / "elsewhere")
    assert move_to_vault(settings, place.database, vault) == 0
    assert logged("spool.damaged") == []


async def test_a_record_that_cannot_be_read_holds_up_no_other(
    place: Place, settings: Settings, vault: Vault, logged: Logged
) -> None:
    _, lost = await hold(place)
    await place.spool.roll()
    one, _ = await hold(place)
    (place.root / lost.segment).unlink()
    assert move_to_vault(settings, place.database, vault) == 1
    names = {item.message_id: item.vault_name for item in held.list_items(place.database)}
    assert names.pop(one.id) != ""
    assert list(names.values()) == [""]
    assert len(logged("spool.damaged")) == 1


def release(place: Place, settings: Settings) -> int:
    [item] = held.list_items(place.database)
    with Releases(settings, place.database) as releases:
        return len(releases.release(item, by="ann", reason="expected").released)


def vault_files(settings: Settings) -> int:
    return sum(path.is_file() for path in settings.vault.rglob("*"))


async def test_what_is_given_up_leaves_the_vault_and_what_waits_stays(
    place: Place, settings: Settings, vault: Vault
) -> None:
    one, _ = await hold(place, ADA, BOB)
    two, _ = await hold(place, ADA)
    waits, _ = await hold(place, ADA)
    move_to_vault(settings, place.database, vault)
    now = datetime.now(UTC)
    held.delete(place.database, one.id, 0, by="ann", now=now, reason="unwanted", recipients=[ADA])
    assert clear_vault(place.database, vault) == 0  # the other recipient's waits
    held.delete(place.database, one.id, 0, by="ann", now=now, reason="unwanted")
    queue.delete(place.database, [DeliveryKey(two.id, 0, ADA)], by="ann", now=now, reason="unwanted")
    assert vault_files(settings) == 3
    assert clear_vault(place.database, vault) == 2
    assert clear_vault(place.database, vault) == 0
    [item] = held.list_items(place.database)
    assert (item.message_id, unpack(vault.get(item.vault_name))[1]) == (waits.id, RAW)
    held.expire(place.database, before=now + timedelta(days=1), now=now)
    assert clear_vault(place.database, vault) == 1
    assert vault_files(settings) == 0


async def test_an_object_that_cannot_be_removed_holds_up_no_other(
    place: Place, settings: Settings, vault: Vault, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = held.left_in_vault
    monkeypatch.setattr(held, "left_in_vault", lambda database, after: page(database, after=after, limit=1))
    gone = [(await hold(place))[0] for _ in range(3)]
    move_to_vault(settings, place.database, vault)
    names = sorted(item.vault_name for item in held.list_items(place.database))
    stubborn = settings.vault / names[0]
    stubborn.unlink()
    stubborn.mkdir()
    for one in gone:
        held.delete(place.database, one.id, 0, by="ann", now=datetime.now(UTC), reason="unwanted")
    assert clear_vault(place.database, vault) == 2
    assert [event["error"].split(":")[0] for event in logged("job.failed")] == [names[0]]
    stubborn.rmdir()
    assert clear_vault(place.database, vault) == 1


async def test_on_a_full_disk_the_vault_makes_room_first(
    place: Place, settings: Settings, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = await hold(place)
    move_to_vault(settings, place.database, vault)
    await hold(place)
    held.delete(place.database, one.id, 0, by="ann", now=datetime.now(UTC), reason="unwanted")

    def put(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Vault, "put", put)
    schedule = Schedule(settings)
    schedule.database.close()
    schedule.database = place.database
    with pytest.raises(OSError, match="No space"):
        keep_held(schedule)
    assert vault_files(settings) == 0


async def test_what_is_held_again_before_its_object_went_keeps_or_loses_it_by_name(
    place: Place, settings: Settings, vault: Vault
) -> None:
    one, _ = await hold(place, ADA)
    move_to_vault(settings, place.database, vault)
    assert await asyncio.to_thread(release, place, settings) == 1
    keeper = SegmentKeeper(place.spool, place.database, place.importer, root=place.root, adopts=True)
    keeper.adopt_dead()
    now = datetime.now(UTC)
    queue.hold(place.database, [DeliveryKey(one.id, 0, ADA)], by="ann", now=now, reason="once more")
    assert clear_vault(place.database, vault) == 0  # it waits again
    held.delete(place.database, one.id, 0, by="ann", now=now, reason="unwanted")
    assert clear_vault(place.database, vault) == 1
    assert vault_files(settings) == 0


async def test_what_is_still_in_the_spool_is_released_from_there(place: Place, settings: Settings) -> None:
    one, location = await hold(place, ADA, BOB)
    assert await asyncio.to_thread(release, place, settings) == 2
    assert place.states(one) == [State.QUEUED, State.QUEUED]
    assert queue.waiting_locations(place.database, location.segment) == [location]
    assert held.list_items(place.database) == []


async def test_what_is_in_the_vault_comes_back_to_the_spool_and_can_be_taken_over(
    place: Place, settings: Settings, vault: Vault
) -> None:
    one, _ = await hold(place)
    move_to_vault(settings, place.database, vault)
    [item] = held.list_items(place.database)
    assert await asyncio.to_thread(release, place, settings) == 1
    assert place.states(one) == [State.QUEUED]
    # The bytes are in a folder of a process that has ended: whoever works on the queue adopts it.
    keeper = SegmentKeeper(place.spool, place.database, place.importer, root=place.root, adopts=True)
    keeper.adopt_dead()
    assert place.states(one) == [State.QUEUED]
    now = datetime.now(UTC)
    [claim] = queue.claim(place.database, owner="x", now=now, limit=9, lease_seconds=9, is_here=lambda _: True)
    head, body = read(place.root, claim.location)
    assert (head.id, head.held, body) == (one.id, "", RAW)
    # There is as much time to deliver it as a new message has.
    assert head.expires_at - now > timedelta(days=4)
    assert clear_vault(place.database, vault) == 1
    with pytest.raises(NotFound):
        vault.get(item.vault_name)


@pytest.mark.parametrize("is_in_vault", [False, True])
async def test_what_is_redirected_has_its_bytes_and_what_waits_on_keeps_them(
    place: Place, settings: Settings, vault: Vault, is_in_vault: bool
) -> None:
    one, _ = await hold(place, ADA, BOB, held="undeliverable")
    if is_in_vault:
        move_to_vault(settings, place.database, vault)

    def order(whose: Address) -> int:
        keys = [DeliveryKey(one.id, 0, whose)]
        return redirect(settings, place.database, keys, OUTSIDER, by="ann", reason="left")

    assert await asyncio.to_thread(order, ADA) == 1
    now = datetime.now(UTC)
    [claim] = queue.claim(place.database, owner="x", now=now, limit=9, lease_seconds=9, is_here=lambda _: True)
    assert [str(due.address) for due in claim.recipients] == [str(OUTSIDER)]
    assert read(place.root, claim.location)[1] == RAW
    # Bob's share is still held, with its bytes.
    [item] = held.list_items(place.database)
    assert item.recipients == (BOB,)
    assert (unpack(vault.get(item.vault_name))[1] == RAW) if is_in_vault else item.location is not None
    assert await asyncio.to_thread(order, BOB) == 1
    assert held.list_items(place.database) == []
    assert clear_vault(place.database, vault) == int(is_in_vault)
    assert vault_files(settings) == 0


async def test_what_fails_after_its_release_is_held_and_released_again(
    place: Place, settings: Settings, vault: Vault
) -> None:
    one, _ = await hold(place)
    move_to_vault(settings, place.database, vault)
    assert await asyncio.to_thread(release, place, settings) == 1
    [again] = queue.list_waiting(place.database)
    assert queue.hold(place.database, [again.key], by="ann", now=datetime.now(UTC), reason="wait") == 1
    [item] = held.list_items(place.database)
    assert item.location is not None
    assert await asyncio.to_thread(release, place, settings) == 1
    assert place.states(one) == [State.QUEUED]
    # And from the vault too, where it has gone once more.
    queue.hold(place.database, [again.key], by="ann", now=datetime.now(UTC), reason="wait")
    assert move_to_vault(settings, place.database, vault) == 1
    assert await asyncio.to_thread(release, place, settings) == 1
    now = datetime.now(UTC)
    [claim] = queue.claim(place.database, owner="x", now=now, limit=9, lease_seconds=9, is_here=lambda _: True)
    assert read(place.root, claim.location)[1] == RAW


@pytest.mark.parametrize("is_in_vault", [False, True])
async def test_a_bounce_may_answer_what_was_released(
    place: Place, settings: Settings, vault: Vault, is_in_vault: bool
) -> None:
    ids = {"message_id": "<in@corp.example>", "sent_message_id": "<out@corp.example>"}
    await hold(place, OUTSIDER, direction=Direction.OUTBOUND, mail_from=ADA, **ids)
    if is_in_vault:
        move_to_vault(settings, place.database, vault)
    engine = StoreAnswers(place.database, SentIds(place.root), lambda: False)
    questions = [SentMessageQuestion((id,)) for id in ids.values()]
    assert list((await engine.answer(questions)).values()) == [(), ()]
    assert await asyncio.to_thread(release, place, settings) == 1
    assert list((await engine.answer(questions)).values()) == [(id,) for id in ids.values()]


async def test_a_damaged_object_is_not_released(place: Place, settings: Settings, vault: Vault) -> None:
    one, _ = await hold(place)
    move_to_vault(settings, place.database, vault)
    [item] = held.list_items(place.database)
    path = next(path for path in settings.vault.rglob("*") if path.is_file())
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(Malformed):
        await asyncio.to_thread(release, place, settings)
    assert place.states(one) == [State.HELD]
    assert held.list_items(place.database) == [item]


async def test_what_was_released_meanwhile_is_not_released_again(
    place: Place, settings: Settings, vault: Vault
) -> None:
    one, _ = await hold(place)
    move_to_vault(settings, place.database, vault)
    [item] = held.list_items(place.database)
    assert await asyncio.to_thread(release, place, settings) == 1
    assert vault.put(VAULT_KIND, f"0-{one.id}", pack(one, RAW)) == item.vault_name  # as if he had read it just before
    with Releases(settings, place.database) as releases, pytest.raises(Conflict, match="released by ann"):
        await asyncio.to_thread(releases.release, item, by="ben", reason="expected, too")
    keeper = SegmentKeeper(place.spool, place.database, place.importer, root=place.root, adopts=True)
    keeper.adopt_dead()
    assert len(messages.outcomes(place.database, one.id)) == 1
    assert place.states(one) == [State.QUEUED]
