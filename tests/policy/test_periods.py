"""Months in the company's time, also where a day does not begin at midnight."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.policy.document import PolicyError, read_document
from gateway.policy.periods import begins_at, next_period, period_of, zone_of


@pytest.mark.parametrize(
    ("zone", "period", "begins"),
    [
        ("UTC", "2026-12", "2026-12-01T00:00:00+00:00"),
        ("Europe/Zurich", "2026-12", "2026-11-30T23:00:00+00:00"),
        ("Europe/Zurich", "2026-07", "2026-06-30T22:00:00+00:00"),
        ("Asia/Kolkata", "2026-12", "2026-11-30T18:30:00+00:00"),
        # The clock went from 24:00 to 1:00 on 30 September 2023: the day has no midnight.
        ("America/Asuncion", "2023-10", "2023-10-01T04:00:00+00:00"),
        # And back from 1:00 to 0:00 on 1 November 2026: midnight comes twice, and the first one counts.
        ("America/Havana", "2026-11", "2026-11-01T04:00:00+00:00"),
    ],
)
def test_a_month_begins_with_the_first_instant_of_its_first_day(zone: str, period: str, begins: str) -> None:
    at = begins_at(period, zone_of(zone))
    assert at == datetime.fromisoformat(begins)
    assert period_of(at, zone_of(zone)) == period
    assert period_of(at - timedelta(seconds=1), zone_of(zone)) != period


@pytest.mark.parametrize(
    ("period", "following"), [("2026-11", "2026-12"), ("2026-12", "2027-01"), ("2027-01", "2027-02")]
)
def test_the_month_after(period: str, following: str) -> None:
    assert next_period(period) == following


def test_months_follow_each_other_without_a_gap() -> None:
    zone, period = zone_of("America/Sao_Paulo"), "2010-01"
    for _ in range(120):
        assert period_of(begins_at(next_period(period), zone) - timedelta(seconds=1), zone) == period
        period = next_period(period)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Europe", "\0"])
def test_a_zone_that_there_is_not_is_refused(name: str) -> None:
    with pytest.raises(PolicyError, match="time_zone"):
        read_document({"time_zone": name})


def test_the_document_names_the_companys_zone() -> None:
    assert read_document({"time_zone": "Asia/Tokyo"}).time_zone == "Asia/Tokyo"
    assert zone_of(read_document({}).time_zone) is UTC
