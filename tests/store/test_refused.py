"""Sessions with refusals before DATA."""

from datetime import timedelta

from msgspec.structs import replace

from gateway.store import counters, refused
from gateway.store.database import Database
from gateway.store.refused import RefusedPeer, RefusedSession
from tests.store.make import NOW

ONE = RefusedSession(
    id="S1",
    started_at=NOW,
    last_at=NOW + timedelta(seconds=5),
    listener="outbound",
    peer_ip="192.0.2.1",
    peer_name="printer.corp.example",
    helo="printer",
    tls="",
    refused_count=3,
    stage="rcpt",
    reason="relay",
    reply="550 5.7.1 Relaying is not allowed",
    mail_from="printer@corp.example",
    rcpt_to="zoe@far.example",
)


def test_a_session_is_recorded_and_its_refusals_are_counted_once(database: Database) -> None:
    for _ in range(2):
        refused.record(database, [ONE, replace(ONE, id="S2", refused_count=1)])
    assert {row.id: row for row in refused.sessions(database)}["S1"] == ONE
    assert counters.totals(database, "refused", since=NOW) == {"relay": 4}


def test_sessions_are_listed_newest_first_and_by_peer(database: Database) -> None:
    rows = [replace(ONE, id=f"S{number}", started_at=NOW + timedelta(seconds=number)) for number in range(3)]
    refused.record(database, [*rows, replace(ONE, id="other", peer_ip="192.0.2.2")])
    mine = refused.sessions(database, peer_ip="192.0.2.1", limit=2)
    assert [row.id for row in mine] == ["S2", "S1"]
    assert [row.id for row in refused.sessions(database, peer_ip="192.0.2.1", before=mine[-1].started_at)] == ["S0"]


def test_peers_are_listed_by_how_much_was_refused_to_them(database: Database) -> None:
    rows = [replace(ONE, id=f"S{number}") for number in range(2)]
    other = replace(ONE, id="other", peer_ip="192.0.2.2", listener="inbound", refused_count=100)
    old = replace(ONE, id="old", started_at=NOW - timedelta(days=2))
    refused.record(database, [*rows, other, old])
    assert refused.peers(database, since=NOW - timedelta(days=1)) == [
        RefusedPeer("192.0.2.2", "relay", 1, 100, ONE.last_at),
        RefusedPeer("192.0.2.1", "relay", 2, 6, ONE.last_at),
    ]
    assert len(refused.peers(database, since=NOW - timedelta(days=1), listener="outbound")) == 1


def test_hostile_text_is_stored_without_what_no_database_holds(database: Database) -> None:
    refused.record(database, [replace(ONE, helo="a\0b", rcpt_to="x" * 5000)])
    (row,) = refused.sessions(database)
    assert (row.helo, len(row.rcpt_to)) == ("a\ufffdb", 1000)
