"""scripts/setup on machines that lack one thing or another: everything it calls is a small script that plays its part.

That the real uv, venv and pip do as these say is seen by every build, which begins with `make`.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("bash", "cat", "chmod", "cp", "cut", "dirname", "flock", "id", "mkdir", "rm", "sha256sum", "touch")
NOT_ROOT = "[ $1 = -u ] && echo 1000"

# What pip or uv leaves behind: the program itself. Without a network they fail.
INSTALLS = """
case "$*" in *pip*) [ ! -e "$HOME/offline" ] || exit 1 ;; esac
case "$*" in *" -e ."*) printf '#!/bin/sh\\n' > .venv/bin/gatepost; chmod +x .venv/bin/gatepost ;; esac
"""
# Pythons inside a venv, with and without pip.
VENV_PYTHON = f"#!/bin/bash\n{INSTALLS}"
VENV_PYTHON_WITHOUT_PIP = '#!/bin/bash\n[ "$1" = -c ]\n'
MAKE_VENV = 'mkdir -p .venv/bin; cp "$HOME/venv-python" .venv/bin/python'
UV = f"""
case "$1" in
    --version) echo uv 0.0.0 ;;
    venv) {MAKE_VENV} ;;
    pip) {INSTALLS} ;;
esac
"""
# A Python whose venv lacks ensurepip, as Debian's is without python3-venv: it leaves half a venv and fails.
PYTHON_WITHOUT_VENV = f"""
case "$*" in
    "-m venv --without-pip .venv") mkdir -p .venv/bin; cp "$HOME/venv-python-without-pip" .venv/bin/python ;;
    "-m venv .venv")
        if [ -e "$HOME/venv-package" ]; then {MAKE_VENV}; else mkdir -p .venv/lib; echo no ensurepip; exit 1; fi ;;
    "-m pip --python"*) [ -e "$HOME/pip" ] || exit 1; {INSTALLS} ;;
esac
"""
APT_GET = """
case "$1" in
    update) touch "$HOME/lists" ;;
    install) [ -e "$HOME/lists" ] && touch "$HOME/venv-package" ;;
esac
"""
PYTHON_3_9 = '[ "$1" != -c ]'


class Machine:
    """A checkout and a PATH that has nothing but what a test puts on it."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "a checkout"
        self.bin = folder / "bin"
        self.later = folder / "later"  # on the PATH as well, behind `bin`
        self.home = folder / "home"
        for made in (self.checkout / "scripts", self.checkout / "requirements", self.bin, self.later, self.home):
            made.mkdir(parents=True)
        shutil.copy2(ROOT / "scripts/setup", self.checkout / "scripts/setup")
        self.lock = self.checkout / "requirements/dev.txt"
        self.lock.write_text("click==8.5.1\n")
        (self.checkout / "pyproject.toml").write_text("")
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or f"/no/{tool}")

        for name, script in (("venv-python", VENV_PYTHON), ("venv-python-without-pip", VENV_PYTHON_WITHOUT_PIP)):
            (self.home / name).write_text(script)
            (self.home / name).chmod(0o755)

    @property
    def venv(self) -> Path:
        return self.checkout / ".venv"

    def has(self, name: str, script: str, *, later: bool = False) -> None:
        """Put a program on the PATH that notes how it was called."""
        file = (self.later if later else self.bin) / name
        file.unlink(missing_ok=True)
        file.write_text(f'#!/bin/bash\necho "{name} $*" >> "$HOME/calls"\n{script}\n')
        file.chmod(0o755)

    def setup(self) -> subprocess.CompletedProcess[str]:
        """Run the script in an environment with HOME and PATH only."""
        return subprocess.run(
            [str(self.checkout / "scripts/setup")],
            env={"HOME": str(self.home), "PATH": f"{self.bin}:{self.later}"},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
        )

    def calls(self, name: str) -> list[str]:
        """Return how a program was called, looks at its version left out."""
        file = self.home / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [
            line for line in lines if line.startswith(f"{name} ") and "--version" not in line and " -c " not in line
        ]

    def is_ready(self) -> bool:
        return os.access(self.venv / "bin/gatepost", os.X_OK) and (self.venv / ".installed").exists()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_uv_is_used_when_it_is_there_and_installs_by_hash_without_an_isolated_build(machine: Machine) -> None:
    machine.has("python3", "")
    machine.has("uv", UV)
    assert machine.setup().returncode == 0
    assert machine.is_ready()
    assert [call.split()[1] for call in machine.calls("uv")] == ["venv", "pip", "pip"]
    assert "--require-hashes -r requirements/dev.txt" in machine.calls("uv")[1]
    assert "--no-deps --no-build-isolation -e ." in machine.calls("uv")[2]


