"""Office files with a password (MS-OFFCRYPTO): opened with the passwords that we know."""

import io
import re
from typing import Any

import msoffcrypto  # type: ignore[import-untyped]
from msoffcrypto.method.ecma376_agile import ECMA376Agile  # type: ignore[import-untyped]

from gateway.inspection.look import Look

# Excel and PowerPoint encrypt write-protected files with these passwords and open them without asking (MS-XLS 2.4.191,
# and for PowerPoint what its files show).
BUILT_IN = ("VelvetSweatshop", "/01Hannes Ruescher/01")
MAX_SPINS = 200_000  # rounds of hashing for a try; Office writes 100,000, the standard allows 10,000,000
SEGMENT = 4096  # octets, MS-OFFCRYPTO 2.3.4.15
SPINS = re.compile(rb"spinCount\s*=\s*[\"']\s*(\d{1,9})")


def decrypted(look: Look, data: bytes, *, info: bytes = b"") -> bytes:
    """Return the file without its password, b"" if none that we know opens it. Notes the lock either way.

    `info` is the EncryptionInfo stream of an OOXML file.
    """
    spins = max((int(count) for count in SPINS.findall(info)), default=0)
    if spins > MAX_SPINS:
        look.note_problem("unsupported")
        look.note_lock(is_opened=False)
        return b""
    opened = _opened(look, data)
    look.note_lock(is_opened=bool(opened))
    return opened


def _opened(look: Look, data: bytes) -> bytes:
    try:
        office = msoffcrypto.OfficeFile(io.BytesIO(data))
    except Exception:  # border: msoffcrypto raises anything on a damaged file
        look.note_problem("unsupported")
        return b""
    for password in dict.fromkeys((*BUILT_IN, *look.passwords)):
        look.check_time()
        if opened := _tried(office, password):
            return look.take((opened,), packed=len(data))
    return b""


def _tried(office: Any, password: str) -> bytes:
    out = io.BytesIO()
    try:
        if office.format == "ooxml" and office.type == "standard":
            office.load_key(password=password, verify_password=True)
        else:
            office.load_key(password=password)
        if office.format == "ooxml" and office.type == "agile" and not _opens(office):
            return b""
        office.decrypt(out)
    except Exception:  # border: msoffcrypto raises anything on a wrong password or a damaged file
        return b""
    return out.getvalue()


def _opens(office: Any) -> bool:
    """Whether the key makes the first segment of an agile package the start of a zip file.

    The verifier in the file is not asked: msoffcrypto 6.1 compares it with its padding and so refuses the right
    password wherever the hash is SHA-1, and every question costs all rounds of hashing once more.
    """
    with office.file.openstream("EncryptedPackage") as stream:
        head = io.BytesIO(stream.read(8 + SEGMENT))
    info = office.info
    opened = ECMA376Agile.decrypt(office.secret_key, info["keyDataSalt"], info["keyDataHashAlgorithm"], head)
    return bytes(opened[:2]) == b"PK"
