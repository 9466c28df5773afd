"""Which Message-IDs of ours stand in the spool: all that were taken, of whatever owner, or word that it is unknown."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.mail.envelope import Direction
from gateway.spool import Spool, new_owner, sent
from gateway.spool.sent import SentIds
from gateway.verdict import Unknown
from tests.spool_records import accepted, flip, message

ASKED = [f"<{number}@corp.example>" for number in range(10)]
DAMAGED = Unknown("spool is damaged")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path, new_owner("one"))
    yield spool
    spool.close()


async def send(spool: Spool, *numbers: int, size: int = 100, **fields: Any) -> Path:
    """Append one message of ours to the world for each number; return the segment."""
    for number in numbers:
        head = {"direction": Direction.OUTBOUND, "message_id": ASKED[number]} | fields
        [location] = await spool.append([(accepted(number, **head), (message(number, size),))])
    return spool.root / location.segment


def ids(*numbers: int) -> set[str]:
    return {ASKED[number] for number in numbers}


async def test_what_leaves_is_found_under_both_of_its_names(spool: Spool) -> None:
    await send(spool, 1, message_id=" <1@corp.example> ", sent_message_id="<2@corp.example>")
    assert SentIds(spool.root).find([*ASKED, " <2@corp.example>"]) == ids(1, 2)


async def test_what_comes_in_or_is_held_did_not_leave(spool: Spool) -> None:
    await send(spool, 1, direction=Direction.INBOUND)
    await send(spool, 2, direction=Direction.INTERNAL)
    await send(spool, 3, held="quarantine")
    assert SentIds(spool.root).find(ASKED) == set()


async def test_every_owner_counts_the_living_and_the_dead(spool: Spool) -> None:
    await send(spool, 1)
    other = Spool(spool.root, new_owner("two"))
    await send(other, 2)
    shutil.copytree(spool.root / other.owner, spool.root / "gone-host-smtp_1-0a1b2c3d-100-beef")
    other.close()
    await send(spool, 3)
    assert SentIds(spool.root).find(ASKED) == ids(1, 2, 3)


async def test_what_comes_later_is_found_later_and_nothing_is_read_twice(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = SentIds(spool.root)
    assert one.find(ASKED) == set()
    await send(spool, 1, size=10_000)
    assert one.find(ASKED) == ids(1)
    await send(spool, 2)
    await spool.roll()
    await send(spool, 3)
    assert one.find(ASKED) == ids(1, 2, 3)
    monkeypatch.setattr(sent, "read_around", None)
    assert one.find(ASKED) == ids(1, 2, 3)


async def test_a_head_of_any_size_is_read(spool: Spool) -> None:
    await send(spool, 1, trace=b"t" * 20_000)
    await send(spool, 2)
    assert SentIds(spool.root).find(ASKED) == ids(1, 2)


async def test_what_is_unlinked_is_forgotten(spool: Spool) -> None:
    one = SentIds(spool.root)
    segment = await send(spool, 1)
    assert one.find(ASKED) == ids(1)
    segment.unlink()
    assert one.find(ASKED) == set()


def test_a_spool_that_is_not_there_yet_has_nothing(tmp_path: Path) -> None:
    assert SentIds(tmp_path / "spool").find(ASKED) == set()


async def test_a_record_that_is_being_written_was_promised_to_nobody(spool: Spool) -> None:
    segment = await send(spool, 1, 2)
    whole = segment.read_bytes()
    one = SentIds(spool.root)
    os.truncate(segment, len(whole) - 1)
    assert one.find(ASKED) == ids(1)
    os.truncate(segment, len(whole) // 2 + 10)
    assert one.find(ASKED) == ids(1)
    segment.write_bytes(whole)
    assert one.find(ASKED) == ids(1, 2)


@pytest.mark.parametrize(
    ("others", "seen"),
    [
        ((3,), ids(3)),  # shorter than what was cut off
        ((3, 4, 5, 6), DAMAGED),  # the middle of a record stands where reading stopped
    ],
)
async def test_a_batch_that_was_cut_off_again_does_not_hide_what_is_written_in_its_place(
    spool: Spool, others: tuple[int, ...], seen: set[str] | Unknown
) -> None:
    one = SentIds(spool.root)
    segment = await send(spool, 1)
    kept = segment.read_bytes()
    await send(spool, 2, size=500)
    failed = segment.read_bytes()
    await send(spool, *others)
    instead = segment.read_bytes()[len(failed) :]
    segment.write_bytes(failed)
    assert one.find(ASKED) == ids(1, 2)
    segment.write_bytes(kept + instead)
    assert one.find(ASKED[3:]) == seen
    segment.write_bytes(kept + instead + instead)
    assert one.find(ASKED) == ids(1, *others)


async def test_while_octets_are_damaged_nothing_counts_as_not_sent(spool: Spool) -> None:
    segment = await send(spool, 1, 2, 3)
    one = SentIds(spool.root)
    flip(segment, segment.stat().st_size // 3 + 5)
    assert one.find(ASKED[1:2]) == ids(1)
    assert one.find(ASKED[9:]) == DAMAGED
    assert one.find(ASKED[9:]) == DAMAGED
    segment.unlink()
    assert one.find(ASKED[9:]) == set()


async def test_more_than_is_read_at_once_is_read_by_the_next_question(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(spool, *range(5))
    monkeypatch.setattr(sent, "MAX_RECORDS", 2)
    one = SentIds(spool.root)
    assert one.find(ASKED[4:]) == Unknown("spool is not read to its end yet")
    assert one.find(ASKED[4:]) == Unknown("spool is not read to its end yet")
    assert one.find(ASKED[4:]) == ids(4)
    assert one.find(ASKED[9:]) == set()


async def test_no_more_is_kept_in_memory_than_is_allowed(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "MAX_IDS", 3)
    segment = await send(spool, *range(3))
    one = SentIds(spool.root)
    assert one.find(ASKED[9:]) == set()
    await send(spool, 3)
    assert one.find(ASKED[9:]) == Unknown("spool is not read to its end yet")
    assert one.find(ASKED[:1]) == ids(0)
    segment.unlink()
    assert one.find(ASKED[9:]) == set()


async def test_a_folder_that_cannot_be_read_is_no_empty_one(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    await send(spool, 1)

    def refuse(*_: object) -> int:
        raise OSError(24, "Too many open files")

    one = SentIds(spool.root)
    with monkeypatch.context() as patch:
        patch.setattr(sent.os, "open", refuse)
        assert one.find(ASKED) == Unknown("spool cannot be read: Too many open files")
    assert one.find(ASKED) == ids(1)
