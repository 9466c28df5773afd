"""What is deployed: installer below a staging folder, units, container files, and the copy of the database."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from deploy import copy_database
from gateway.commands import COMMANDS
from gateway.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SERVICES = ("smtp", "deliver", "schedule", "web")
SHIPPED = ("gateway", "webui", "migrations", "requirements", "deploy", "pyproject.toml", "README.md", "LICENSE")
EXPOSURE = {"smtp": 14, "deliver": 11, "schedule": 11, "web": 11}  # systemd's tenths: 0 best, 100 worst


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the installer needs, so that a test can make another release of it."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, copy / name)
    return copy


def install(checkout: Path, root: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [str(checkout / "deploy/install.sh"), "--root", str(root), "--without-packages", *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def would_run(result: subprocess.CompletedProcess[str], word: str) -> list[str]:
    lines = [line.partition("would run: ")[2] for line in result.stdout.splitlines()]
    return [line for line in lines if word in line]


def test_a_first_installation_lays_everything_out_and_starts_nothing(checkout: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    result = install(checkout, root)
    assert result.returncode == 0, result.stderr
    assert (root / "opt/gatepost/venv/bin/gatepost").is_file()
    assert (root / "etc/gatepost/gatepost.toml").read_text() == (DEPLOY / "gatepost.toml").read_text()
    assert (root / "etc/gatepost/gatepost.toml").stat().st_mode & 0o777 == 0o640
    assert (root / "var/lib/gatepost").stat().st_mode & 0o777 == 0o750
    assert len(list((root / "etc/systemd/system").glob("gatepost-*.service"))) == len(SERVICES)
    assert len(would_run(result, " migrate")) == 1
    assert would_run(result, "systemctl start") == would_run(result, "systemctl enable") == []


def test_a_second_run_changes_nothing_and_stops_nothing(checkout: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    install(checkout, root)
    (root / "etc/gatepost/gatepost.toml").write_text("workers = 4\n")
    result = install(checkout, root)
    assert result.returncode == 0, result.stderr
    assert (root / "etc/gatepost/gatepost.toml").read_text() == "workers = 4\n"
    assert " put " not in result.stdout
    assert would_run(result, "systemctl stop") == would_run(result, " migrate") == []


def test_an_upgrade_stops_copies_migrates_and_starts_in_order(checkout: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    install(checkout, root)
    before = os.readlink(root / "opt/gatepost/venv")
    (checkout / "gateway/__init__.py").write_text('"""Another release."""\n')
    result = install(checkout, root)
    assert result.returncode == 0, result.stderr
    steps = [
        line.split()[-1] if line.startswith("systemctl") else re.split(r"/bin/\S+ ", line)[1].split()[0]
        for line in would_run(result, "")
        if re.search(r"systemctl (stop|start)|runuser", line)
    ]
    assert steps == [
        *(f"gatepost-{name}.service" for name in ("web", "schedule", "smtp", "deliver")),
        "-",  # the copy, whose program comes by standard input
        "migrate",
        *(f"gatepost-{name}.service" for name in ("deliver", "smtp", "schedule", "web")),
    ]
    assert os.readlink(root / "opt/gatepost/venv") != before
    assert (root / "opt/gatepost" / before).is_dir()  # the way back


def test_only_two_releases_are_kept(checkout: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(4):
        (checkout / "gateway/__init__.py").write_text(f'"""Release {number}."""\n')
        assert install(checkout, root).returncode == 0
        # The order of age is by seconds: make each older than the next.
        release = root / "opt/gatepost" / os.readlink(root / "opt/gatepost/venv")
        os.utime(release, (1_000_000 + number, 1_000_000 + number))
    kept = {path.name for path in (root / "opt/gatepost/releases").iterdir()}
    assert len(kept) == 2
    assert Path(os.readlink(root / "opt/gatepost/venv")).name in kept


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--root", "/"], "leave it out"),
        (["--root"], "--root needs a folder"),
        (["--without-packages"], "--without-packages goes with --root only"),
        (["--rood", "x"], "unknown argument --rood"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_done(arguments: list[str], says: str) -> None:
    result = subprocess.run([str(DEPLOY / "install.sh"), *arguments], capture_output=True, text=True, timeout=60)
    assert result.returncode != 0
    assert says in result.stderr
    assert result.stdout == ""


def test_the_copy_of_a_database_has_what_is_in_its_log_and_goes_back_over_a_broken_one(tmp_path: Path) -> None:
    file, copy = tmp_path / "gatepost.db", tmp_path / "before.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE kept (x)")
        connection.execute("INSERT INTO kept VALUES (1)")
        copy_database.save(file, copy)  # while the log is not yet in the file
        connection.execute("DROP TABLE kept")
        (tmp_path / "gatepost.db-shm").touch()
    (tmp_path / "gatepost.db-wal").write_bytes(b"of a broken migration")
    copy_database.back(file, copy)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT x FROM kept").fetchall() == [(1,)]
    assert not copy.exists()


def test_another_database_is_left_to_its_own_tools() -> None:
    assert copy_database.database_file("postgresql+psycopg://gatepost@db.corp.example/gatepost") is None
    assert copy_database.database_file("sqlite:////var/lib/gatepost/gatepost.db") == Path(
        "/var/lib/gatepost/gatepost.db"
    )


def test_the_settings_file_that_is_installed_is_a_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEPOST_CONFIG", str(DEPLOY / "gatepost.toml"))
    settings = load_settings()
    assert [(one.kind, one.address) for one in settings.listeners] == [
        ("inbound", "0.0.0.0:25"),
        ("outbound", "127.0.0.1:2526"),
    ]
    assert not settings.master_key.is_relative_to(settings.data_dir)


def test_every_line_that_is_commented_out_in_the_settings_file_names_a_setting() -> None:
    names = re.findall(r"^(?:# )?([a-z_]+) = ", (DEPLOY / "gatepost.toml").read_text(), re.MULTILINE)
    assert set(names) <= set(Settings.model_fields)


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_starts_a_command_that_exists(name: str) -> None:
    text = (DEPLOY / f"systemd/gatepost-{name}.service").read_text()
    assert re.findall(r"^ExecStart=/opt/gatepost/venv/bin/gatepost (\S+)$", text, re.MULTILINE) == [name]
    assert name in COMMANDS
    assert f"gatepost-{name}.service" in (DEPLOY / "systemd/gatepost.target").read_text()


def test_only_the_smtp_service_has_a_capability() -> None:
    capable = [name for name in SERVICES if "CAP_" in (DEPLOY / f"systemd/gatepost-{name}.service").read_text()]
    assert capable == ["smtp"]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation below a folder that has the system's own units as well, for systemd's tools to look at."""
    if shutil.which("systemd-analyze") is None or not Path("/lib/systemd/system").is_dir():
        pytest.skip("systemd-analyze is not on this machine")
    root = tmp_path_factory.mktemp("staged")
    assert install(ROOT, root).returncode == 0
    shutil.copytree("/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
    return root


def analyze(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments, f"--root={root}", "--no-pager"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_systemd_finds_nothing_wrong_with_the_units(staged: Path) -> None:
    result = analyze(staged, "verify", *(f"gatepost-{name}.service" for name in SERVICES), "gatepost.target")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_the_sandbox_is_as_strict_as_the_guide_says(staged: Path, name: str) -> None:
    result = analyze(staged, "security", "--offline=true", f"--threshold={EXPOSURE[name]}", f"gatepost-{name}.service")
    assert result.returncode == 0, result.stdout.splitlines()[-1]


def test_the_container_files_name_commands_and_settings_that_exist() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    ours = {name: service for name, service in compose["services"].items() if service.get("image") == "gatepost"}
    assert {service["command"][0] for service in ours.values()} == {"migrate", *SERVICES}
    settings = {f"GATEPOST_{name.upper()}" for name in Settings.model_fields}
    assert {name for service in ours.values() for name in service["environment"]} <= settings
    containerfile = (DEPLOY / "Containerfile").read_text()
    assert set(re.findall(r"(GATEPOST_[A-Z_]+)=", containerfile)) <= settings
    listeners = json.loads(re.findall(r"GATEPOST_LISTENERS='(.*)'", containerfile)[0])
    assert Settings(listeners=listeners).listeners


def test_the_image_copies_only_what_is_there() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    assert [name for line in copied for name in line.split() if not (ROOT / name).exists()] == []
