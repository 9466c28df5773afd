"""The bytes of held mail: out of the spool into the vault, and back when it is released.

An object in the vault is a record as the spool has it (length of the head, head, message), so that what is released is
delivered as it was accepted.
"""

import asyncio
from datetime import UTC, datetime
from struct import Struct
from struct import error as StructError  # noqa: N812 (an exception's name)

import msgspec

from gateway import log
from gateway.accepted import Accepted
from gateway.mail.errors import Malformed, NotFound
from gateway.mail.reference import reference
from gateway.masterkey import load_master_key
from gateway.settings import Settings
from gateway.spool import Spool, new_owner, read
from gateway.store import held
from gateway.store.database import Database
from gateway.store.held import HeldItem
from gateway.vault import Vault

VAULT_KIND = "held"
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


def move_to_vault(settings: Settings, database: Database, vault: Vault, *, limit: int = 50) -> int:
    """Move held bytes out of the spool; return how many items were moved. Raises DatabaseAway, OSError."""
    moved = 0
    for item in held.outside_vault(database, limit=limit):
        if item.location is None:
            continue
        try:
            accepted, body = read(settings.spool, item.location)
        except (Malformed, NotFound) as error:
            log.error("spool.damaged", ref=reference(item.message_id), what=str(error))
            continue
        # Durable in the vault before the row stops naming the spool's record.
        # The vault shares its objects out by the end of their names, which is the chance in the message's id.
        name = vault.put(VAULT_KIND, f"{item.group}-{item.message_id}", pack(accepted, body))
        held.set_vault_name(database, item.message_id, item.group, name)
        moved += 1
    return moved


def release_item(settings: Settings, database: Database, item: HeldItem, *, by: str, reason: str) -> int:
    """Queue a held item for delivery; return for how many recipients.

    Raises NotFound, Malformed, SpoolFull, SpoolFailed.

    Bytes from the vault are appended to a spool folder of our own, which whoever works on the queue adopts.
    """
    now = datetime.now(UTC)
    if not item.vault_name:
        return held.release(database, item.message_id, item.group, by=by, now=now, reason=reason)
    vault = Vault(settings.vault, load_master_key(settings.master_key))
    accepted, body = unpack(vault.get(item.vault_name))
    spool = Spool(settings.spool, new_owner("release"))
    try:
        # The record says that it waits in the queue, or a recovery would hold it again.
        released = msgspec.structs.replace(accepted, held="", held_reason="", expires_at=_fresh_expiry(accepted, now))
        (location,) = asyncio.run(spool.append([(released, [body])]))
        count = held.release(database, item.message_id, item.group, by=by, now=now, reason=reason, location=location)
    finally:
        spool.close()
    vault.delete(item.vault_name)
    return count


def _fresh_expiry(accepted: Accepted, now: datetime) -> datetime:
    """Give delivery as much time as a new message has, however long the item was held."""
    return max(accepted.expires_at, now + (accepted.expires_at - accepted.accepted_at))
