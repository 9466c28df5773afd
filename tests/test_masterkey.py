"""The master key's file is made once, read by its owner only, and every purpose has a key of its own."""

import contextlib
import threading
from pathlib import Path

import pytest

from gateway.mail.errors import Conflict, Malformed, NotAllowed, NotFound
from gateway.masterkey import create_master_key, key_id, load_master_key, purpose_key

MASTER = bytes(range(32))


def test_a_created_key_is_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    key = create_master_key(path)
    assert len(key) == 32
    assert load_master_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["master.key"]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    key = create_master_key(path)
    with pytest.raises(Conflict):
        create_master_key(path)
    assert load_master_key(path) == key
    assert [file.name for file in tmp_path.iterdir()] == ["master.key"]


def test_of_several_who_create_at_once_one_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    start = threading.Barrier(8)
    made: list[bytes] = []

    def create() -> None:
        start.wait(20)
        with contextlib.suppress(Conflict):
            made.append(create_master_key(path))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert made == [load_master_key(path)]


def test_two_keys_differ(tmp_path: Path) -> None:
    assert create_master_key(tmp_path / "one") != create_master_key(tmp_path / "two")


def test_a_missing_key_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load_master_key(tmp_path / "master.key")


@pytest.mark.parametrize("text", ["", "00" * 31, "00" * 33, "00" * 400, "zz" * 32, "é" * 64, "0" * 63])
def test_what_is_no_key_is_malformed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "master.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(Malformed):
        load_master_key(path)


@pytest.mark.parametrize(
    ("mode", "allowed"),
    [
        (0o600, True),
        (0o400, True),
        (0o440, True),  # handed over by a service manager, for the service's group
        (0o644, False),
        (0o620, False),
        (0o602, False),
        (0o601, False),
    ],
)
def test_a_key_that_is_open_to_others_is_not_used(tmp_path: Path, mode: int, allowed: bool) -> None:
    path = tmp_path / "master.key"
    path.write_text(MASTER.hex() + "\n")
    path.chmod(mode)
    if allowed:
        assert load_master_key(path) == MASTER
    else:
        with pytest.raises(NotAllowed):
            load_master_key(path)


def test_keys_of_purposes_are_stable_and_differ() -> None:
    # What is stored under a key must be readable by every later release: these values never change.
    assert purpose_key(MASTER, "vault").hex() == "b4cec73b4ef8d2260ba558c32a7a38edbf1697e5e0a573ba4c3699aa399bb492"
    assert purpose_key(MASTER, "hop").hex() == "2c4df0516501855d469fdd2be3196dd44dffc7cc34f9587bf80e4fd7d71b798b"
    assert key_id(MASTER) == "d0cce184fc5b3792"
    assert key_id(MASTER) != key_id(bytes(32))
