"""The spool when the disk is full, fails, or the process dies: nothing that was answered for is lost."""

import asyncio
import contextlib
import errno
import io
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from gateway import log
from gateway.accepted import Location
from gateway.spool import Spool, SpoolFailed, SpoolFull, adopt, new_owner, read
from tests.spool_records import accepted, append, ids, is_alive, message

HUGE = 1 << 60


class FailingSync:
    """An fdatasync that fails on the calls that it is told."""

    def __init__(self, **failures: BaseException) -> None:
        self._failures = {int(call.removeprefix("call_")): error for call, error in failures.items()}
        self.calls = 0

    def __call__(self, fd: int) -> None:
        self.calls += 1
        if self.calls in self._failures:
            raise self._failures[self.calls]
        os.fdatasync(fd)


@contextlib.contextmanager
def spool_in(root: Path, **options: object) -> Iterator[Spool]:
    spool = Spool(root, new_owner("test"), **options)  # type: ignore[arg-type]
    try:
        yield spool
    finally:
        spool.close()


def recovered(root: Path) -> list[int]:
    found = []
    for adopted in adopt(root):
        found.extend(ids(adopted))
        assert adopted.damaged == []
        adopted.release()
    return sorted(found)


async def test_a_failed_flush_fails_its_batch_and_abandons_the_segment(tmp_path: Path) -> None:
    sync = FailingSync(call_2=OSError(errno.EIO, "Input/output error"))
    with spool_in(tmp_path, sync=sync) as spool:
        [first] = await append(spool, 1)
        with pytest.raises(SpoolFailed):
            await append(spool, 2)
        [third] = await append(spool, 3)
        assert spool.read(first)[1] == message(1)
        assert third.segment != first.segment
        assert spool.rolled_segments() == [first.segment]
        assert spool.usage().failures == 1
    assert recovered(tmp_path) == [1, 3]


