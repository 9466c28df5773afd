"""PDF files with a password: the standard security handler (ISO 32000-1, 7.6; revisions 5 and 6 by ISO 32000-2)."""

import hashlib
import struct

from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from msgspec import Struct

from gateway.inspection.formats.pdf_objects import PdfObject

PADDING = bytes.fromhex(  # 7.6.3.3, algorithm 2, step a
    "28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A"
)


class Unsupported(Exception):
    """The file is encrypted in a way that is not opened: by certificates, or of a version that is not known."""


class Encryption(Struct, frozen=True):
    """What the encryption dictionary says."""

    version: int
    revision: int
    key_size: int  # octets
    owner: bytes
    user: bytes
    user_key: bytes
    permissions: int
    file_id: bytes
    is_aes: bool
    hides_metadata: bool


def read_encryption(item: PdfObject, file_id: bytes) -> Encryption:
    """Read the dictionary (7.6.1, table 20; 7.6.3.2, table 21). Raises Unsupported."""
    version, revision = item.number_after(b"V") or 0, item.number_after(b"R") or 0
    methods = {token.value for token in item.after(b"CFM")}
    if not _is_standard(item) or version not in (1, 2, 4, 5) or revision not in (2, 3, 4, 5, 6):
        raise Unsupported
    bits = {1: 40, 4: 128, 5: 256}.get(version) or item.number_after(b"Length") or 40
    permissions = next((token.value for token in item.after(b"P") if token.kind == "word"), b"0")
    return Encryption(
        version,
        revision,
        min(max(bits // 8, 5), 32),
        _string(item, b"O"),
        _string(item, b"U"),
        _string(item, b"UE"),
        _integer(permissions),
        file_id,
        is_aes=version == 5 or b"AESV2" in methods,
        hides_metadata=not any(token.value == b"false" for token in item.after(b"EncryptMetadata")),
    )


def _is_standard(item: PdfObject) -> bool:
    return any(token.value == b"Standard" for token in item.after(b"Filter"))


def _string(item: PdfObject, name: bytes) -> bytes:
    return next((token.value for token in item.after(name) if token.kind == "string"), b"")


def _integer(value: bytes) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise Unsupported from error


def file_key(encryption: Encryption, password: str) -> bytes:
    """Return the key of the file if `password` is that of the user, else b""."""
    if encryption.version == 5:
        return _key_256(encryption, password.encode()[:127])
    key = _key_128(encryption, password.encode("latin-1", "replace"))
    return key if _opens(encryption, key) else b""


def _key_128(encryption: Encryption, password: bytes) -> bytes:
    """Algorithm 2 (7.6.3.3)."""
    digest = hashlib.md5((password + PADDING)[:32], usedforsecurity=False)
    digest.update(encryption.owner[:32])
    digest.update(struct.pack("<I", encryption.permissions & 0xFFFFFFFF))
    digest.update(encryption.file_id)
    if encryption.revision >= 4 and not encryption.hides_metadata:
        digest.update(b"\xff\xff\xff\xff")
    key = digest.digest()[: encryption.key_size]
    for _ in range(50 if encryption.revision >= 3 else 0):
        key = hashlib.md5(key, usedforsecurity=False).digest()[: encryption.key_size]
    return key


def _opens(encryption: Encryption, key: bytes) -> bool:
    """Algorithms 4 to 6 (7.6.3.4): whether the key makes the user's entry."""
    if encryption.revision == 2:
        return rc4(key, PADDING) == encryption.user[:32]
    value = hashlib.md5(PADDING + encryption.file_id, usedforsecurity=False).digest()
    for step in range(20):
        value = rc4(bytes(octet ^ step for octet in key), value)
    return value == encryption.user[:16]


def _key_256(encryption: Encryption, password: bytes) -> bytes:
    """Algorithm 2.A (ISO 32000-2, 7.6.4.3.3): the user's entry is a hash, a salt to check and a salt for the key."""
    user = encryption.user[:48]
    if len(user) < 48 or len(encryption.user_key) < 32:
        return b""
    if _hash_256(encryption.revision, password, user[32:40]) != user[:32]:
        return b""
    wrapping = _hash_256(encryption.revision, password, user[40:48])
    cipher = Cipher(AES(wrapping), CBC(bytes(16))).decryptor()
    return cipher.update(encryption.user_key[:32]) + cipher.finalize()


def _hash_256(revision: int, password: bytes, salt: bytes) -> bytes:
    """Algorithm 2.B (ISO 32000-2, 7.6.4.3.4); revision 5 stops after the first hash."""
    key = hashlib.sha256(password + salt).digest()
    if revision == 5:
        return key
    turn = 0
    while True:
        cipher = Cipher(AES(key[:16]), CBC(key[16:32])).encryptor()
        mixed = cipher.update((password + key) * 64) + cipher.finalize()
        # The first 16 octets as a number modulo 3: 256 is 1 modulo 3, so their sum will do.
        key = (hashlib.sha256, hashlib.sha384, hashlib.sha512)[sum(mixed[:16]) % 3](mixed).digest()
        turn += 1
        if turn >= 64 and mixed[-1] <= turn - 32:
            return key[:32]


def rc4(key: bytes, data: bytes) -> bytes:
    cipher = Cipher(ARC4(key), mode=None).encryptor()
    return cipher.update(data) + cipher.finalize()


def decrypt(encryption: Encryption, key: bytes, number: int, generation: int, data: bytes) -> bytes:
    """Return a string or a stream of one object in clear (7.6.2, algorithm 1; 1.A for version 5)."""
    if encryption.version != 5:
        salted = key + struct.pack("<I", number)[:3] + struct.pack("<I", generation)[:2]
        salted += b"sAlT" if encryption.is_aes else b""
        key = hashlib.md5(salted, usedforsecurity=False).digest()[: min(len(key) + 5, 16)]
    if not encryption.is_aes:
        return rc4(key, data)
    size = (len(data) - 16) & ~15
    if size <= 0:
        return b""
    cipher = Cipher(AES(key), CBC(data[:16])).decryptor()
    clear = cipher.update(data[16 : 16 + size]) + cipher.finalize()
    return clear[: -clear[-1]] if 1 <= clear[-1] <= 16 else clear
