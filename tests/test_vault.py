"""The vault keeps objects whole, sealed, and under their own names."""

import os
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail.errors import Malformed, NotFound
from gateway.vault import Vault
from tests.spool_records import flip

MASTER = bytes(range(32))
OTHER = bytes(range(1, 33))
ID = "01J9ZK3E5X7QH2W8RTN4B6CVDM"
SECRET = b"Subject: the offer\r\n\r\nconfidential" * 40


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault", MASTER)


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_what_was_put_is_got_again_by_another_process(vault: Vault, tmp_path: Path) -> None:
    name = vault.put("held", ID, SECRET)
    assert name == f"held/dm/{ID}"
    assert Vault(tmp_path / "vault", MASTER).get(name) == SECRET


@settings(max_examples=30)
@given(data=st.binary(max_size=3000))
def test_all_octets_come_back(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    vault = Vault(tmp_path_factory.getbasetemp() / "any", MASTER)
    assert vault.get(vault.put("held", ID, data)) == data


def test_on_disk_nothing_can_be_read_and_little_is_needed(vault: Vault, tmp_path: Path) -> None:
    vault.put("held", ID, SECRET)
    [file] = files(tmp_path)
    raw = file.read_bytes()
    assert b"confidential" not in raw
    assert len(raw) < len(SECRET) / 4
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(zlib.error):
        zlib.decompress(raw[24:])


def test_the_same_object_is_sealed_differently_each_time(vault: Vault, tmp_path: Path) -> None:
    vault.put("held", ID, SECRET)
    before = files(tmp_path)[0].read_bytes()
    vault.put("held", ID, SECRET)
    assert files(tmp_path)[0].read_bytes() != before


def test_the_last_one_put_under_a_name_wins(vault: Vault, tmp_path: Path) -> None:
    vault.put("held", ID, b"first")
    assert vault.get(vault.put("held", ID, b"second")) == b"second"
    assert len(files(tmp_path)) == 1


def test_a_deleted_object_is_gone_and_may_be_deleted_again(vault: Vault) -> None:
    name = vault.put("held", ID, SECRET)
    vault.delete(name)
    vault.delete(name)
    with pytest.raises(NotFound):
        vault.get(name)


@pytest.mark.parametrize("at", [0, 5, 15, 24, 60, -1])
def test_a_changed_object_is_malformed(vault: Vault, tmp_path: Path, at: int) -> None:
    name = vault.put("held", ID, SECRET)
    size = (tmp_path / "vault" / name).stat().st_size
    flip(tmp_path / "vault" / name, at % size)
    with pytest.raises(Malformed):
        vault.get(name)


@pytest.mark.parametrize("size", [0, 3, 24, 30])
def test_a_cut_object_is_malformed(vault: Vault, tmp_path: Path, size: int) -> None:
    name = vault.put("held", ID, SECRET)
    os.truncate(tmp_path / "vault" / name, size)
    with pytest.raises(Malformed):
        vault.get(name)


def test_an_object_under_another_name_is_malformed(vault: Vault, tmp_path: Path) -> None:
    mine = vault.put("held", ID, SECRET)
    yours = vault.put("held", ID[:-4] + "ZZZZ", b"harmless")
    (tmp_path / "vault" / mine).replace(tmp_path / "vault" / yours)
    with pytest.raises(Malformed):
        vault.get(yours)


def test_a_key_that_is_not_here_is_named(vault: Vault, tmp_path: Path) -> None:
    name = vault.put("held", ID, SECRET)
    with pytest.raises(Malformed, match="which is not here"):
        Vault(tmp_path / "vault", OTHER).get(name)


def test_after_a_rotation_old_objects_are_read_and_new_ones_have_the_new_key(vault: Vault, tmp_path: Path) -> None:
    old = vault.put("held", ID, SECRET)
    rotated = Vault(tmp_path / "vault", OTHER, older=(MASTER,))
    assert rotated.get(old) == SECRET
    new = rotated.put("held", "NEW1", b"new")
    assert Vault(tmp_path / "vault", OTHER).get(new) == b"new"
    with pytest.raises(Malformed):
        vault.get(new)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "held",
        "../../etc/passwd",
        "held/../../x",
        "held/dm/../x",
        "/etc/passwd",
        "held/dm/.new-1",
        "held/dm/a\n",
        "HELD/dm/a1",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(vault: Vault, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        vault.get(name)
    with pytest.raises(ValueError, match="cannot name"):
        vault.delete(name)


@pytest.mark.parametrize(("kind", "id"), [("", ID), ("held", ""), ("held", "a/b"), ("he/ld", ID), ("held", "x" * 101)])
def test_a_kind_or_id_that_would_lead_elsewhere_is_refused(vault: Vault, tmp_path: Path, kind: str, id: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        vault.put(kind, id, SECRET)
    assert files(tmp_path) == []


def test_a_put_that_fails_leaves_the_old_object_and_no_rubbish(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = vault.put("held", ID, SECRET)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            vault.put("held", ID, b"new")
    assert vault.get(name) == SECRET
    assert len(files(tmp_path)) == 1


def test_what_a_process_died_over_is_swept_when_it_is_old(vault: Vault, tmp_path: Path) -> None:
    name = vault.put("held", ID, SECRET)
    left = (tmp_path / "vault" / name).with_name(".new-0011223344556677")
    left.write_bytes(b"half")
    written_at = datetime.fromtimestamp(left.stat().st_mtime, UTC)
    assert vault.sweep(written_at - timedelta(hours=1)) == 0
    assert vault.sweep(written_at + timedelta(seconds=1)) == 1
    assert vault.get(name) == SECRET
    assert len(files(tmp_path)) == 1
