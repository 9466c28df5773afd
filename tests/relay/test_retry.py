"""When mail is tried again and given up, and how a dead host is left in peace."""

from datetime import timedelta

import pytest

from gateway.relay.client import Endpoint
from gateway.relay.reply_stream import local_reply
from gateway.relay.retry import FIRST_PROBE_SECONDS, LONGEST_PROBE_SECONDS, MAX_OUTAGES, BackOff, Outages
from tests.parcels import NOW

MINUTE = 60.0
FIVE_DAYS = timedelta(days=5)


@pytest.mark.parametrize(
    ("attempts", "minutes"), [(1, 1), (2, 5), (3, 15), (4, 30), (5, 60), (6, 120), (7, 240), (8, 240), (500, 240)]
)
def test_pauses_grow_to_four_hours(attempts: int, minutes: float) -> None:
    assert BackOff().due_at(attempts, NOW, chance=0.5) == NOW + timedelta(minutes=minutes)


def test_pauses_vary_so_that_a_burst_does_not_come_back_as_one() -> None:
    earliest, latest = (BackOff().due_at(3, NOW, chance=chance) for chance in (0.0, 1.0))
    assert (earliest, latest) == (NOW + timedelta(minutes=12), NOW + timedelta(minutes=18))


def test_while_our_own_next_hop_is_down_mail_is_looked_at_more_often() -> None:
    assert BackOff().due_at(7, NOW, chance=0.5, is_hop_down=True) == NOW + timedelta(minutes=15)
    assert BackOff().due_at(1, NOW, chance=0.5, is_hop_down=True) == NOW + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("life", "attempts"),
    [(timedelta(seconds=59), 1), (timedelta(minutes=1), 2), (timedelta(minutes=6), 3), (FIVE_DAYS, 36)],
)
def test_the_attempts_of_a_life_are_counted(life: timedelta, attempts: int) -> None:
    back_off = BackOff()
    assert back_off.attempts_within(life) == attempts
    elapsed = timedelta()
    for made in range(1, attempts):
        elapsed += back_off.due_at(made, NOW, chance=0.5) - NOW
    assert elapsed <= life < elapsed + timedelta(seconds=back_off.steps[min(attempts, 7) - 1])


@pytest.mark.parametrize(
    ("after", "attempts", "is_over"),
    [
        (timedelta(days=5), 36, True),
        (timedelta(days=5), 18, True),
        (timedelta(days=5), 17, False),
        (timedelta(days=35), 1, False),  # the clock jumped, or the gateway was off: nobody has tried yet
        (timedelta(days=4, hours=23), 100, False),
        (timedelta(days=-30), 100, False),
    ],
)
def test_giving_up_takes_time_and_attempts(after: timedelta, attempts: int, is_over: bool) -> None:
    assert BackOff().is_over(NOW, NOW + FIVE_DAYS, attempts, NOW + after) is is_over


def test_a_life_of_seconds_ends_with_the_first_attempt() -> None:
    assert BackOff().is_over(NOW, NOW + timedelta(seconds=1), 1, NOW + timedelta(seconds=1))


MX = Endpoint("mx.partner.example", "192.0.2.1", 25)
OTHER = Endpoint("mx.partner.example", "192.0.2.2", 25)
REFUSED = local_reply("4.4.1", "connection refused")


def test_a_host_that_is_down_is_probed_by_one_message_at_a_time() -> None:
    outages = Outages()
    assert outages.blocks(MX, 0) is None
    outages.note_down(MX, REFUSED, 0)
    assert outages.blocks(MX, FIRST_PROBE_SECONDS - 1) == REFUSED
    assert outages.blocks(OTHER, 1) is None
    assert outages.blocks(MX, FIRST_PROBE_SECONDS) is None  # the probe
    assert outages.blocks(MX, FIRST_PROBE_SECONDS) == REFUSED
    outages.note_up(MX)
    assert outages.blocks(MX, FIRST_PROBE_SECONDS) is None
    assert len(outages) == 0


def test_probes_become_rarer_up_to_a_minute() -> None:
    outages = Outages()
    now = 0.0
    outages.note_down(MX, REFUSED, now)
    pauses = []
    for _ in range(7):
        began = now
        while outages.blocks(MX, now) is not None:
            now += 1
        pauses.append(now - began)
        outages.note_down(MX, REFUSED, now)
    assert pauses == [5, 10, 20, 40, 60, 60, 60]
    assert LONGEST_PROBE_SECONDS == 60


def test_many_failures_of_one_outage_count_once() -> None:
    outages = Outages()
    for _ in range(50):
        outages.note_down(MX, REFUSED, 0)
    assert outages.blocks(MX, FIRST_PROBE_SECONDS) is None


def test_a_probe_that_never_ends_does_not_block_the_next() -> None:
    outages = Outages()
    outages.note_down(MX, REFUSED, 0)
    assert outages.blocks(MX, 5) is None
    assert outages.blocks(MX, 9) == REFUSED
    assert outages.blocks(MX, 10) is None


def test_outages_are_bounded() -> None:
    outages = Outages()
    for number in range(MAX_OUTAGES + 5):
        outages.note_down(Endpoint("", "192.0.2.1", number), REFUSED, 0)
    assert len(outages) == MAX_OUTAGES
    assert outages.blocks(Endpoint("", "192.0.2.1", MAX_OUTAGES + 4), 1) == REFUSED
