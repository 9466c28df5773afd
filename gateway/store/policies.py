"""Versions of the policy document. Every published version stays; which one is in force stands in `revisions`."""

from collections.abc import Callable
from datetime import datetime

from msgspec import Struct
from sqlalchemy import BigInteger, Column, Connection, Table, Text, insert, select, update

from gateway.mail.errors import NotFound
from gateway.policy.document import Document
from gateway.store import audit, revisions
from gateway.store.database import Database
from gateway.store.metadata import METADATA, UtcDateTime, one_of, storable

policy_versions = Table(
    "policy_versions",
    METADATA,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("document", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("published_by", Text, nullable=False),
    Column("published_at", UtcDateTime, nullable=False),
    Column("state", Text, nullable=False),
    one_of("state", ("published", "superseded")),
)


class PolicyVersion(Struct, frozen=True):
    """One version for lists: without the document. `state` is "published" for the one in force, else "superseded"."""

    version: int
    comment: str
    published_by: str
    published_at: datetime
    state: str


def publish(
    db: Database,
    document: Document,
    *,
    by: str,
    comment: str,
    now: datetime,
    check: Callable[[Document], object] | None = None,
) -> int:
    """Put `document` in force and return its version. `check` runs first and raises what it finds wrong."""
    if check is not None:
        check(document)
    with db.writing(durable=True) as connection:
        return _publish(connection, document.model_dump_json(), by=by, comment=comment, now=now, action="publish")


def rollback(
    db: Database,
    version: int,
    by: str,
    *,
    now: datetime,
    comment: str = "",
    check: Callable[[Document], object] | None = None,
) -> int:
    """Publish an old version again, as a new one, and return its number. Raises NotFound."""
    _, document = load(db, version)
    if check is not None:
        check(document)
    with db.writing(durable=True) as connection:
        text = _document_of(connection, version)
        said = comment or f"Back to version {version}"
        return _publish(connection, text, by=by, comment=said, now=now, action="roll back")


def _publish(connection: Connection, text: str, *, by: str, comment: str, now: datetime, action: str) -> int:
    version = revisions.next_policy_version(connection)
    connection.execute(update(policy_versions).where(policy_versions.c.state == "published").values(state="superseded"))
    connection.execute(
        insert(policy_versions).values(
            version=version,
            document=text,
            comment=storable(comment, 4000),
            published_by=storable(by, 200),
            published_at=now,
            state="published",
        )
    )
    audit.record(connection, at=now, by=by, action=action, subject="policy", subject_id=str(version), comment=comment)
    return version


def load(db: Database, version: int | None = None) -> tuple[int, Document]:
    """Return a version's number and document; None: the one in force. Raises NotFound, also before any.

    A document that this release cannot read raises pydantic's ValidationError (a ValueError).
    """
    with db.reading() as connection:
        wanted = revisions.read(connection).policy_version if version is None else version
        text = _document_of(connection, wanted)
    return wanted, Document.model_validate_json(text)


def _document_of(connection: Connection, version: int) -> str:
    query = select(policy_versions.c.document).where(policy_versions.c.version == version)
    text = connection.execute(query).scalar_one_or_none()
    if text is None:
        raise NotFound(f"policy version {version}" if version else "no policy was published yet")
    return str(text)


def versions(db: Database, *, limit: int = 100, before: int | None = None) -> list[PolicyVersion]:
    """Return versions, newest first; the next page is asked for with the last one's number as `before`."""
    table = policy_versions.c
    query = select(table.version, table.comment, table.published_by, table.published_at, table.state)
    query = query.order_by(table.version.desc()).limit(limit)
    if before is not None:
        query = query.where(table.version < before)
    with db.reading() as connection:
        return [PolicyVersion(*row) for row in connection.execute(query)]
