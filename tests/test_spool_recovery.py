"""What recovery makes of segments that are cut, changed or half written: every intact record, and word of the rest."""

import asyncio
import errno
import fcntl
import os
import shutil
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.accepted import Location
from gateway.mail.errors import NotAllowed
from gateway.spool import Adopted, Spool, adopt, new_owner, read
from gateway.spool.record import HEADER_SIZE, write_header
from tests.spool_records import accepted, append, flip, ids, is_alive, message

RECORDS = 8


def leave(root: Path, *numbers: int, size: int = 100, **options: object) -> list[Location]:
    """Leave a folder behind with one record for each number, as a process that has died."""

    async def write() -> list[Location]:
        spool = Spool(root, new_owner("test"), **options)  # type: ignore[arg-type]
        locations = [(await append(spool, number, size=size))[0] for number in numbers]
        spool.close()
        return locations

    return asyncio.run(write())


def adopt_one(root: Path) -> Adopted:
    [adopted] = adopt(root)
    return adopted


def aside(root: Path) -> list[Path]:
    return sorted((root / "damaged").iterdir()) if (root / "damaged").exists() else []


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Location]]:
    root = tmp_path_factory.mktemp("pristine")
    return root, leave(root, *range(RECORDS), size=300)


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.floats(0, 1, exclude_max=True), st.integers(1, 255)),
        st.tuples(st.just("zero"), st.floats(0, 1, exclude_max=True), st.integers(1, 2000)),
        st.tuples(st.just("cut"), st.floats(0, 1), st.just(0)),
        st.tuples(st.just("grow"), st.just(0.0), st.integers(1, 500)),
    ),
    max_size=5,
)


def damaged_copy(raw: bytes, changes: list[tuple[str, float, int]]) -> bytes:
    octets = bytearray(raw)
    for what, where, how in changes:
        at = int(where * len(octets))
        if what == "cut":
            del octets[at:]
        elif what == "grow":
            octets += bytes(how)
        elif what == "zero":
            octets[at : at + how] = bytes(len(octets[at : at + how]))
        elif octets:
            octets[at] ^= how
    return bytes(octets)


@settings(max_examples=200)
@given(changes=CHANGES)
def test_every_record_whose_octets_are_intact_comes_back_once_and_in_order(
    pristine: tuple[Path, list[Location]],
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[str, float, int]],
) -> None:
    source, locations = pristine
    segment = locations[0].segment
    raw = (source / segment).read_bytes()
    changed = damaged_copy(raw, changes)
    intact = [
        (number, place)
        for number, place in enumerate(locations)
        if changed[place.offset : place.offset + place.length] == raw[place.offset : place.offset + place.length]
    ]
    root = tmp_path_factory.mktemp("changed")
    shutil.copytree(source, root, dirs_exist_ok=True)
    (root / segment).write_bytes(changed)
    adopted = adopt_one(root)
    found = [(int(head.id), location) for location, head in adopted.records()]
    assert found == intact
    # The rest is accounted for, to the octet.
    spans = [(place.offset, place.length) for _, place in found] + [(d.offset, d.length) for d in adopted.damaged]
    at = 0
    for offset, length in sorted(spans):
        assert offset == at
        at += length
    assert at == len(changed)
    assert [path.read_bytes() for path in aside(root)] == [
        changed[d.offset : d.offset + d.length]
        for d in sorted(adopted.damaged, key=lambda d: str(d.offset))
        if not d.is_torn
    ]
    adopted.unlink(segment)
    assert adopted.done()
    shutil.rmtree(root)


@settings(max_examples=100)
@given(where=st.floats(0, 1))
def test_a_torn_tail_is_passed_over_and_nothing_is_called_damaged(
    pristine: tuple[Path, list[Location]], tmp_path_factory: pytest.TempPathFactory, where: float
) -> None:
    source, locations = pristine
    root = tmp_path_factory.mktemp("torn")
    shutil.copytree(source, root, dirs_exist_ok=True)
    segment = root / locations[0].segment
    size = int(where * segment.stat().st_size)
    os.truncate(segment, size)
    adopted = adopt_one(root)
    assert ids(adopted) == [n for n, place in enumerate(locations) if place.offset + place.length <= size]
    assert all(damage.is_torn for damage in adopted.damaged)
    assert aside(root) == []
    adopted.release()
    shutil.rmtree(root)


