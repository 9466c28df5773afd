"""The tables of mail: messages, a delivery for each recipient, held items. Queries are in the subjects' files.

A delivery names the record in the spool only as long as the bytes are needed: so one learns which segments may go.
"""

from typing import Any

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    bindparam,
    func,
    select,
    text,
)

from gateway.accepted import State
from gateway.mail.address import Address
from gateway.mail.envelope import Direction
from gateway.store.metadata import METADATA, Json, UtcDateTime, is_literally, one_of, storable
from gateway.verdict import Action

ID_LENGTH = 26  # of a message

FINAL = (State.DELIVERED, State.FAILED, State.DELETED, State.DISCARDED)
NOTICES = ("", "failed", "delayed", "delivered", "relayed")
HELD_STATES = ("held", "released", "deleted", "expired")
HELD_LATER = ("operator", "undeliverable")  # kinds of items whose mail was on its way before


def _partial(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


# Held, and the bytes are still in the spool: to be moved to the vault once no notice needs them there.
HELD_IN_SPOOL = "state = 'held' AND segment IS NOT NULL AND notice_due = ''"
# Held no more, and the vault has the bytes still.
LEFT_IN_VAULT = "state <> 'held' AND vault_name <> ''"

messages = Table(
    "messages",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("ref", Text, nullable=False),
    Column("accepted_at", UtcDateTime, nullable=False),
    Column("direction", Text, nullable=False),
    Column("mail_from", Text, nullable=False),
    Column("recipients", Text, nullable=False),
    Column("recipient_count", Integer, nullable=False),
    Column("author", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("internet_message_id", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("peer_ip", Text, nullable=False),
    Column("helo", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("tls", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("policy_version", BigInteger, nullable=False),
    Column("is_notice", Boolean, nullable=False),
    one_of("direction", Direction),
    one_of("action", Action),
    # No index on the reference: its entries, scattered by chance, cost more than all else that an import writes.
    # SQLite: with a rowid, new rows are appended, and the key's index, which has the ids only, is read for a reference.
)

deliveries = Table(
    "deliveries",
    METADATA,
    Column("message_id", Text, ForeignKey("messages.id"), nullable=False),
    Column("group_number", Integer, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", UtcDateTime),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("lease_owner", Text, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("segment", Text),
    Column("segment_offset", BigInteger),
    Column("segment_length", BigInteger),
    Column("last_at", UtcDateTime),
    Column("last_host", Text, nullable=False),
    Column("last_reply", Text, nullable=False),
    Column("tls", Text, nullable=False),
    Column("notice_due", Text, nullable=False),
    Column("delay_notified_at", UtcDateTime),
    PrimaryKeyConstraint("message_id", "group_number", "recipient"),
    one_of("state", State),
    one_of("direction", Direction),
    one_of("notice_due", NOTICES),
    CheckConstraint("state <> 'active' OR (lease_owner <> '' AND lease_until IS NOT NULL)", name="leased"),
    CheckConstraint("state <> 'queued' OR due_at IS NOT NULL", name="due"),
    _partial("ix_deliveries_queued", "source", "due_at", "domain", where="state = 'queued'"),
    _partial("ix_deliveries_active", "lease_owner", where="state = 'active'"),
    _partial("ix_deliveries_held", "recipient", where="state = 'held'"),
    _partial("ix_deliveries_segment", "segment", where="segment IS NOT NULL"),
    _partial("ix_deliveries_held_in_spool", "message_id", "group_number", where=HELD_IN_SPOOL),
    _partial("ix_deliveries_notice", "message_id", where="notice_due <> ''"),
    sqlite_with_rowid=False,
)

IS_QUEUED = is_literally(deliveries.c.state, State.QUEUED)
IS_ACTIVE = is_literally(deliveries.c.state, State.ACTIVE)
IS_HELD = is_literally(deliveries.c.state, State.HELD)
IS_OPEN = is_literally(deliveries.c.state, State.QUEUED, State.ACTIVE, State.HELD)

held_items = Table(
    "held_items",
    METADATA,
    Column("message_id", Text, ForeignKey("messages.id"), nullable=False),
    Column("group_number", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("held_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("vault_name", Text, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("closed_by", Text, nullable=False),
    # The Message-ID as the group leaves when it is released; "" for items that were made later.
    Column("sent_message_id", Text, nullable=False, server_default=text("''")),
    # All that objected: a list of reason, detail and is_floor; empty for items that no judgement made.
    Column("objections", Json, nullable=False, server_default=text("'[]'")),
    PrimaryKeyConstraint("message_id", "group_number"),
    one_of("state", HELD_STATES),
    _partial("ix_held_items_held_at", "held_at", where="state = 'held'"),
    _partial("ix_held_items_kind", "kind", where="state = 'held'"),
    _partial("ix_held_items_left_in_vault", "vault_name", where=LEFT_IN_VAULT),
)


def has_reference(ref: str) -> ColumnElement[bool]:
    """Return the condition that a message has this reference: reads all ids, no other column."""
    ids = messages.alias("ids").c.id
    return messages.c.id.in_(select(ids).where(func.substr(ids, ID_LENGTH - len(ref) + 1) == ref))


class DeliveryKey(Struct, frozen=True):
    """Names one delivery."""

    message_id: str
    group: int
    recipient: Address

    @property
    def bound(self) -> dict[str, Any]:
        return {"id": self.message_id, "group": self.group, "to": storable(str(self.recipient))}


# One delivery, for statements that are run with many keys (`DeliveryKey.bound`).
BY_KEY = (
    deliveries.c.message_id == bindparam("id"),
    deliveries.c.group_number == bindparam("group"),
    deliveries.c.recipient == bindparam("to"),
)


def address_of(text: str) -> Address:
    """Return the address that `str` made this text of; a domain has no @, a local part may have."""
    local, _, domain = text.rpartition("@")
    return Address(local, domain)
