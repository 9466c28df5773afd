"""Connections and rates, counted over all workers of a host."""

import os

import pytest

from gateway.policy.document import Limits
from gateway.relay.admission import Admission, AdmissionTable, network_limit
from gateway.relay.reasons import Reason

NOW = 1_000_000.0  # the first second of neither a minute nor an hour
LIMITS = Limits(connections=100, connections_per_network=10, connects_per_minute=1000)


def peer(number: int) -> str:
    return f"198.51.{number >> 8}.{number & 255}"


def connect(admission: Admission, ip: str = "192.0.2.1", limits: Limits = LIMITS, now: float = NOW) -> Reason | None:
    return admission.connect(ip, limits, now)


def test_a_network_has_its_share_and_no_more() -> None:
    admission = AdmissionTable().column(0)
    assert [connect(admission) for _ in range(11)] == [None] * 10 + [Reason.NETWORK_CONNECTIONS]
    assert connect(admission, "192.0.2.2") is None
    admission.disconnect("192.0.2.1")
    assert connect(admission) is None


def test_an_ipv6_network_is_a_64() -> None:
    admission = AdmissionTable().column(0)
    assert [connect(admission, f"2001:db8::{number:x}") for number in range(11)][-1] is Reason.NETWORK_CONNECTIONS
    assert connect(admission, "2001:db8:0:1::1") is None


def test_workers_count_together() -> None:
    table = AdmissionTable(3)
    workers = [table.column(number) for number in range(3)]
    for number in range(10):
        assert connect(workers[number % 3]) is None
    assert {connect(worker) for worker in workers} == {Reason.NETWORK_CONNECTIONS}
    assert table.open_connections == 10


def test_a_worker_that_starts_again_forgets_what_it_had() -> None:
    table = AdmissionTable(2)
    first, second = table.column(0), table.column(1)
    for _ in range(5):
        connect(first)
        connect(second)
    again = table.column(0)
    assert table.open_connections == 5
    assert [connect(again) for _ in range(6)] == [None] * 5 + [Reason.NETWORK_CONNECTIONS]


def test_processes_share_the_table() -> None:
    table = AdmissionTable(2)
    parent = table.column(0)
    child = os.fork()
    if child == 0:
        worker = table.column(1)
        for _ in range(7):
            connect(worker)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [connect(parent) for _ in range(4)] == [None] * 3 + [Reason.NETWORK_CONNECTIONS]


def test_when_nearly_full_one_network_gets_little_and_others_still_come_in() -> None:
    admission = AdmissionTable().column(0)
    for number in range(70):
        assert connect(admission, peer(number)) is None
    assert [connect(admission, "192.0.2.1") for _ in range(10)].count(None) == 5
    assert network_limit(LIMITS, 74) == 10
    assert network_limit(LIMITS, 75) == 5
    assert network_limit(Limits(connections=4, connections_per_network=3), 3) == 1
    assert connect(admission, "192.0.2.2") is None


def test_the_last_tenth_is_kept_for_relay_sources() -> None:
    admission = AdmissionTable().column(0)
    assert [connect(admission, peer(number)) for number in range(91)] == [None] * 90 + [Reason.CONNECTIONS]
    for _ in range(10):
        assert admission.connect("10.1.2.3", LIMITS, NOW, is_source=True) is None
    assert admission.connect("10.1.2.3", LIMITS, NOW, is_source=True) is Reason.CONNECTIONS


def test_a_relay_source_is_not_held_to_the_share_of_a_network() -> None:
    admission = AdmissionTable().column(0)
    limits = Limits(connections=100, connections_per_network=1, connects_per_minute=1)
    assert [admission.connect("10.1.2.3", limits, NOW, is_source=True) for _ in range(20)] == [None] * 20


def test_new_connections_have_a_rate() -> None:
    admission = AdmissionTable().column(0)
    limits = Limits(connections=100, connections_per_network=100, connects_per_minute=5)
    assert [connect(admission, limits=limits) for _ in range(6)] == [None] * 5 + [Reason.CONNECT_RATE]
    assert connect(admission, "192.0.2.2", limits) is None
    # Half a minute later half of the old window still counts, two minutes later none.
    into = NOW // 60 * 60
    assert connect(admission, limits=limits, now=into + 90) is None
    assert connect(admission, limits=limits, now=into + 300) is None


@pytest.mark.parametrize(
    ("later", "is_forgotten"),
    [(1, False), (59, False), (60, False), (61, False), (90, True), (120, True), (3600, True), (86400 * 30, True)],
)
def test_windows_are_forgotten_in_time(later: int, is_forgotten: bool) -> None:
    table = AdmissionTable(2)
    one, other = table.column(0), table.column(1)
    limits = Limits(connections=1000, connections_per_network=1000, connects_per_minute=50)
    for _ in range(25):
        connect(one, limits=limits)
        connect(other, limits=limits)
    assert connect(one, limits=limits) is Reason.CONNECT_RATE
    begin = NOW // 60 * 60
    # The minute before counts by what share of it lies within the last sixty seconds; no older one does.
    assert (connect(other, limits=limits, now=begin + later) is None) is is_forgotten


def test_messages_of_a_source_are_counted_by_the_hour() -> None:
    admission = AdmissionTable().column(0)
    assert not admission.is_over_rate("shop", 3, NOW)
    for _ in range(3):
        admission.count_message("shop", NOW)
    assert admission.is_over_rate("shop", 3, NOW)
    assert not admission.is_over_rate("shop", 4, NOW)
    assert not admission.is_over_rate("shop", 0, NOW)  # no limit
    assert not admission.is_over_rate("crm", 3, NOW)
    assert not admission.is_over_rate("shop", 3, NOW + 2 * 3600)


def test_networks_that_share_a_cell_by_chance_do_not_share_a_limit() -> None:
    table = AdmissionTable()
    admission = table.column(0)
    limits = Limits(connections=20000, connections_per_network=3, connects_per_minute=1000)
    refused = 0
    for number in range(2000):
        refused += sum(connect(admission, peer(number), limits) is not None for _ in range(3))
    # 6,000 counted connections of 2,000 networks in two rows of 16,384 cells.
    assert refused < 120
