"""Jobs that the web asks for, and leases of scheduled work."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from gateway.mail.errors import Conflict, NotFound
from gateway.store import jobs, leases
from gateway.store.database import Database
from tests.store.make import NOW


def test_a_job_goes_from_asked_to_done(database: Database) -> None:
    id = jobs.put(database, "look-up", {"name": "corp.example"}, by="ada", now=NOW)
    job = jobs.claim(database, ["look-up"], owner="me", now=NOW)
    assert job is not None
    assert (job.id, job.arguments, job.state, job.asked_by) == (id, {"name": "corp.example"}, "running", "ada")
    jobs.progress(database, id, owner="me", percent=50, note="half", now=NOW)
    assert (jobs.get(database, id).progress, jobs.get(database, id).note) == (50, "half")
    jobs.finish(database, id, owner="me", now=NOW, result=["192.0.2.1"])
    done = jobs.get(database, id)
    assert (done.state, done.progress, done.result, done.finished_at) == ("done", 100, ["192.0.2.1"], NOW)


def test_a_job_that_fails_says_why(database: Database) -> None:
    id = jobs.put(database, "look-up", None, by="ada", now=NOW)
    jobs.claim(database, ["look-up"], owner="me", now=NOW)
    jobs.finish(database, id, owner="me", now=NOW, error="timed out")
    assert (jobs.get(database, id).state, jobs.get(database, id).note) == ("failed", "timed out")


def test_jobs_are_done_in_the_order_of_asking_and_by_kind(database: Database) -> None:
    first = jobs.put(database, "look-up", 1, by="ada", now=NOW)
    jobs.put(database, "look-up", 2, by="ada", now=NOW + timedelta(seconds=1))
    assert jobs.claim(database, ["training"], owner="me", now=NOW) is None
    found = jobs.claim(database, ["look-up", "training"], owner="me", now=NOW)
    assert found is not None
    assert found.id == first
    assert [job.arguments for job in jobs.list_jobs(database, kind="look-up", by="ada")] == [2, 1]


def test_a_job_is_given_to_one(database: Database) -> None:
    for number in range(20):
        jobs.put(database, "look-up", number, by="ada", now=NOW)

    def work(owner: str) -> list[str]:
        mine = []
        while job := jobs.claim(database, ["look-up"], owner=owner, now=NOW):
            mine.append(job.id)
        return mine

    with ThreadPoolExecutor(3) as threads:
        done = [id for share in threads.map(work, ["a", "b", "c"]) for id in share]
    rest = work("d")  # who found all that he looked at taken has stopped
    assert len(done + rest) == len({*done, *rest}) == 20


def test_a_job_that_was_left_is_begun_anew_by_another(database: Database) -> None:
    id = jobs.put(database, "look-up", None, by="ada", now=NOW)
    jobs.claim(database, ["look-up"], owner="me", now=NOW)
    assert jobs.claim(database, ["look-up"], owner="you", now=NOW + timedelta(seconds=59)) is None
    assert jobs.claim(database, ["look-up"], owner="you", now=NOW + timedelta(seconds=60)) is not None
    with pytest.raises(Conflict):
        jobs.finish(database, id, owner="me", now=NOW)


def test_a_cancelled_job_stops_who_works_on_it(database: Database) -> None:
    id = jobs.put(database, "look-up", None, by="ada", now=NOW)
    jobs.claim(database, ["look-up"], owner="me", now=NOW)
    jobs.cancel(database, id, by="bob", now=NOW)
    with pytest.raises(Conflict):
        jobs.progress(database, id, owner="me", percent=10, now=NOW)
    with pytest.raises(Conflict):
        jobs.cancel(database, id, by="bob", now=NOW)
    assert jobs.get(database, id).note == "cancelled by bob"


def test_a_job_that_does_not_exist_is_not_found(database: Database) -> None:
    with pytest.raises(NotFound):
        jobs.get(database, "none")


def test_a_lease_is_somebodys_until_it_ends_or_is_given_back(sqlite: Database) -> None:
    assert leases.take(sqlite, "retention", "me", 60, NOW)
    assert leases.take(sqlite, "retention", "me", 60, NOW)
    assert not leases.take(sqlite, "retention", "you", 60, NOW + timedelta(seconds=59))
    assert leases.take(sqlite, "retention", "you", 60, NOW + timedelta(seconds=60))
    leases.give_back(sqlite, "retention", "me")
    assert not leases.take(sqlite, "retention", "me", 60, NOW + timedelta(seconds=60))
    leases.give_back(sqlite, "retention", "you")
    assert leases.take(sqlite, "retention", "me", 60, NOW)


def test_a_lease_taken_while_the_clock_was_wrong_ends(sqlite: Database) -> None:
    assert leases.take(sqlite, "retention", "me", 60, NOW + timedelta(days=30))
    assert leases.take(sqlite, "retention", "you", 60, NOW)


def test_in_a_cluster_leases_go_by_the_clock_of_the_database(database: Database) -> None:
    now = datetime.now(UTC)
    assert leases.take(database, "retention", "me", 60, now)
    wrong = now if database.is_sqlite else now + timedelta(hours=5)
    assert not leases.take(database, "retention", "you", 60, wrong)
