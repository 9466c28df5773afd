"""Whether there is room for mail is told to the peer each time, and to the operator once."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from gateway.inspection.inspect import NoBox
from gateway.mail import reply as replies
from gateway.relay.intake import Intake
from gateway.relay.services import DataCount
from gateway.spool import Spool, new_owner, room
from tests.relay.conftest import Logged, Place

MIB = 1 << 20


class Nothing:
    """Delivers and answers nothing: these tests do not come so far."""

    def first_attempt(self, *_: Any) -> None:
        raise AssertionError("not expected")

    async def answer(self, *_: Any) -> Any:
        raise AssertionError("not expected")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what sets how much is free on the disk."""
    monkeypatch.setattr(room, "ASK_SECONDS", -1.0)

    def set_free(octets: int) -> None:
        status = list(os.statvfs("/"))
        status[0] = status[1] = 1  # block size
        status[4] = octets
        monkeypatch.setattr(room.os, "statvfs", lambda _: os.statvfs_result(status))

    return set_free


def test_a_full_disk_turns_mail_away_and_is_told_once(
    place: Place, disk: Callable[[int], None], logged: Logged
) -> None:
    spool = Spool(place.root, new_owner("room"), min_free=64 * MIB)
    nothing = Nothing()
    intake = Intake(spool, place.importer, nothing, nothing, in_data=DataCount(), box=NoBox())
    disk(100 * MIB)
    assert intake.has_room() is None
    assert intake.has_room(50 * MIB) is replies.STORAGE_FULL  # the message would eat into what stays free
    disk(10 * MIB)
    for _ in range(3):
        assert intake.has_room() is replies.STORAGE_FULL
    assert len(logged("spool.full")) == 1
    assert logged("spool.room") == []
    disk(100 * MIB)
    for _ in range(3):
        assert intake.has_room() is None
    assert len(logged("spool.room")) == 1
    spool.close()


async def test_too_much_that_the_database_does_not_know_turns_mail_away(place: Place) -> None:
    nothing = Nothing()
    intake = Intake(place.spool, place.importer, nothing, nothing, in_data=DataCount(), box=NoBox())
    place.importer._max_unimported = 1
    await place.accept()
    assert intake.has_room() is replies.BACKLOG_FULL
    await place.importer.finish()
    assert intake.has_room() is None
