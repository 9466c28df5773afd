"""The processes by themselves, as a service manager starts them: they begin, give a sign of life, end in good order."""

import os
import signal
import smtplib
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway import metrics
from gateway.commands.migrate import prepare
from gateway.settings import Settings
from tests.commands.conftest import Run
from tests.product import free_port

PROJECT = Path(__file__).resolve().parents[2]
SECONDS = 60.0

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    prepare(settings)
    return settings


@pytest.fixture
def start(prepared: Settings) -> Iterator[Start]:
    """Return what starts a process on the prepared data directory."""
    with ExitStack() as stack:

        def start(name: str, **settings: object) -> subprocess.Popen[bytes]:
            clean = {key: value for key, value in os.environ.items() if not key.startswith("GATEPOST_")}
            given = {f"GATEPOST_{key.upper()}": str(value) for key, value in settings.items()}
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway", name],
                cwd=PROJECT,
                env={**clean, "GATEPOST_DATA_DIR": str(prepared.data_dir), **given},
                stderr=subprocess.DEVNULL,
            )
            stack.callback(lambda: (process.kill(), process.wait()))
            return process

        yield start


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["deliver", "schedule", "web"])
def test_a_process_lives_and_ends_in_good_order(prepared: Settings, start: Start, name: str) -> None:
    process = start(name, web_bind=f"127.0.0.1:{free_port()}")
    until(lambda: name in [shot.process for shot in metrics.read_snapshots(prepared.run_dir)])
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    assert metrics.read_snapshots(prepared.run_dir) == []
    assert not prepared.spool.exists() or list(prepared.spool.iterdir()) == []


def test_the_mail_drop_files_what_it_is_given(prepared: Settings, start: Start) -> None:
    port = free_port()
    process = start("drop", drop_bind=f"127.0.0.1:{port}")

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(listens)
    with smtplib.SMTP("127.0.0.1", port, timeout=SECONDS) as client:
        client.sendmail("ann@partner.example", ["bob@corp.example"], b"Subject: Hello\r\n\r\n.dot\r\n")
    [file] = (prepared.drop / "new").iterdir()
    assert file.read_bytes() == (
        b"Return-Path: <ann@partner.example>\nDelivered-To: bob@corp.example\nSubject: Hello\n\n.dot\n"
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("command", ["smtp", "deliver", "schedule", "web"])
def test_without_a_master_key_nothing_starts(run: Run, empty: Path, command: str) -> None:
    result = run(command, status=1)
    assert "GATEPOST_MASTER_KEY_FILE: there is no master key at" in result.stderr
    assert "run `gatepost migrate` first" in result.stderr


@pytest.mark.parametrize(
    ("command", "setting"),
    [
        ("smtp", "GATEPOST_LISTENERS"),
        ("web", "GATEPOST_WEB_BIND"),
        ("drop", "GATEPOST_DROP_BIND"),
        ("run", "GATEPOST_LISTENERS"),
    ],
)
def test_an_address_that_is_taken_is_named(
    run: Run, empty: Path, monkeypatch: pytest.MonkeyPatch, command: str, setting: str
) -> None:
    run("migrate")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("GATEPOST_LISTENERS", f'[{{"kind": "inbound", "address": "{address}"}}]')
        monkeypatch.setenv("GATEPOST_WEB_BIND", address)
        monkeypatch.setenv("GATEPOST_DROP_BIND", address)
        result = run(command, status=1)
    [line] = [line for line in result.stderr.splitlines() if line.startswith("gatepost: ")]
    assert line.startswith(f"gatepost: {setting}")
    assert line.endswith(f"cannot listen on {address}: Address already in use")


def test_a_database_of_a_newer_release_is_told(run: Run, empty: Path) -> None:
    run("migrate")
    with sqlite3.connect(empty / "gatepost.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    result = run("run", status=1)
    assert "was it migrated by a newer release?" in result.stderr
