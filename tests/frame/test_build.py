""".ci/run: what the build server runs, in order, and that a failure is a failure."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("failing", "status", "made"),
    [("", 0, ["check", "test"]), ("check", 2, ["check"]), ("test", 2, ["check", "test"])],
)
def test_the_build_checks_then_tests_and_stops_at_the_first_failure(
    tmp_path: Path, failing: str, status: int, made: list[str]
) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy2(ROOT / ".ci/run", tmp_path / ".ci/run")
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\necho "$1" >> made\n[ "$1" != "{failing}" ] || exit 2\n')
    make.chmod(0o755)
    result = subprocess.run([str(tmp_path / ".ci/run")], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, cwd="/")
    assert result.returncode == status
    assert (tmp_path / "made").read_text().split() == made


def test_the_makefile_explains_every_target() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    told = [line.split()[1] for line in shown.splitlines()]
    assert told == ["help", "setup", "run", "demo", "test", "check", "soak", "bench", "migrate", "fmt"]
