"""The smallest valid rows: a test overrides only what it is about."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from gateway.accepted import Accepted, Location, Settled, State
from gateway.mail.address import Address
from gateway.mail.envelope import Direction, Recipient
from gateway.mail.reference import new_id
from gateway.store import messages
from gateway.store.database import Database
from gateway.store.messages import ImportItem

NOW = datetime(2020, 11, 24, 12, 0, tzinfo=UTC)  # long past: PostgreSQL claims by its own clock
OWNER = "mx1-smtp-0a1b2c3d-100-beef"
ADA = Address("ada", "corp.example")
BOB = Address("bob", "corp.example")
OUTSIDER = Address("eve", "sender.example")


_NUMBERS = itertools.count(1)


def an_id(at: datetime = NOW) -> str:
    """An id of this time that sorts after those made before."""
    return f"{new_id(int(at.timestamp() * 1000))[:10]}{next(_NUMBERS):016d}"


def accepted(*to: Address, direction: Direction = Direction.INBOUND, at: datetime = NOW, **changes: Any) -> Accepted:
    """A group of recipients (Ada when none is named) of a message from outside."""
    one = Accepted(
        id=an_id(at),
        group=0,
        mail_from=OUTSIDER,
        recipients=tuple(Recipient(address, direction) for address in to or (ADA,)),
        direction=direction,
        accepted_at=at,
        expires_at=at + timedelta(days=5),
        size=4400,
    )
    return replace(one, **changes)


def location(number: int = 0, segment: str = f"{OWNER}/00000001.seg") -> Location:
    return Location(segment, number * 5000, 5000)


def item(
    one: Accepted, *settled: Settled, owner: str = OWNER, place: Location | None = None, **changes: Any
) -> ImportItem:
    """An import under a lease of five minutes."""
    until = one.accepted_at + timedelta(minutes=5)
    return replace(ImportItem(one, place or location(), settled, owner, until), **changes)


def settled(one: Accepted, state: State, *, to: Address = ADA, **changes: Any) -> Settled:
    """The result of a first attempt a second later."""
    at = one.accepted_at + timedelta(seconds=1)
    result = Settled(one.id, one.group, to, state, "250 2.0.0 OK", "next.example:25", at, 1)
    return replace(result, **changes)


def store(database: Database, *items: ImportItem) -> None:
    messages.import_batch(database, items)


def states(database: Database, id: str) -> dict[str, State]:
    """What became of each recipient of a message."""
    return {str(row.recipient): row.state for row in messages.outcomes(database, id)}