async def test_all_appends_of_a_failed_batch_fail(tmp_path: Path) -> None:
    with spool_in(tmp_path, sync=FailingSync(call_1=OSError(errno.EIO, "Input/output error"))) as spool:
        outcomes = await asyncio.gather(*(append(spool, number) for number in range(5)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [SpoolFailed] * 5
        assert len({id(outcome) for outcome in outcomes}) == 5
        assert await append(spool, 6)
    assert recovered(tmp_path) == [6]


async def test_a_disk_found_full_at_the_flush_is_a_full_disk(tmp_path: Path) -> None:
    with spool_in(tmp_path, sync=FailingSync(call_1=OSError(errno.ENOSPC, "No space left on device"))) as spool:
        with pytest.raises(SpoolFull):
            await append(spool, 1)
        assert await append(spool, 2)
    assert recovered(tmp_path) == [2]


@pytest.fixture
def log_lines() -> Iterator[io.StringIO]:
    lines = io.StringIO()
    log.configure(stream=lines)
    yield lines
    log.configure()


async def test_the_writer_survives_and_reports_what_nobody_foresaw(tmp_path: Path, log_lines: io.StringIO) -> None:
    with spool_in(tmp_path, sync=FailingSync(call_1=RuntimeError("a bug"), call_2=MemoryError())) as spool:
        with pytest.raises(SpoolFailed, match="a bug"):
            await append(spool, 1)
        with pytest.raises(SpoolFailed):
            await append(spool, 2)
        assert await append(spool, 3)
        assert spool.usage().failures == 2
    assert "RuntimeError('a bug')" in log_lines.getvalue()
    assert recovered(tmp_path) == [3]


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_ends_before_its_answer_disturbs_nobody(
    tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    flushing, may_go_on = threading.Event(), threading.Event()

    def slow_sync(fd: int) -> None:
        flushing.set()
        assert may_go_on.wait(20)

    with spool_in(tmp_path, sync=slow_sync) as spool:

        async def begin() -> None:
            task = asyncio.ensure_future(append(spool, 1))
            assert await asyncio.get_running_loop().run_in_executor(None, flushing.wait, 20)
            task.cancel()

        with asyncio.Runner(loop_factory=new_loop) as ending:
            ending.run(begin())
        may_go_on.set()
        with asyncio.Runner(loop_factory=new_loop) as runner:
            [location] = runner.run(append(spool, 2))
            assert spool.read(location)[1] == message(2)
            runner.run(spool.roll())
        # Nobody knows what became of the first one, so its segment is left to recovery.
        assert spool.rolled_segments() == []
    assert recovered(tmp_path) == [1, 2]


async def test_a_lost_folder_fails_appends_until_it_is_back(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        os.rename(tmp_path / spool.owner, tmp_path / ".elsewhere")
        with pytest.raises(SpoolFailed):
            await append(spool, 1)
        os.rename(tmp_path / ".elsewhere", tmp_path / spool.owner)
        assert await append(spool, 2)


async def test_mail_leaves_the_kept_space_free_and_the_reserve_is_for_what_must_be_told(tmp_path: Path) -> None:
    with spool_in(tmp_path, min_free=HUGE, reserve=HUGE) as spool:
        assert not spool.has_room()
        outcomes = await asyncio.gather(
            append(spool, 1),
            spool.append([(accepted(2), (message(2),))], reserve=True),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], SpoolFull)
        assert not isinstance(outcomes[1], BaseException)
        assert await spool.copy_out(outcomes[1])
    with spool_in(tmp_path, min_free=HUGE) as spool, pytest.raises(SpoolFull):
        await spool.append([(accepted(3), (message(3),))], reserve=True)


async def test_room_for_small_mail_is_none_for_large_mail(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    free = status.f_bavail * status.f_frsize
    with spool_in(tmp_path, min_free=free // 2) as spool:
        assert spool.has_room(1000)
        assert not spool.has_room(free)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB, where the test may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "spool-test", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a full disk needs a small file system, and mounting one is not allowed here: {mounted.stderr}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def test_a_full_disk_takes_nothing_by_halves_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 * 1024 * 1024))
    with spool_in(small_disk) as spool:
        kept: dict[int, Location] = {}
        with contextlib.suppress(SpoolFull):
            for number in range(100):
                [kept[number]] = await append(spool, number, size=150_000)
        assert 5 < len(kept) < 20
        # What did not fit was cut off again: a small message still fits, and lies right behind the last one.
        last = list(kept.values())[-1]
        [small] = await append(spool, 100)
        assert (small.segment, small.offset) == (last.segment, last.offset + last.length)
        ballast.unlink()
        async with asyncio.timeout(20):
            while not spool.has_room(150_000):
                await asyncio.sleep(0.01)
        [later] = await append(spool, 101, size=150_000)
        assert later.segment == last.segment
        assert all(spool.read(location)[1] == message(number, 150_000) for number, location in kept.items())
    assert recovered(small_disk) == [*kept, 100, 101]


async def test_a_batch_that_does_not_fit_fails_whole(small_disk: Path) -> None:
    with spool_in(small_disk) as spool:
        with pytest.raises(SpoolFull):
            await append(spool, *range(10), size=1_000_000)
        assert not spool.has_room(10_000_000)
        assert spool.has_room(10_000)
        assert await append(spool, 1)
    assert recovered(small_disk) == [1]


async def test_a_disk_too_full_for_an_owner_is_full(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(4 * 1024 * 1024 - 8192))
    with contextlib.suppress(OSError):
        (small_disk / "more").write_bytes(bytes(8192))
    with pytest.raises(SpoolFull):
        Spool(small_disk, new_owner("test"))


def run_child(script: str, *arguments: object, **options: object) -> "subprocess.Popen[str]":
    """Start a Python process with the spool at hand; it prints what the test wants to know."""
    prelude = """
        import asyncio, os, sys
        from pathlib import Path
        from gateway.spool import Spool, SpoolFailed, adopt, new_owner
        from tests.spool_records import accepted, append, message
        root = Path(sys.argv[1])
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )


def line_of(child: "subprocess.Popen[str]") -> str:
    assert child.stdout
    return child.stdout.readline().strip()


def kill(child: "subprocess.Popen[str]") -> None:
    child.kill()
    child.communicate()


def test_a_file_that_may_not_grow_is_abandoned_and_its_mail_goes_elsewhere(tmp_path: Path) -> None:
    # The limit makes the system write the first part of a batch and then refuse the rest (EFBIG).
    child = run_child(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
        async def main():
            spool = Spool(root, new_owner("test"))
            places = []
            for number in range(6):
                try:
                    places += await append(spool, number, size=12_000)
                except SpoolFailed:
                    places.append(None)
            print(*(place.segment[-6:-4] if place else "--" for place in places))
            spool.close()
        asyncio.run(main())
        """,
        tmp_path,
    )
    assert child.communicate()[0].strip() == "01 01 -- 02 02 --"
    assert recovered(tmp_path) == [0, 1, 3, 4]


def test_every_record_that_was_answered_for_survives_a_kill(tmp_path: Path) -> None:
    child = run_child(
        """
        async def one(spool, numbers):
            for number in numbers:
                await append(spool, number, size=1000 + number % 7000)
                print(number, flush=True)
        async def main():
            spool = Spool(root, new_owner("test"), segment_bytes=200_000)
            await asyncio.gather(*(one(spool, range(start, 10**9, 20)) for start in range(20)))
        asyncio.run(main())
        """,
        tmp_path,
    )
    answered = {int(line_of(child)) for _ in range(2000)}
    child.kill()
    assert child.stdout
    # What it printed while it was being killed counts as well; the last line may be cut.
    answered |= {int(line) for line in child.stdout.read().split("\n")[:-1]}
    child.communicate()
    [adopted] = adopt(tmp_path)
    found = {int(head.id): location for location, head in adopted.records()}
    assert answered <= set(found)
    assert all(read(tmp_path, place)[1] == message(n, 1000 + n % 7000) for n, place in list(found.items())[::50])
    assert [damage for damage in adopted.damaged if not damage.is_torn] == []
    for segment in adopted.segments():
        adopted.unlink(segment)
    assert adopted.done()
    assert list(tmp_path.iterdir()) == []


HOLDING = """
    spool = Spool(root, new_owner("test"))
    asyncio.run(append(spool, 1))
    print(spool.owner, flush=True)
    sys.stdin.read()
"""


def test_the_folder_of_a_living_process_cannot_be_adopted_and_that_of_a_dead_one_can(tmp_path: Path) -> None:
    child = run_child(HOLDING, tmp_path)
    owner = line_of(child)
    assert is_alive(tmp_path, owner)
    assert adopt(tmp_path) == []
    kill(child)
    assert not is_alive(tmp_path, owner)
    assert recovered(tmp_path) == [1]


def test_of_several_who_adopt_at_once_one_gets_the_folder(tmp_path: Path) -> None:
    child = run_child(HOLDING, tmp_path)
    owner = line_of(child)
    kill(child)
    adopters = [
        run_child(
            """
            print("ready", flush=True)
            sys.stdin.readline()
            adopted = adopt(root)
            print(len(adopted), flush=True)
            sys.stdin.read()
            """,
            tmp_path,
        )
        for _ in range(3)
    ]
    assert [line_of(adopter) for adopter in adopters] == ["ready"] * 3
    for adopter in adopters:
        assert adopter.stdin
        adopter.stdin.write("\n")
        adopter.stdin.flush()
    counts = {adopter: line_of(adopter) for adopter in adopters}
    assert sorted(counts.values()) == ["0", "0", "1"]
    # It died while adopting: the next one has it all.
    assert is_alive(tmp_path, owner)
    for adopter in adopters:
        kill(adopter)
    assert recovered(tmp_path) == [1]


def test_a_forked_child_neither_appends_nor_keeps_its_parents_folder(tmp_path: Path) -> None:
    parent = run_child(
        """
        spool = Spool(root, new_owner("test"))
        asyncio.run(append(spool, 1))
        if os.fork() == 0:
            try:
                asyncio.run(append(spool, 2))
            except SpoolFailed:
                print("refused", os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(0)
        """,
        tmp_path,
    )
    said, grandchild = line_of(parent).split()
    assert said == "refused"
    parent.kill()
    parent.wait(20)
    os.kill(int(grandchild), 0)  # it lives on
    assert recovered(tmp_path) == [1]
    parent.communicate()  # closes its input, by which it ends


def test_what_a_process_died_over_making_is_swept_away(tmp_path: Path) -> None:
    making = tmp_path / ".new-host-test-0-1-abcd-12345678"
    making.mkdir()
    (making / "lock").write_bytes(b"")
    (tmp_path / ".new-host-test-0-1-abcd-87654321").mkdir()
    assert adopt(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_folders_that_are_none_of_ours_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    assert adopt(tmp_path) == []
    assert adopt(tmp_path / "missing") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged", "lost+found", "notes.txt"]
