"""What is kept for people: held messages, originals, exchanged files. One compressed, encrypted object each.

An object is whole or not there, whatever dies when. Which objects exist, why and how long is the database's business.
The file: magic, key id, nonce, and the zlib stream under AES-256-GCM (NIST SP 800-38D) with its tag. What stands before
the cipher text, and the object's name, are authenticated: an object cannot be passed off as another.
"""

import contextlib
import os
import re
import secrets
import zlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.durable import sync_folder
from gateway.mail.errors import Malformed, NotFound
from gateway.masterkey import key_id, purpose_key

MAGIC = b"GPV1"
PURPOSE = "vault"
NONCE_BYTES = 12
_HEADER = Struct(f"4s8s{NONCE_BYTES}s")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}/[0-9a-z]{2}/[0-9A-Za-z][0-9A-Za-z_-]{1,99}")
UNFINISHED = ".new-"
# Mail is mostly base64, of which no level makes less than three quarters: the quickest is as good as the best.
LEVEL = 1


class Vault:
    """Objects below `root`. New ones are sealed with `master`; those sealed with one of `older` can still be read.

    All methods block on the disk: call them from a thread.
    """

    def __init__(self, root: Path, master: bytes, *, older: Sequence[bytes] = ()) -> None:
        self._root = root
        self._durable_folders: set[Path] = set()
        self._key_id = bytes.fromhex(key_id(master))
        self._keys = {bytes.fromhex(key_id(key)): AESGCM(purpose_key(key, PURPOSE)) for key in (*older, master)}

    def put(self, kind: str, id: str, data: bytes) -> str:
        """Keep `data`, durably, and return the name under which it is found again: `KIND/xx/ID`.

        The same kind and id name the same object, and the last one wins. Raises ValueError for a kind that is not of
        a-z, 0-9 and _, or an id that is not of letters, digits, _ and -; OSError when the disk fails or is full.
        """
        name = f"{kind}/{id[-2:].lower()}/{id}"
        _check(name)
        head = _HEADER.pack(MAGIC, self._key_id, secrets.token_bytes(NONCE_BYTES))
        sealed = self._keys[self._key_id].encrypt(head[-NONCE_BYTES:], zlib.compress(data, LEVEL), head + name.encode())
        self._write(self._root / name, head, sealed)
        return name

    def get(self, name: str) -> bytes:
        """Return what was put.

        Raises NotFound without such an object, Malformed when it is damaged or sealed with a key that is not here.
        """
        _check(name)
        try:
            raw = (self._root / name).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"the vault has no {name}") from error
        head, sealed = raw[: _HEADER.size], memoryview(raw)[_HEADER.size :]
        if len(head) < _HEADER.size or not head.startswith(MAGIC):
            raise Malformed(f"{name} is no object of the vault")
        _, sealed_with, nonce = _HEADER.unpack(head)
        key = self._keys.get(sealed_with)
        if key is None:
            raise Malformed(f"{name} is sealed with the key {sealed_with.hex()}, which is not here")
        try:
            return zlib.decompress(key.decrypt(nonce, sealed, head + name.encode()))
        except (InvalidTag, zlib.error) as error:
            raise Malformed(f"{name} is damaged") from error

    def delete(self, name: str) -> None:
        """Remove an object. One that is gone already is no error: a deletion may be repeated after a crash."""
        _check(name)
        (self._root / name).unlink(missing_ok=True)

    def sweep(self, before: datetime) -> int:
        """Remove what was being written before `before` by processes that died over it; return how many files."""
        count = 0
        for path in self._root.glob(f"*/??/{UNFINISHED}*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < before.timestamp():
                    path.unlink()
                    count += 1
        return count

    def _write(self, path: Path, head: bytes, sealed: bytes) -> None:
        """Write a whole file under its name, durable with the names of the folders above it."""
        self._make_folder(path.parent)
        unfinished = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(head)
                file.write(sealed)
                file.flush()
                os.fsync(file.fileno())
            os.rename(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder of the vault and its name durable, once in a process: another may have made it a moment ago."""
        if folder in self._durable_folders:
            return
        if folder != self._root:
            self._make_folder(folder.parent)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)
        self._durable_folders.add(folder)


def _check(name: str) -> None:
    """Refuse a name that would lead out of the vault, or to a file that is none of its objects."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name an object of the vault")
