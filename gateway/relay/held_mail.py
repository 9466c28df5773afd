"""The bytes of held mail: out of the spool into the vault, and back when it is delivered elsewhere. See release.py.

An object in the vault is a record as the spool has it: length of the head, head, message.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from struct import Struct
from struct import error as StructError  # noqa: N812 (an exception's name)

import msgspec

from gateway import log
from gateway.accepted import Accepted, Location
from gateway.mail.address import Address
from gateway.mail.errors import Malformed, NotAllowed, NotFound
from gateway.mail.reference import reference
from gateway.masterkey import load_master_key
from gateway.settings import Settings
from gateway.spool import Spool, new_owner, read
from gateway.store import held, queue
from gateway.store.database import Database
from gateway.store.held import HeldItem
from gateway.store.queue import DeliveryKey
from gateway.vault import Vault

VAULT_KIND = "held"
TURN_SECONDS = 5.0  # for one turn of each work; both together are well below the 30 of its lease
PAUSE_SECONDS = 0.01  # between two pages: other writers of a SQLite database wait for each
_LENGTH = Struct("<I")
_decode = msgspec.msgpack.Decoder(Accepted).decode


def pack(accepted: Accepted, body: bytes) -> bytes:
    """Return one object for the vault."""
    head = msgspec.msgpack.encode(accepted)
    return _LENGTH.pack(len(head)) + head + body


def unpack(data: bytes) -> tuple[Accepted, bytes]:
    """Read an object of the vault; raise Malformed."""
    try:
        (length,) = _LENGTH.unpack_from(data)
        return _decode(data[_LENGTH.size : _LENGTH.size + length]), data[_LENGTH.size + length :]
    except (StructError, ValueError) as error:
        raise Malformed("the vault's object is no held message") from error


def move_to_vault(settings: Settings, database: Database, vault: Vault, *, seconds: float = TURN_SECONDS) -> int:
    """Move held bytes out of the spool, for so long at most; return how many items. Raises DatabaseAway, OSError."""
    until = time.monotonic() + seconds
    moved = 0
    after = None
    while page := held.outside_vault(database, after=after):
        for after in page:
            if time.monotonic() >= until:
                return moved
            moved += _move(settings, database, vault, after)
    return moved


def _move(settings: Settings, database: Database, vault: Vault, item: HeldItem) -> bool:
    if item.location is None or not (settings.spool / item.location.segment).parent.exists():
        return False  # of another host
    try:
        accepted, body = read(settings.spool, item.location)
    except (Malformed, NotFound) as error:
        log.error("spool.damaged", ref=reference(item.message_id), what=str(error))
        return False
    # Durable in the vault before the row stops naming the spool's record.
    # The vault shares its objects out by the end of their names, which is the chance in the message's id.
    name = vault.put(VAULT_KIND, f"{item.group}-{item.message_id}", pack(accepted, body))
    held.set_vault_name(database, item.message_id, item.group, name)
    return True


def clear_vault(database: Database, vault: Vault, *, seconds: float = TURN_SECONDS) -> int:
    """Remove the objects of what was deleted, has expired or was released, for so long at most; return how many.

    First the object, then its name in the row: after a crash in between it is removed once more. One that cannot be
    removed keeps its name and holds up no other. Raises DatabaseAway.
    """
    until = time.monotonic() + seconds
    count = 0
    after = ""
    while time.monotonic() < until and (page := held.left_in_vault(database, after=after)):
        gone = [item for item in page if _remove(vault, item[2])]
        held.forget_vault_names(database, gone)
        count += len(gone)
        after = page[-1][2]
        time.sleep(PAUSE_SECONDS)
    return count


def _remove(vault: Vault, name: str) -> bool:
    try:
        vault.delete(name)
    except (OSError, ValueError) as error:
        log.error("job.failed", name="held to vault", error=f"{name}: {error}")
        return False
    return True


def read_item(settings: Settings, item: HeldItem, vault: Vault | None = None) -> tuple[Accepted, bytes]:
    """Return head and bytes of what is held, wherever they are. Raises NotFound, Malformed."""
    if item.location is not None:
        return read(settings.spool, item.location)
    if not item.vault_name:
        raise NotFound("its bytes are neither in the spool nor in the vault")
    return unpack((vault or open_vault(settings)).get(item.vault_name))


def open_vault(settings: Settings) -> Vault:
    """Return the vault under the master key in use."""
    return Vault(settings.vault, load_master_key(settings.master_key))


def as_released(accepted: Accepted, now: datetime) -> Accepted:
    """Return the head for delivery: it says that it waits in the queue, or a recovery would hold it again.

    There is as much time to deliver it as a new message has, however long it was held.
    """
    expires_at = max(accepted.expires_at, now + (accepted.expires_at - accepted.accepted_at))
    return msgspec.structs.replace(accepted, held="", held_reason="", kept=None, trace=b"", expires_at=expires_at)


def redirect(
    settings: Settings, database: Database, keys: Sequence[DeliveryKey], to: Address, *, by: str, reason: str
) -> int:
    """Deliver to another address instead what waits or is held; return how many deliveries.

    Raises NotAllowed when a judgement holds any of it, NotFound, Malformed, SpoolFull, SpoolFailed; Conflict for what
    went to the vault in this moment: asked again it is redirected.
    """
    named = {(key.message_id, key.group, key.recipient) for key in keys}
    groups = dict.fromkeys((key.message_id, key.group) for key in keys)
    items = [item for id, group in groups if (item := held.find(database, id, group)) is not None]
    for item in items:
        if item.is_judged and any((item.message_id, item.group, one) in named for one in item.recipients):
            raise NotAllowed(f"{reference(item.message_id)} is held by a judgement: release it first")
    with _brought_back(settings, database, items) as places:
        return queue.redirect(database, keys, to, by=by, now=datetime.now(UTC), reason=reason, places=places)


@contextlib.contextmanager
def _brought_back(
    settings: Settings, database: Database, items: Sequence[HeldItem]
) -> Iterator[Mapping[tuple[str, int], Location]]:
    """Copy bytes from the vault to the spool, for deliveries that the block makes; give the places by item.

    They are appended to a folder of our own, which whoever works on the queue adopts. What nobody waits for any more
    leaves the vault by `clear_vault`.
    """
    items = [item for item in items if item.location is None and item.vault_name]
    if not items:
        yield {}
        return
    vault = open_vault(settings)
    spool = Spool(settings.spool, new_owner("release"))
    try:
        yield {(item.message_id, item.group): _bring_back(settings, spool, vault, item) for item in items}
    finally:
        spool.close()


def _bring_back(settings: Settings, spool: Spool, vault: Vault, item: HeldItem) -> Location:
    accepted, body = read_item(settings, item, vault)
    (location,) = asyncio.run(spool.append([(as_released(accepted, datetime.now(UTC)), [body])]))
    return location
