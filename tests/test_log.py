"""The log: one JSON object a line, of a closed list of events, and never in the way of the mail."""

import asyncio
import io
import json
import os
import threading
from collections.abc import Iterator
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from gateway import log


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    log.configure("info", "smtp-1", stream)
    yield stream
    log.configure()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_time_level_event_process_and_what_it_is_about(stream: io.StringIO) -> None:
    log.warning("spool.full", ref="7KQ2-M9PX")
    [line] = lines(stream)
    at = datetime.fromisoformat(line.pop("at"))
    assert at.utcoffset() is not None
    assert line == {"level": "warning", "event": "spool.full", "process": "smtp-1", "ref": "7KQ2-M9PX"}


def test_an_unknown_event_is_a_mistake_of_ours(stream: io.StringIO) -> None:
    with pytest.raises(ValueError, match=r"message\.eaten"):
        log.info("message.eaten")


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_lines_below_the_level_are_left_out(stream: io.StringIO, level: str, written: list[str]) -> None:
    log.configure(level, "smtp-1", stream)
    for write in (log.debug, log.info, log.warning, log.error):
        write("policy.loaded")
    assert [line["level"] for line in lines(stream)] == written


def test_whatever_a_peer_says_stays_on_its_line(stream: io.StringIO) -> None:
    log.info("session.refused", reply='550 "no"\r\n{"event": "policy.loaded"}', peer="\x1b[2J\0")
    assert len(stream.getvalue().splitlines()) == 1
    [line] = lines(stream)
    assert line["reply"] == '550 "no"\r\n{"event": "policy.loaded"}'
    assert "\x1b" not in stream.getvalue()


def test_values_that_json_does_not_know_are_written_as_text(stream: io.StringIO) -> None:
    log.info("drop.received", file=Path("new/1"), peers=[ip_address("192.0.2.1")])
    [line] = lines(stream)
    assert (line["file"], line["peers"]) == ("new/1", ["192.0.2.1"])


def test_lines_go_to_the_descriptor_whole(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        log.configure("info", "smtp-1", file)
        log.info("policy.loaded", version=1)
        assert json.loads((tmp_path / "log").read_text())["version"] == 1
    log.configure()


def test_a_log_that_cannot_be_written_stops_nothing_and_is_counted() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as broken:
        log.configure("info", "smtp-1", broken)
        log.take_lost()
        log.info("policy.loaded")
        log.error("policy.refused")
        assert log.take_lost() == 2
        assert log.take_lost() == 0
    log.configure()


async def test_lines_wait_a_moment_for_company_but_not_at_the_end(stream: io.StringIO) -> None:
    log.gather(asyncio.get_running_loop())
    log.info("policy.loaded", version=1)
    assert lines(stream) == []
    log.error("policy.refused", version=2)  # what needs a hand is written at once, and what waits before it
    assert [line["version"] for line in lines(stream)] == [1, 2]
    log.info("policy.loaded", version=3)
    log.flush()
    assert len(lines(stream)) == 3
    log.info("policy.loaded", version=4)
    assert len(lines(stream)) == 4


async def test_a_line_that_waits_is_written_by_itself(stream: io.StringIO) -> None:
    log.gather(asyncio.get_running_loop())
    log.info("policy.loaded")
    async with asyncio.timeout(5):
        while not lines(stream):
            await asyncio.sleep(0.005)
    log.flush()
    assert [line["event"] for line in lines(stream)] == ["policy.loaded"]


async def test_no_line_of_many_threads_is_lost(stream: io.StringIO) -> None:
    log.gather(asyncio.get_running_loop())

    def write(name: str) -> None:
        for number in range(500):
            log.info("policy.loaded", name=name, number=number)

    threads = [threading.Thread(target=write, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    log.flush()
    found = lines(stream)
    assert len({(line["name"], line["number"]) for line in found}) == 2000
    assert len(found) == 2000
