"""The journal of results: what a killed process had delivered is known to whoever takes over its mail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accepted import Settled, State
from gateway.spool import journal
from gateway.spool.journal import Journal, read_results, remove_results
from tests.store.make import accepted, settled


def results(count: int) -> list[Settled]:
    return [settled(accepted(), State.DELIVERED, reply=f"250 2.0.0 {number}") for number in range(count)]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_results_come_back_in_their_order(tmp_path: Path) -> None:
    noted = results(4)
    one = Journal(tmp_path)
    one.note(noted[:1])
    one.flush()
    one.note(noted[1:3])
    one.note(noted[3:])
    one.flush()
    assert read_results(tmp_path) == noted


def test_everything_of_a_result_comes_back(tmp_path: Path) -> None:
    late = settled(accepted(), State.QUEUED, due_at=accepted().accepted_at, tls="TLSv1.3", notice_due="delayed")
    one = Journal(tmp_path)
    one.note([late])
    one.flush()
    assert read_results(tmp_path) == [late]


def test_a_folder_without_a_journal_has_no_results(tmp_path: Path) -> None:
    assert read_results(tmp_path) == []


def test_a_file_goes_when_the_database_has_the_last_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "ROLL_BYTES", 0)
    one = Journal(tmp_path)
    numbers = []
    for result in results(3):
        numbers.append(one.note([result]))
        one.flush()
    assert numbers == [1, 2, 3]
    one.forget(2, 1)
    assert files(tmp_path) == ["results-00000001", "results-00000003"]
    # The newest is still written to.
    one.forget(3, 1)
    assert files(tmp_path) == ["results-00000001", "results-00000003"]
    one.note(results(1))
    assert files(tmp_path) == ["results-00000001", "results-00000004"]


def test_a_file_is_kept_while_one_of_its_results_is_not_in_the_database(tmp_path: Path) -> None:
    one = Journal(tmp_path)
    number = one.note(results(2))
    one.flush()
    one.forget(number, 1)
    one.close()
    assert files(tmp_path) == ["results-00000001"]
    assert len(read_results(tmp_path)) == 2


def test_an_orderly_end_leaves_nothing_that_the_database_knows(tmp_path: Path) -> None:
    one = Journal(tmp_path)
    number = one.note(results(2))
    one.flush()
    one.forget(number, 2)
    one.close()
    assert files(tmp_path) == []


def test_who_takes_over_removes_the_results_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "00000001.seg").touch()
    one = Journal(tmp_path)
    one.note(results(1))
    one.flush()
    remove_results(tmp_path)
    assert files(tmp_path) == ["00000001.seg"]


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Journal(tmp_path / "nowhere").note(results(1))


def test_a_full_disk_tears_no_hole_into_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = results(3)
    one = Journal(tmp_path)
    one.note(noted[:1])
    one.flush()
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(journal.os, "write", lambda fd, octets: write(fd, octets[:10]))
        one.note(noted[1:2])
        with pytest.raises(OSError, match="No space left"):
            one.flush()
    one.note(noted[2:])
    one.flush()
    assert read_results(tmp_path) == [noted[0], noted[2]]


def test_a_journal_whose_folder_is_gone_writes_into_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "ROLL_BYTES", 0)
    folder = tmp_path / "owner"
    folder.mkdir()
    one = Journal(folder)
    one.note(results(1))
    one.flush()
    folder.rename(tmp_path / "gone")
    with pytest.raises(OSError, match="No such file"):
        one.note(results(1))
    with (tmp_path / "other").open("wb", buffering=0):  # gets the number that the journal's file had
        with pytest.raises(OSError, match="No such file"):
            one.note(results(1))
        one.close()
    assert (tmp_path / "other").read_bytes() == b""


def test_what_was_noted_last_is_kept_at_an_orderly_end(tmp_path: Path) -> None:
    noted = results(2)
    one = Journal(tmp_path)
    one.note(noted)
    one.close()
    assert read_results(tmp_path) == noted


@given(cut=st.integers(min_value=0, max_value=400))
def test_a_torn_tail_takes_no_whole_result_with_it(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("journal")
    noted = results(2)
    one = Journal(folder)
    ends = []
    for result in noted:
        one.note([result])
        one.flush()
        ends.append((folder / "results-00000001").stat().st_size)
    size = max(0, ends[-1] - cut)
    os.truncate(folder / "results-00000001", size)
    assert read_results(folder) == noted[: sum(end <= size for end in ends)]


@given(at=st.integers(min_value=0), octet=st.integers(min_value=1, max_value=255))
def test_a_changed_octet_never_makes_another_result(
    at: int, octet: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    noted = results(2)
    one = Journal(folder)
    for result in noted:
        one.note([result])
        one.flush()
    path = folder / "results-00000001"
    raw = bytearray(path.read_bytes())
    raw[at % len(raw)] ^= octet
    path.write_bytes(raw)
    found = read_results(folder)
    assert found in ([], noted[:1])


def test_what_was_flushed_outlives_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from gateway.accepted import State;"
        "from gateway.spool.journal import Journal; from tests.store.make import accepted, settled;"
        "one = Journal(Path(sys.argv[1])); one.note([settled(accepted(), State.DELIVERED)]); one.flush();"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=Path(__file__).parents[1])
    assert done.returncode == -9
    assert [result.state for result in read_results(tmp_path)] == [State.DELIVERED]
