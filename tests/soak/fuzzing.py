"""Coverage-guided fuzzing with atheris (requirements/heavy.txt), bounded in time. One target a file: `fuzz_*.py`.

    python -m tests.soak.fuzz_address [--seconds 60] [CRASH_FILE ...]

A target takes octets and raises when something is wrong. A crash is kept as a file and the run ends with a status other
than 0; with files as arguments the target only runs those. Without atheris a target can still be called by tests.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    atheris = None

MAX_BYTES = 16_384
SLOW_SECONDS = 5  # for one input: nothing here may take longer

Target = Callable[[bytes], None]


def instrumented() -> Any:
    """Return the context in which a target imports what it looks at, so that atheris sees the branches taken.

    Only where a target is the program that runs: in a test that calls one the modules stay as they are.
    """
    program = getattr(sys.modules["__main__"], "__spec__", None)
    if atheris is None or program is None or not program.name.startswith("tests.soak.fuzz_"):
        return contextlib.nullcontext()
    return atheris.instrument_imports(include=["gateway"])


def main(target: Target, seeds: Iterable[bytes]) -> None:
    """Fuzz `target` by command line, beginning with `seeds`."""
    p = argparse.ArgumentParser()
    p.add_argument("--seconds", type=int, default=60)
    p.add_argument("--artifacts", default=".", help="folder for inputs that crash")
    p.add_argument("files", nargs="*", help="only run these inputs")
    args = p.parse_args()
    if args.files:
        for file in args.files:
            target(Path(file).read_bytes())
        return
    if atheris is None:
        sys.exit("atheris is not installed: uv pip install -r requirements/heavy.txt")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for number, seed in enumerate(seeds):
            (Path(folder) / f"seed-{number}").write_bytes(seed)
        options = [
            f"-max_total_time={args.seconds}",
            f"-max_len={MAX_BYTES}",
            f"-timeout={SLOW_SECONDS}",
            f"-artifact_prefix={args.artifacts}/",
            "-print_final_stats=1",
            "-rss_limit_mb=2048",
        ]
        atheris.Setup([sys.argv[0], *options, folder], target)
        atheris.Fuzz()


class Input:
    """Octets as a stream of choices, so that one input can steer a whole scenario. It never ends: then all is 0."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        at, self._at = self._at, self._at + 1
        return self._data[at] if at < len(self._data) else 0

    def below(self, limit: int) -> int:
        """Return a number from 0 up to, not including, `limit`."""
        return int.from_bytes(bytes(self.byte() for _ in range(4))) % limit

    def rest(self) -> bytes:
        return self._data[self._at :]
