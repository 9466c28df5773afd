"""Known recipients of our domains: mailboxes, aliases (with a target) and a domain's catch-all (local part `*`)."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Text, literal

from gateway.mail.errors import Malformed
from gateway.policy.ledger import RecipientEntry
from gateway.store import entries
from gateway.store.database import Database
from gateway.store.entries import Listed, Subject, Values, ledger_table

recipients = ledger_table(
    "recipients",
    Column("local", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("target", Text, nullable=False),
    identity=("local", "domain"),
)


def _write(entry: RecipientEntry) -> dict[str, Any]:
    local, domain, target = entry.local.strip().lower(), entry.domain.strip().lower(), entry.target.strip()
    if not local or not domain or "@" in domain:
        raise Malformed("a recipient needs a local part and a domain")
    if target and not all(target.rpartition("@")):
        raise Malformed("the target is no address")
    return {"local": local, "domain": domain, "target": target}


def _read(row: Values) -> RecipientEntry:
    return RecipientEntry(id=row["id"], local=row["local"], domain=row["domain"], target=row["target"])


SUBJECT = Subject("recipient", recipients, _write, _read, ("local", "domain"))


def add(
    db: Database, entry: RecipientEntry, *, by: str, now: datetime, owner: str = "", reason: str = ""
) -> RecipientEntry:
    """Make a recipient known; an empty id is filled in. Raises Conflict, Malformed."""
    return entries.add(db, SUBJECT, entry, by=by, now=now, extra={"owner": owner, "reason": reason})


def remove(db: Database, id: str, *, by: str, now: datetime, comment: str = "") -> None:
    """Make a recipient unknown. Raises NotFound."""
    entries.end(db, SUBJECT, id, by=by, now=now, comment=comment)


def import_many(db: Database, new: Iterable[RecipientEntry], *, by: str, now: datetime, reason: str = "") -> int:
    """Add many recipients and return how many were new; those that exist are left as they are."""
    return entries.import_many(db, SUBJECT, new, by=by, now=now, extra={"reason": reason})


def list_entries(
    db: Database, *, search: str = "", with_ended: bool = False, after_id: str = "", limit: int = 500
) -> list[Listed[RecipientEntry]]:
    """Return recipients whose address contains `search`, page by page."""
    address = recipients.c.local + literal("@") + recipients.c.domain
    where = [address.contains(search.lower(), autoescape=True)] if search else []
    return entries.listed(db, SUBJECT, where=where, with_ended=with_ended, after_id=after_id, limit=limit)
