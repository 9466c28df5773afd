"""Bypass keys: rows of the ledger that are matched by a keyed hash and shown from a cipher text, never kept in clear.

A month has one key of a class, whichever process makes it: an index says so. To show a key, to make, to change and to
revoke one is audited.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Column, Connection, Index, Integer, LargeBinary, Text, select, text

from gateway.mail.errors import Conflict, Malformed, NotFound
from gateway.mail.reference import new_id
from gateway.masterkey import key_id, purpose_key
from gateway.policy.keys import MAX_LENGTH, MIN_LENGTH, BypassKey, digest_of, is_key
from gateway.store import audit, entries
from gateway.store.database import Database
from gateway.store.entries import Listed, Subject, Values, ledger_table
from gateway.store.metadata import Texts, UtcDateTime

MATCHING = "bypass key matching"  # purposes of keys that are made from the master key
SEALING = "bypass key sealing"
NONCE_BYTES = 12  # NIST SP 800-38D section 5.2.1.1
KEY_ID_BYTES = 8
_THE_MONTHS = text("valid_to_rev IS NULL AND period <> ''")

bypass_keys = ledger_table(
    "bypass_keys",
    Column("key_class", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("length", Integer, nullable=False),
    Column("period", Text, nullable=False),
    Column("valid_from", UtcDateTime, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("recipients", Texts, nullable=False),
    Column("senders", Texts, nullable=False),
    Column("types", Texts, nullable=False),
    identity=("digest",),
)
Index(
    "uq_bypass_keys_period",
    bypass_keys.c.key_class,
    bypass_keys.c.period,
    unique=True,
    sqlite_where=_THE_MONTHS,
    postgresql_where=_THE_MONTHS,
)


def _write(entry: BypassKey) -> dict[str, Any]:
    if entry.uses < 0 or not MIN_LENGTH <= entry.length <= MAX_LENGTH:
        raise Malformed(f"a key has {MIN_LENGTH} to {MAX_LENGTH} characters and no negative number of uses")
    if entry.expires_at is not None and entry.expires_at <= entry.valid_from:
        raise Malformed("a key ends after it begins")
    return {
        "key_class": entry.key_class,
        "digest": entry.digest,
        "length": entry.length,
        "period": entry.period,
        "valid_from": entry.valid_from,
        "expires_at": entry.expires_at,
        "uses": entry.uses,
        "recipients": entry.recipients,
        "senders": entry.senders,
        "types": entry.types,
        "owner": entry.owner,
        "reason": entry.reason,
    }


def _read(row: Values) -> BypassKey:
    return BypassKey(
        id=row["id"],
        key_class=row["key_class"],
        digest=row["digest"],
        length=row["length"],
        valid_from=row["valid_from"],
        expires_at=row["expires_at"],
        period=row["period"],
        uses=row["uses"],
        recipients=row["recipients"],
        senders=row["senders"],
        types=row["types"],
        owner=row["owner"],
        reason=row["reason"],
    )


SUBJECT = Subject("bypass_key", bypass_keys, _write, _read, ("digest",))


class KeySecrets:
    """What the master key gives for bypass keys. Those sealed with one of `older` can still be shown, not matched."""

    def __init__(self, master: bytes, *, older: Sequence[bytes] = ()) -> None:
        self.match_key = match_key(master)
        self._key_id = bytes.fromhex(key_id(master))
        self._sealers = {bytes.fromhex(key_id(key)): AESGCM(purpose_key(key, SEALING)) for key in (*older, master)}

    def seal(self, clear: str, id: str) -> bytes:
        """Return a key as it is stored in the row `id`: key id, nonce, AES-256-GCM's cipher text with its tag."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return self._key_id + nonce + self._sealers[self._key_id].encrypt(nonce, clear.encode(), id.encode())

    def open(self, sealed: bytes, id: str) -> str:
        """Return the key. Raises Malformed when it was sealed with another master key, or for another row."""
        sealer = self._sealers.get(sealed[:KEY_ID_BYTES])
        if sealer is None:
            raise Malformed(f"the key {id} is sealed with the master key {sealed[:KEY_ID_BYTES].hex()}, not with this")
        try:
            nonce = sealed[KEY_ID_BYTES : KEY_ID_BYTES + NONCE_BYTES]
            return sealer.decrypt(nonce, sealed[KEY_ID_BYTES + NONCE_BYTES :], id.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise Malformed(f"the stored key {id} is damaged") from error


class Revealed(Struct, frozen=True):
    """A key in clear, for whoever is shown it."""

    entry: BypassKey
    key: str


def match_key(master: bytes) -> bytes:
    """Return what keys are hashed with."""
    return purpose_key(master, MATCHING)


def new_key(length: int) -> str:
    """Return a random key: upper case hexadecimal digits, letters and numerals both."""
    while True:
        key = secrets.token_hex((length + 1) // 2)[:length].upper()
        if is_key(key):
            return key


def add(db: Database, sealing: KeySecrets, entry: BypassKey, *, by: str, now: datetime, clear: str = "") -> Revealed:
    """Begin a key, a random one unless `clear` is given; id, digest and length are filled in.

    Raises Conflict for a key that is there already, or a second one of a month; Malformed.
    """
    with db.writing(durable=True) as connection:
        return _begin(connection, sealing, entry, by=by, now=now, clear=clear)


def _begin(
    connection: Connection, sealing: KeySecrets, entry: BypassKey, *, by: str, now: datetime, clear: str = ""
) -> Revealed:
    clear = clear.upper() or new_key(entry.length)
    if not is_key(clear):
        raise Malformed("a key is 8 to 32 hexadecimal digits, letters and numerals both")
    id = new_id(int(now.timestamp() * 1000))
    digest = digest_of(sealing.match_key, clear)
    whole = replace(entry, id=id, digest=digest, length=len(clear))
    added = entries.begin(connection, SUBJECT, (whole,), by=by, now=now, extra={"ciphertext": sealing.seal(clear, id)})
    if not added:
        raise Conflict("there is such a key already")
    return Revealed(added[0], clear)


def rotate(
    db: Database, sealing: KeySecrets, entry: BypassKey, *, by: str, now: datetime, comment: str = ""
) -> Revealed:
    """Put a new monthly key in the place of all monthly ones of its class, at once and without grace.

    Those of months to come end as well: who knows this one may have seen them.
    """
    with db.writing(durable=True) as connection:
        for id in _monthly_ids(connection, entry.key_class):
            entries.end_in(connection, SUBJECT, id, by=by, now=now, comment=comment)
        made = _begin(connection, sealing, entry, by=by, now=now)
        audit.record(
            connection,
            at=now,
            by=by,
            action="rotate",
            subject=SUBJECT.name,
            subject_id=made.entry.id,
            comment=comment,
        )
        return made


def _monthly_ids(connection: Connection, key_class: str) -> list[str]:
    table = bypass_keys.c
    query = select(table.id).where(table.key_class == key_class, table.period != "", table.valid_to_rev.is_(None))
    return list(connection.execute(query).scalars())


def has_month(db: Database, key_class: str, period: str) -> bool:
    """Tell whether a class has its key of a month."""
    table = bypass_keys.c
    query = select(table.id).where(table.key_class == key_class, table.period == period, table.valid_to_rev.is_(None))
    with db.reading() as connection:
        return connection.execute(query).first() is not None


def revoke(db: Database, id: str, *, by: str, now: datetime, comment: str = "") -> None:
    """End a key at once. Raises NotFound."""
    with db.writing(durable=True) as connection:
        entries.end_in(connection, SUBJECT, id, by=by, now=now, comment=comment, action="revoke")


def reveal(db: Database, sealing: KeySecrets, id: str, *, by: str, now: datetime) -> Revealed:
    """Return a current key in clear; that somebody was shown it is in the audit first. Raises NotFound, Malformed."""
    table = bypass_keys.c
    with db.writing(durable=True) as connection:
        row = connection.execute(select(bypass_keys).where(table.id == id, table.valid_to_rev.is_(None))).one_or_none()
        if row is None:
            raise NotFound(f"no current bypass key {id}")
        clear = sealing.open(row.ciphertext, id)
        audit.record(connection, at=now, by=by, action="reveal", subject=SUBJECT.name, subject_id=id)
    return Revealed(_read(row._mapping), clear)


def list_entries(
    db: Database, *, key_class: str = "", with_ended: bool = False, after_id: str = "", limit: int = 500
) -> list[Listed[BypassKey]]:
    """Return keys, without what they are, page by page."""
    where = [bypass_keys.c.key_class == key_class] if key_class else []
    return entries.listed(db, SUBJECT, where=where, with_ended=with_ended, after_id=after_id, limit=limit)
