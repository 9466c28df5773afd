"""What is shipped and what is pinned: the wheel has every file, the locks have hashes and no addresses."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gateway", "webui", "migrations")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+) \\$", re.MULTILINE)


def lock(name: str) -> str:
    return (ROOT / f"requirements/{name}.txt").read_text()


def pins(name: str) -> dict[str, str]:
    return {package.lower().replace("_", "-"): version for package, version in PINNED.findall(lock(name))}


def test_the_wheel_has_every_module_template_style_and_migration_and_the_command(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tree / file)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=tree, check=True, capture_output=True)

    wheel = zipfile.ZipFile(next(tmp_path.glob("*.whl")))
    shipped = {name for name in wheel.namelist() if name.startswith(PACKAGES)}
    names = {
        str(path.relative_to(tree)) for package in PACKAGES for path in (tree / package).rglob("*") if path.is_file()
    }
    assert {name for name in shipped if ".dist-info/" not in name} == names
    entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "gatepost = gateway.__main__:main" in wheel.read(entry_points).decode()
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


@pytest.mark.parametrize("name", ["run", "dev"])
def test_a_lock_pins_by_hash_and_names_no_address(name: str) -> None:
    text = lock(name)
    assert "://" not in text
    assert not re.search(r"^\s*-(?!-hash)", text, re.MULTILINE)  # no option lines: no index, no links
    entries = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in entry for entry in entries)
    assert len(entries) == len(pins(name))


def test_development_runs_the_same_versions_as_operation() -> None:
    assert {name: version for name, version in pins("dev").items() if name in pins("run")} == pins("run")


@pytest.mark.parametrize("text", PROJECT["dependencies"])
def test_each_dependency_has_a_lower_bound_that_its_pin_meets(text: str) -> None:
    requirement = Requirement(text)
    assert [bound.operator for bound in requirement.specifier] == [">="]
    assert pins("run")[requirement.name.lower()] in requirement.specifier


def test_every_dependency_is_described() -> None:
    described = (ROOT / "docs/dependencies.md").read_text().lower()
    direct = [Requirement(text).name.lower() for text in PROJECT["dependencies"]]
    wanted = (ROOT / "requirements/dev.in").read_text().lower()
    direct += [match[0] for line in wanted.splitlines() if (match := re.match(r"[a-z][\w.-]*", line))]
    assert [name for name in direct if f"| {name}" not in described and f", {name}" not in described] == []