def test_zeros_where_octets_never_came_are_a_torn_tail(tmp_path: Path) -> None:
    # After a power cut the length of a file may be on disk before its contents.
    [location] = leave(tmp_path, 1)
    segment = tmp_path / location.segment
    os.truncate(segment, segment.stat().st_size + 10_000)
    adopted = adopt_one(tmp_path)
    assert ids(adopted) == [1]
    assert [(damage.is_torn, damage.length) for damage in adopted.damaged] == [(True, 10_000)]
    adopted.release()


def test_a_damaged_record_is_set_aside_before_its_segment_goes(tmp_path: Path) -> None:
    locations = leave(tmp_path, 1, 2, 3)
    segment = locations[0].segment
    flip(tmp_path / segment, locations[1].offset + locations[1].length - 1)
    adopted = adopt_one(tmp_path)
    assert ids(adopted) == [1, 3]
    [damage] = adopted.damaged
    assert (damage.segment, damage.offset, damage.length) == (segment, locations[1].offset, locations[1].length)
    adopted.unlink(segment)
    assert adopted.done()
    [copy] = aside(tmp_path)
    assert message(2)[:-1] in copy.read_bytes()
    assert copy.name == f"{segment.replace('/', '-')}-{locations[1].offset}"


def test_scanning_again_sets_nothing_aside_twice(tmp_path: Path) -> None:
    locations = leave(tmp_path, 1, 2)
    flip(tmp_path / locations[0].segment, 50)
    for _ in range(3):
        with adopt_one(tmp_path) as adopted:
            assert ids(adopted) == ids(adopted) == [2]
            assert len(adopted.damaged) == 1
    assert len(aside(tmp_path)) == 1


def test_damaged_octets_that_cannot_be_set_aside_keep_their_segment(tmp_path: Path) -> None:
    locations = leave(tmp_path, 1, 2)
    segment = locations[0].segment
    flip(tmp_path / segment, 50)
    (tmp_path / "damaged").write_text("in the way")
    adopted = adopt_one(tmp_path)
    assert ids(adopted) == [2]
    with pytest.raises(OSError, match="damaged"):
        adopted.unlink(segment)
    assert adopted.segments() == [segment]
    (tmp_path / "damaged").unlink()
    adopted.unlink(segment)
    assert adopted.done()
    assert len(aside(tmp_path)) == 1


def test_a_segment_that_was_not_read_to_its_end_cannot_be_removed(tmp_path: Path) -> None:
    [first, *_] = leave(tmp_path, 1, 2)
    adopted = adopt_one(tmp_path)
    next(adopted.records())
    with pytest.raises(NotAllowed):
        adopted.unlink(first.segment)
    assert not adopted.done()
    assert is_alive(tmp_path, adopted.owner)
    adopted.release()
    assert not is_alive(tmp_path, adopted.owner)


def test_an_adopter_that_comes_to_grief_leaves_the_folder_to_the_next(tmp_path: Path) -> None:
    leave(tmp_path, 1)
    adopted = adopt_one(tmp_path)
    assert adopt(tmp_path) == []
    del adopted
    assert ids(adopt_one(tmp_path)) == [1]


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between our open and our lock another adopter was done with the folder, and a third one took it anew.
    [location] = leave(tmp_path, 1)
    lock = (tmp_path / location.segment).with_name("lock")
    take_lock = fcntl.flock

    def late(fd: int, operation: int) -> None:
        lock.unlink()
        lock.touch()
        take_lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    assert adopt(tmp_path) == []
    monkeypatch.undo()
    assert ids(adopt_one(tmp_path)) == [1]


def test_all_segments_come_back_in_the_order_of_writing(tmp_path: Path) -> None:
    locations = leave(tmp_path, *range(12), segment_bytes=1)
    adopted = adopt_one(tmp_path)
    assert [location for location, _ in adopted.records()] == locations
    assert len(adopted.segments()) == 12
    for segment in adopted.segments():
        adopted.unlink(segment)
    assert adopted.done()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_results_in_it_is_kept(tmp_path: Path) -> None:
    [location] = leave(tmp_path, 1)
    adopted = adopt_one(tmp_path)
    assert ids(adopted) == [1]
    adopted.unlink(location.segment)
    results = tmp_path / adopted.owner / "results-00000001"
    results.write_bytes(b"not in the database yet")
    assert not adopted.done()
    results.unlink()
    assert adopted.done()


def test_an_empty_segment_is_no_error(tmp_path: Path) -> None:
    # The process died between making the file and its first flush.
    [location] = leave(tmp_path, 1)
    os.truncate(tmp_path / location.segment, 0)
    adopted = adopt_one(tmp_path)
    assert ids(adopted) == []
    assert adopted.damaged == []
    adopted.unlink(location.segment)
    assert adopted.done()


