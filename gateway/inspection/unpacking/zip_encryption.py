"""The two encryptions of ZIP archives that are in use: the old one (APPNOTE 6.1) and WinZip's AES (AE-1, AE-2).

WinZip: "AES Encryption Information: Encryption Specification AE-1 and AE-2", version 1.04.
"""

import hashlib
import hmac
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from gateway.inspection.unpacking.libarchive_reading import LibarchiveError, unpack_zip_member
from gateway.inspection.zip_directory import STREAMED, Entry, extra_fields

AES = 99  # the method that stands for "encrypted by AES" (AE specification, section III)
_HEADER = 12  # octets before the data (APPNOTE 6.1.3)
_CODE = 10  # octets of the authentication code
_BLOCKS = 4096  # of the cipher at once


class AesField(NamedTuple):
    """Extra field 0x9901: by version 2 the checksum is left out, `method` is that of the data."""

    version: int
    strength: int
    method: int


def aes_field(extra: bytes) -> AesField | None:
    """Return the extra field of AES, None if there is none or it cannot be read."""
    for kind, content in extra_fields(extra):
        if kind == 0x9901 and len(content) >= 7 and content[2:4] == b"AE" and content[4] in (1, 2, 3):
            return AesField(content[0], content[4], int.from_bytes(content[5:7], "little"))
    return None


def encodings(password: str) -> Iterator[bytes]:
    """Yield the octets that programs make of a password: UTF-8, and what Windows and DOS do."""
    found: dict[bytes, None] = {password.encode("utf-8", "replace"): None}
    for codec in ("cp1252", "cp437"):
        try:
            found[password.encode(codec)] = None
        except UnicodeEncodeError:
            continue
    yield from found


def open_aes(packed: bytes, field: AesField, password: bytes) -> bytes | None:
    """Return the data decrypted; None: it is not this password, or the data was changed."""
    key_size = 8 + 8 * field.strength
    salt_size = key_size // 2
    begin, body, code = packed[: salt_size + 2], packed[salt_size + 2 : -_CODE], packed[-_CODE:]
    if len(packed) < salt_size + 2 + _CODE:
        return None
    keys = hashlib.pbkdf2_hmac("sha1", password, begin[:salt_size], 1000, 2 * key_size + 2)
    if keys[-2:] != begin[salt_size:]:
        return None
    if not hmac.compare_digest(hmac.digest(keys[key_size : 2 * key_size], body, "sha1")[:_CODE], code):
        return None
    return b"".join(_counted(body, keys[:key_size]))


def _counted(body: bytes, key: bytes) -> Iterator[bytes]:
    """Counter mode with a little-endian counter from 1, which libraries do not have."""
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # the blocks are the counter
    for place in range(0, len(body), 16 * _BLOCKS):
        piece = body[place : place + 16 * _BLOCKS]
        first = place // 16 + 1
        blocks = b"".join(number.to_bytes(16, "little") for number in range(first, first + -(-len(piece) // 16)))
        stream = cipher.update(blocks)[: len(piece)]
        yield (int.from_bytes(piece) ^ int.from_bytes(stream)).to_bytes(len(piece))


def open_traditional(packed: bytes, entry: Entry, password: bytes) -> bytes | None:
    """Return the data decrypted; None: it is surely not this password. One in 256 wrong ones is not told by this."""
    if len(packed) < _HEADER or not password:
        return None
    wanted = entry.time >> 8 if entry.flags & STREAMED else entry.check >> 24
    if _last_of_header(packed[:_HEADER], password) != wanted:
        return None
    return _decrypt_traditional(packed, wanted, password)


def _decrypt_traditional(packed: bytes, wanted: int, password: bytes) -> bytes:
    """Decrypt by libarchive, as if the member were stored. What it says of the checksum is not of the unpacked data."""
    size = len(packed) - _HEADER
    taken = bytearray()
    chunks = unpack_zip_member(
        packed, method=0, size=size, check=wanted << 24, version=20, flags=1, passphrase=password
    )
    try:
        for chunk in chunks:
            taken += chunk
    except LibarchiveError:
        if len(taken) < size:
            raise
    return bytes(taken)


def _last_of_header(header: bytes, password: bytes) -> int:
    """Decrypt the random header; its last octet repeats the checksum's highest (APPNOTE 6.1.5 to 6.1.7)."""
    keys = [0x12345678, 0x23456789, 0x34567890]
    for octet in password:
        _update(keys, octet)
    plain = 0
    for octet in header:
        mixed = keys[2] | 2
        plain = octet ^ ((mixed * (mixed ^ 1)) >> 8 & 0xFF)
        _update(keys, plain)
    return plain


def _update(keys: list[int], octet: int) -> None:
    keys[0] = _crc(keys[0], octet)
    keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
    keys[2] = _crc(keys[2], keys[1] >> 24)


def _crc(value: int, octet: int) -> int:
    """One step of CRC-32 without its complements, which zlib makes before and after."""
    return zlib.crc32(bytes((octet,)), value ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
