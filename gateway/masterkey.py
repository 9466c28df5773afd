"""The master key's file, and the keys that are made from it: one for each purpose (RFC 5869), none of them stored.

Who holds the master key can read the vault and all that is kept encrypted in the database. The public portal does not.
"""

import contextlib
import os
import secrets
import stat
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.durable import sync_folder
from gateway.mail.errors import Conflict, Malformed, NotAllowed, NotFound

KEY_BYTES = 32
KEY_ID_BYTES = 8
# A secret that a service manager hands over may be readable for the service's group, but never for others.
TOO_OPEN = stat.S_IWGRP | stat.S_IRWXO


def load_master_key(path: Path) -> bytes:
    """Return the 32 octets that the file holds as 64 hexadecimal digits.

    Raises NotFound without a file, NotAllowed when others may read or write it, Malformed when it holds something else.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4 * KEY_BYTES)
    except FileNotFoundError as error:
        raise NotFound(f"there is no master key at {path}") from error
    if mode & TOO_OPEN:
        raise NotAllowed(f"the master key at {path} is open to others; make it readable for its owner only (chmod 600)")
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError as error:
        raise Malformed(f"{path} does not hold hexadecimal digits") from error
    if len(key) != KEY_BYTES:
        raise Malformed(f"{path} does not hold {KEY_BYTES} octets as hexadecimal digits")
    return key


def create_master_key(path: Path) -> bytes:
    """Make a new key, store it so that only its owner can read it, and return it.

    Raises Conflict when the file exists: a key is never overwritten. Of several who create at once, one succeeds, and
    nobody ever sees half a key.
    """
    key = secrets.token_bytes(KEY_BYTES)
    unfinished = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(key.hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link fails when the name is taken.
        os.link(unfinished, path)
    except FileExistsError as error:
        raise Conflict(f"{path} exists already") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
    sync_folder(path.parent)
    return key


def purpose_key(master: bytes, purpose: str) -> bytes:
    """Return the 32 octets for one purpose (HKDF with SHA-256).

    They tell nothing of the master or of other purposes.
    """
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"gatepost:" + purpose.encode()).derive(master)


def key_id(master: bytes) -> str:
    """Return the public name of a master key, 16 hexadecimal digits: stored with what is encrypted under it."""
    return purpose_key(master, "key id")[:KEY_ID_BYTES].hex()
