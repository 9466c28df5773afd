"""Publishing, loading and rolling back the policy document."""

from datetime import UTC, datetime

import pytest

from gateway.mail.errors import NotFound
from gateway.policy.document import Document, OwnDomain
from gateway.store import audit, policies, revisions
from gateway.store.database import Database
from gateway.store.revisions import Revisions

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FIRST = Document(company="First", domains={"corp.example": OwnDomain(any_recipient=True)})
SECOND = Document(company="Second")


def publish(database: Database, document: Document, comment: str = "") -> int:
    return policies.publish(database, document, by="ada", comment=comment, now=NOW)


def test_before_the_first_publication_there_is_no_policy(database: Database) -> None:
    assert revisions.current(database) == Revisions(0, 0)
    with pytest.raises(NotFound, match="no policy was published yet"):
        policies.load(database)


def test_what_was_published_is_in_force(database: Database) -> None:
    assert publish(database, FIRST) == 1
    assert publish(database, SECOND) == 2
    assert policies.load(database) == (2, SECOND)
    assert policies.load(database, 1) == (1, FIRST)
    assert revisions.current(database) == Revisions(2, 0)


def test_a_version_that_does_not_exist_is_not_found(database: Database) -> None:
    publish(database, FIRST)
    with pytest.raises(NotFound):
        policies.load(database, 2)
    with pytest.raises(NotFound):
        policies.rollback(database, 2, "ada", now=NOW)


def test_rolling_back_publishes_the_old_document_as_a_new_version(database: Database) -> None:
    publish(database, FIRST)
    publish(database, SECOND)
    assert policies.rollback(database, 1, "bob", now=NOW) == 3
    assert policies.load(database) == (3, FIRST)
    newest = policies.versions(database)[0]
    assert (newest.version, newest.comment, newest.published_by, newest.published_at) == (
        3,
        "Back to version 1",
        "bob",
        NOW,
    )


def test_one_version_is_published_and_the_others_are_superseded(database: Database) -> None:
    for number in range(3):
        publish(database, FIRST, f"change {number}")
    assert [(one.version, one.state) for one in policies.versions(database)] == [
        (3, "published"),
        (2, "superseded"),
        (1, "superseded"),
    ]
    assert [one.comment for one in policies.versions(database, limit=1, before=3)] == ["change 1"]


def test_a_document_that_the_check_refuses_is_not_published(database: Database) -> None:
    def refuse(document: Document) -> None:
        raise ValueError(document.company)

    with pytest.raises(ValueError, match="First"):
        policies.publish(database, FIRST, by="ada", comment="", now=NOW, check=refuse)
    assert revisions.current(database) == Revisions(0, 0)
    assert policies.versions(database) == []
    assert audit.entries(database) == []


def test_publications_are_audited(database: Database) -> None:
    publish(database, FIRST, "the first")
    policies.rollback(database, 1, "bob", now=NOW)
    assert [(one.by, one.action, one.subject, one.subject_id, one.comment) for one in audit.entries(database)] == [
        ("bob", "roll back", "policy", "2", "Back to version 1"),
        ("ada", "publish", "policy", "1", "the first"),
    ]
