"""Dates of header fields."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail.date import format_date, parse_date


@settings(max_examples=200, deadline=None)
@given(st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_a_date_is_written_in_utc_as_python_writes_it_and_read_again(at: datetime, offset: int) -> None:
    moment = at.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=offset)))
    text = format_date(moment)
    assert text == format_datetime(moment.astimezone(UTC))
    assert parse_date(text) == moment


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("Tue, 24 Nov 2026 04:00:00 +0000 (UTC)", "2026-11-24T04:00:00+00:00"),
        ("24 Nov 2026 04:00:00 +0130", "2026-11-24T02:30:00+00:00"),
        ("Tue, 24 Nov 2026 04:00:00 -0000", "2026-11-24T04:00:00+00:00"),
        ("Tue, 24 Nov 2026 04:00 EST", "2026-11-24T09:00:00+00:00"),
    ],
)
def test_usual_dates_are_read(text: str, iso: str) -> None:
    found = parse_date(text)
    assert found is not None
    assert found.isoformat() == iso


@pytest.mark.parametrize(
    "text", ["", "yesterday", "Tue, 99 Nov 2026 04:00:00 +0000", "Tue, 24 Nov 2026 04:00:00 +99999", "x" * 10000]
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_date(text) is None