@pytest.mark.parametrize(("pace", "chosen"), [(500, "later"), (900, "bin"), (1500, "bin")])
def test_of_two_pythons_of_a_name_the_first_counts_unless_another_is_clearly_quicker(
    machine: Machine, pace: int, chosen: str
) -> None:
    machine.has("python3.11", 'case "$2" in *process_time*) echo 1000 ;; esac')
    machine.has("python3.11", f'case "$2" in *process_time*) echo {pace} ;; esac', later=True)
    machine.has("uv", UV)
    assert machine.setup().returncode == 0
    assert machine.calls("uv")[0].split()[-2].endswith(f"{chosen}/python3.11")


def test_a_second_run_does_nothing_and_a_changed_lock_installs_again_into_the_same_venv(machine: Machine) -> None:
    machine.has("python3", "")
    machine.has("uv", UV)
    machine.setup()
    (machine.home / "calls").unlink()
    second = machine.setup()
    assert (second.returncode, second.stderr, machine.calls("uv")) == (0, "", [])

    machine.lock.write_text("click==8.5.2\n")
    assert machine.setup().returncode == 0
    assert [call.split()[1] for call in machine.calls("uv")] == ["pip", "pip"]


def test_without_uv_and_venv_the_systems_pip_fills_the_venv(machine: Machine) -> None:
    machine.has("python3", PYTHON_WITHOUT_VENV)
    machine.has("id", NOT_ROOT)
    (machine.home / "pip").touch()
    assert machine.setup().returncode == 0
    assert machine.is_ready()
    assert not (machine.venv / "lib").exists()  # what the failed venv left
    assert machine.calls("python3")[-1].startswith("python3 -m pip --python .venv/bin/python install")


def test_root_on_debian_gets_venv_from_apt_after_one_update(machine: Machine) -> None:
    machine.has("python3", PYTHON_WITHOUT_VENV)
    machine.has("id", "echo 0")
    machine.has("apt-get", APT_GET)
    assert machine.setup().returncode == 0
    assert machine.is_ready()
    assert [call.split()[1] for call in machine.calls("apt-get")] == ["install", "update", "install"]


def test_an_ordinary_user_never_calls_apt(machine: Machine) -> None:
    machine.has("python3", PYTHON_WITHOUT_VENV)
    machine.has("id", NOT_ROOT)
    machine.has("apt-get", "")
    machine.setup()
    assert machine.calls("apt-get") == []


def test_where_nothing_makes_a_venv_one_line_says_what_to_install_and_nothing_is_left(machine: Machine) -> None:
    machine.has("python3", PYTHON_WITHOUT_VENV)
    machine.has("id", NOT_ROOT)
    result = machine.setup()
    assert result.returncode != 0
    assert (
        "install uv, or the package python3-venv, or a pip of version 22.3 or newer" in result.stderr.splitlines()[-1]
    )
    assert not machine.venv.exists()


def test_a_python_that_is_too_old_is_passed_over(machine: Machine) -> None:
    machine.has("python3", PYTHON_3_9)
    result = machine.setup()
    assert result.returncode != 0
    assert result.stderr.splitlines() == [
        "setup: no Python 3.11 or newer on PATH; on Debian: apt-get install python3 python3-venv"
    ]

    machine.has("python3.12", "")
    machine.has("uv", UV)
    assert machine.setup().returncode == 0
    assert "--python " + str(machine.bin / "python3.12") in machine.calls("uv")[0]


@pytest.mark.parametrize("left", [".unfinished", "bin/python"])
def test_a_half_made_venv_is_removed_first(machine: Machine, left: str) -> None:
    (machine.venv / "bin").mkdir(parents=True)
    (machine.venv / "rubbish").touch()
    (machine.venv / left).touch()  # an interrupted run, or a Python that no longer runs
    machine.has("python3", "")
    machine.has("uv", UV)
    assert machine.setup().returncode == 0
    assert machine.is_ready()
    assert not (machine.venv / "rubbish").exists()


def test_packages_that_cannot_be_had_end_in_a_clear_line_and_are_tried_again(machine: Machine) -> None:
    machine.has("python3", PYTHON_WITHOUT_VENV)
    machine.has("uv", UV)
    (machine.home / "offline").touch()
    result = machine.setup()
    assert result.returncode != 0
    assert "the packages of requirements/dev.txt could not be installed" in result.stderr.splitlines()[-1]
    assert not machine.is_ready()

    (machine.home / "offline").unlink()
    assert machine.setup().returncode == 0
    assert machine.is_ready()
