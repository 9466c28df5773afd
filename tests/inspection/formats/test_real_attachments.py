"""The collection of files beside the checkout: none hangs, none raises, what is locked or a bomb is told.

They are parsed in a process of their own, as the box would: two cabinets crash libarchive 3.6.2.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[3]
FILES = PROJECT.parent / "shared" / "data" / "attachments"
LIMIT_SECONDS = 3.0  # of CPU: two of the walk, and what one call into a parser may take after them

if not FILES.is_dir():
    pytest.skip(f"real attachments are not opened: there is no {FILES}", allow_module_level=True)

# By the names that the formats have there.
MITRA = {
    "PDF": "application/pdf",
    "ISO": "application/x-iso9660-image",
    "RAR": "application/vnd.rar",
    "GIF": "image/gif",
    "PNG": "image/png",
    "JPG": "image/jpeg",
    "BMP": "image/bmp",
    "7Z": "application/x-7z-compressed",
    "Zip": "application/zip",
    "ICC": "application/vnd.iccprofile",
}


@cache
def outcome() -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return what every file is by its place in the collection, and which files crashed the parser."""
    waiting = sorted(str(path) for path in FILES.rglob("*") if path.is_file() and path.name != "manifest.jsonl")
    found: dict[str, dict[str, Any]] = {}
    crashed: list[str] = []
    while waiting:
        command = [sys.executable, "-m", "tests.inspection.formats.walk_files", *waiting]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=100)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.endswith("}")]
        found |= {str(Path(line["file"]).relative_to(FILES)): line for line in lines}
        waiting = waiting[len(lines) :]
        if waiting:
            assert done.returncode < 0, done.stderr[-3000:]  # by a signal, not by an exception of ours
            crashed.append(Path(waiting.pop(0)).name)
    return found, crashed


def test_only_known_files_crash_a_parser() -> None:
    found, crashed = outcome()
    assert len(found) > 1000
    assert set(crashed) <= {"test_read_format_cab_lzx_oob.cab", "test_read_format_cab_skip_malformed.cab"}


def test_no_opener_fails_and_none_takes_long() -> None:
    found, _ = outcome()
    assert [name for name, file in found.items() if "opener_failed" in file["problems"]] == []
    assert [name for name, file in found.items() if file["seconds"] > LIMIT_SECONDS] == []


def test_encrypted_archives_are_locked_and_bombs_are_stopped() -> None:
    found, _ = outcome()
    for name in ("enc-header.7z", "enc-body.7z"):
        assert found[f"made-for-this-project/{name}"]["is_locked"], name
    assert not found["made-for-this-project/enc-aes256.zip"]["is_locked"]  # by its password
    bombs = [file for name, file in found.items() if "/bomb-" in name]
    assert bombs
    assert all("ratio" in file["problems"] for file in bombs)
    sealed = [name for name in found if name.startswith("libarchive_libarchive/") and "encrypted.rar" in name]
    assert sealed
    assert all(found[name]["is_locked"] for name in sealed)


def test_polyglots_are_all_that_they_are() -> None:
    found, _ = outcome()
    polyglots = {name: file for name, file in found.items() if name.startswith("corkami_mitra-generated/")}
    assert len(polyglots) > 30
    for name, file in polyglots.items():
        wanted = [kind for mark, kind in MITRA.items() if f"-{mark}" in name or f"_{mark}_" in name]
        assert len(wanted) == 2, name
        assert set(wanted) <= set(file["types"]), name
