"""Every fuzz target: its seeds each day, so that it stays in step with the code; minutes of atheris in the soak run."""

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TARGETS = sorted(file.stem for file in Path(__file__).parent.glob("fuzz_*.py"))
PROJECT = Path(__file__).resolve().parents[2]
SECONDS = int(os.environ.get("SOAK_FUZZ_SECONDS", "60"))


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_passes_its_seeds(name: str) -> None:
    target = importlib.import_module(f"tests.soak.{name}")
    assert target.SEEDS
    for seed in target.SEEDS:
        for octets in (seed, seed[:-1], seed * 2, seed[::-1]):
            target.look(octets)


@pytest.mark.soak
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris (requirements/heavy.txt) is not installed"
)
@pytest.mark.parametrize("name", TARGETS)
def test_a_target_survives_fuzzing(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"tests.soak.{name}", "--seconds", str(SECONDS), "--artifacts", str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    kept = [file.read_bytes() for file in tmp_path.iterdir()]
    assert done.returncode == 0, f"{kept}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
