"""Limited uses: never more than there are, the same one for the same message, and none lost to mail that never came."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from gateway.store import claims
from gateway.store.claims import claims as table
from gateway.store.database import Database
from tests.store import make

ADA, BOB = "ada@corp.example", "bob@corp.example"


def claim(database: Database, message: str, *recipients: str, uses: int = 1, entry: str = "k1") -> tuple[str, ...]:
    return claims.claim(database, entry, uses, sha256=message, recipients=recipients or (BOB,), now=datetime.now(UTC))


def age(database: Database, by: timedelta) -> None:
    """Make all claims older, by the clock that PostgreSQL goes by as well."""
    with database.writing() as connection:
        connection.execute(update(table).values(claimed_at=datetime.now(UTC) - by))


def accept(database: Database, message: str, entry: str = "k1") -> None:
    with database.writing() as connection:
        claims.keep(connection, (entry,), message, "M1")


def test_a_use_is_claimed_once(database: Database) -> None:
    assert claim(database, "one") == (BOB,)
    assert claim(database, "two") == ()
    assert claim(database, "two", entry="k2") == (BOB,)


def test_who_missed_our_250_uses_the_same_use_again(database: Database) -> None:
    assert claim(database, "one") == claim(database, "one") == (BOB,)
    accept(database, "one")
    assert claim(database, "one") == (BOB,)
    assert claims.used(database, "k1", datetime.now(UTC)) == 1


def test_each_recipient_takes_a_use_while_there_are_any(database: Database) -> None:
    assert claim(database, "one", ADA, BOB) == (ADA,)
    assert claim(database, "one", BOB, ADA) == (ADA,)
    assert claim(database, "two", ADA, BOB, uses=3) == (ADA, BOB)
    assert claim(database, "three", uses=3) == ()


def test_a_claim_without_an_accepted_message_lapses_after_an_hour(database: Database) -> None:
    claim(database, "one")
    age(database, timedelta(minutes=30))
    assert claim(database, "two") == ()
    age(database, timedelta(minutes=90))
    assert claims.used(database, "k1", datetime.now(UTC)) == 0
    assert claim(database, "two") == (BOB,)
    assert claim(database, "one") == ()


def test_the_claim_of_an_accepted_message_never_lapses(database: Database) -> None:
    claim(database, "one")
    accept(database, "one")
    age(database, timedelta(days=400))
    assert claim(database, "two") == ()
    assert claims.used(database, "k1", datetime.now(UTC)) == 1


@pytest.mark.parametrize("uses", [1, 3])
def test_many_at_once_get_no_more_than_there_are(database: Database, uses: int) -> None:
    with ThreadPoolExecutor(8) as pool:
        granted = list(pool.map(lambda number: claim(database, f"message {number}", uses=uses), range(16)))
    assert sum(map(len, granted)) == uses


def test_the_import_of_the_message_keeps_its_claims(database: Database) -> None:
    claim(database, "ab" * 32)
    one = make.accepted(claimed=("k1",), sha256="ab" * 32)
    make.store(database, make.item(one))
    age(database, timedelta(hours=2))
    assert claims.used(database, "k1", datetime.now(UTC)) == 1
