"""Accepted mail for tests of the spool: the smallest head, and messages that are told apart by their number."""

import fcntl
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.accepted import Accepted, Location
from gateway.mail.address import Address
from gateway.mail.envelope import Direction, Recipient
from gateway.spool import Adopted, Spool
from gateway.spool.folder import LOCK

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def accepted(number: int = 0, **fields: Any) -> Accepted:
    values: dict[str, Any] = {
        "id": f"{number:026d}",
        "group": 0,
        "mail_from": Address("sender", "partner.example"),
        "recipients": (Recipient(Address("info", "corp.example"), Direction.INBOUND),),
        "direction": Direction.INBOUND,
        "accepted_at": NOW,
        "expires_at": NOW + timedelta(days=5),
        "size": 0,
    }
    return Accepted(**(values | fields))


def message(number: int, size: int = 100) -> bytes:
    """A message of `size` octets that no other number has."""
    return (b"Subject: %d\r\n\r\n" % number).ljust(size, b"x")


async def append(spool: Spool, *numbers: int, size: int = 100) -> list[Location]:
    return await spool.append([(accepted(number), (message(number, size),)) for number in numbers])


def ids(adopted: Adopted) -> list[int]:
    return [int(head.id) for _, head in adopted.records()]


def flip(path: Path, at: int, bits: int = 1) -> None:
    """Change bits of one octet of a file."""
    with open(path, "r+b") as file:
        octet = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([octet[0] ^ bits]), at)


def is_alive(root: Path, owner: str) -> bool:
    """Say whether somebody holds the owner's folder: the owner, or who adopted it."""
    try:
        lock = os.open(root / owner / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(lock)