def test_a_message_that_looks_like_a_record_is_never_taken_for_one(tmp_path: Path) -> None:
    # A whole record, check sums and all, in a message that is then damaged: who wrote it cannot know the marker.
    [forged] = leave(tmp_path / "elsewhere", 666)
    inner = (tmp_path / "elsewhere" / forged.segment).read_bytes()

    async def write(root: Path) -> Location:
        spool = Spool(root, new_owner("test"))
        [location] = await spool.append([(accepted(1), (b"x" * 100, inner, b"y" * 100))])
        await append(spool, 2)
        spool.close()
        return location

    root = tmp_path / "spool"
    location = asyncio.run(write(root))
    path = root / location.segment
    flip(path, location.length - 1)
    with adopt_one(root) as adopted:
        assert ids(adopted) == [2]
    # Not even where a record should begin.
    path.write_bytes(inner + path.read_bytes()[location.length :])
    with adopt_one(root) as adopted:
        assert ids(adopted) == [2]


def test_a_record_is_found_although_a_stretch_before_it_is_lost(tmp_path: Path) -> None:
    locations = leave(tmp_path, 1, 2, 3, size=5000)
    path = tmp_path / locations[0].segment
    raw = path.read_bytes()
    path.write_bytes(raw[: locations[0].length - 900] + raw[locations[0].length - 100 :])
    adopted = adopt_one(tmp_path)
    found = [(int(head.id), location) for location, head in adopted.records()]
    assert [number for number, _ in found] == [2, 3]
    assert [read(tmp_path, location)[1] for _, location in found] == [message(2, 5000), message(3, 5000)]
    adopted.release()


@pytest.mark.parametrize("lock", [b"", b"rubbish", b"gatepost-spool-1 0011223344556677 00000000\n", None])
def test_a_damaged_or_lost_lock_file_costs_no_mail(tmp_path: Path, lock: bytes | None) -> None:
    locations = leave(tmp_path, 1, 2, 3)
    path = tmp_path / locations[0].segment.replace("00000001.seg", "lock")
    path.unlink() if lock is None else path.write_bytes(lock)
    flip(tmp_path / locations[0].segment, locations[1].offset + 40)
    adopted = adopt_one(tmp_path)
    assert ids(adopted) == [1, 3]
    adopted.release()


def test_a_head_of_another_release_is_set_aside_and_the_rest_comes_back(tmp_path: Path) -> None:
    locations = leave(tmp_path, 1, 2)
    path = tmp_path / locations[0].segment
    raw = path.read_bytes()
    head = b"\x81\xa3new\x01"
    path.write_bytes(write_header(raw[4:12], len(head), 4, crc32(head + b"body")) + head + b"body" + raw)
    adopted = adopt_one(tmp_path)
    assert ids(adopted) == [1, 2]
    [damage] = adopted.damaged
    assert (damage.offset, damage.length, damage.is_torn) == (0, HEADER_SIZE + len(head) + 4, False)
    [copy] = aside(tmp_path)
    assert copy.read_bytes().endswith(head + b"body")
    adopted.release()


def test_pages_that_the_disk_cannot_read_cost_their_records_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locations = leave(tmp_path, 1, 2, 3, size=20_000)
    bad = locations[1].offset + 10_000
    whole = os.pread

    def failing(fd: int, size: int, offset: int) -> bytes:
        if offset <= bad < offset + size:
            raise OSError(errno.EIO, "Input/output error")
        return whole(fd, size, offset)

    monkeypatch.setattr(os, "pread", failing)
    adopted = adopt_one(tmp_path)
    assert ids(adopted) == [1, 3]
    assert [damage.offset for damage in adopted.damaged] == [locations[1].offset]
    adopted.release()


def test_two_dead_owners_are_adopted_each_for_itself(tmp_path: Path) -> None:
    leave(tmp_path, 1)
    leave(tmp_path, 2)
    found: list[list[int]] = sorted(ids(adopted) for adopted in adopt(tmp_path))
    assert found == [[1], [2]]


def test_adoption_reads_and_leaves_every_segment_as_it_is(
    tmp_path: Path, pristine: tuple[Path, list[Location]]
) -> None:
    source, locations = pristine
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    path = tmp_path / locations[0].segment
    flip(path, 500)
    os.truncate(path, path.stat().st_size - 3)
    before = path.read_bytes()
    adopted = adopt_one(tmp_path)
    assert ids(adopted)
    assert path.read_bytes() == before
    adopted.release()
