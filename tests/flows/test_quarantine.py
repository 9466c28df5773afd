"""S27: held mail is released once, judged again before it leaves, deleted, kept by its kind; and each order is told."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway.accepted import State
from gateway.mail.reference import reference
from gateway.relay import release_jobs
from gateway.relay.release_jobs import Wanted
from gateway.store import audit, held, jobs, waivers
from gateway.store.held import HeldItem
from tests import make
from tests.flows.conftest import Start
from tests.flows.edge import Edge, arrival, arrivals
from tests.flows.gateway import SECONDS, Gateway, document, server
from tests.flows.peer import BOB, Answer
from tests.nexthop import NextHop
from tests.product import PROJECT, wait_until

DISK = Path(__file__).parent / "disk"
STRANGER_IP = "203.0.113.66"
EVE = "eve@sender.example"
CID = "cid@corp.example"
POSTMASTER = "postmaster@corp.example"
UNKNOWN = "business_only:unknown-sender"
WHY = ("--reason", "expected by Anna")


def policy(inside: NextHop, outside: NextHop, action: str = "quarantine", **changes: Any) -> dict[str, Any]:
    filters = {"business_only": {"mode": "enforce", "options": {"action": action}}, **changes.pop("filters", {})}
    return document(inside, outside, filters=filters, **changes)


@pytest.fixture(scope="module")
def gateway(arrange: Start, inside: NextHop, outside: NextHop) -> Gateway:
    return arrange(policy(inside, outside), [server()])


def receive(gateway: Gateway, *to: str, author: str = EVE, **fields: Any) -> Answer:
    answer = gateway.receive(make.message(from_=author, **fields), *(to or (BOB,)), ip=STRANGER_IP, mail_from=EVE)
    assert answer.code == 250, answer
    return answer


def held_item(gateway: Gateway, ref: str) -> HeldItem:
    """Wait until it is held, and return the item."""
    message_id = gateway.message(ref).id

    def look() -> list[HeldItem]:
        with gateway.database() as database:
            return held.of_message(database, message_id)

    (item,) = wait_until(look, SECONDS, f"{ref} held")
    assert isinstance(item, HeldItem)
    return item


def hold(gateway: Gateway, *to: str, **fields: Any) -> str:
    """Send a message that is held; return its reference."""
    answer = receive(gateway, *to, **fields)
    held_item(gateway, answer.ref)
    return answer.ref


# -- held and released


def test_what_is_held_is_answered_as_taken_listed_and_not_delivered(gateway: Gateway, inside: NextHop) -> None:
    ref = hold(gateway)
    [row] = [one for one in gateway.ask("quarantine", "list") if reference(one["message_id"]) == ref]
    assert [one["reason"] for one in row["objections"]] == [UNKNOWN]
    assert arrivals(inside, ref) == []


def test_it_is_released_once_and_arrives_once(gateway: Gateway, inside: NextHop) -> None:
    ref = hold(gateway)
    assert gateway.command("quarantine", "release", ref, *WHY).stdout == f"{ref}: released for {BOB}\n"
    assert arrival(inside, ref).recipients == [BOB]
    again = gateway.command("quarantine", "release", ref, *WHY, check=False)
    assert (again.returncode, "released by" in again.stderr) == (1, True)
    gateway.settled(ref, bob=State.DELIVERED)
    assert len(arrivals(inside, ref)) == 1


def test_what_arrives_was_transformed_by_the_verdict_that_let_it_out(gateway: Gateway, inside: NextHop) -> None:
    answer = gateway.receive(
        make.message(("X-MS-Exchange-Organization-SCL", "-1"), from_=EVE), BOB, ip=STRANGER_IP, mail_from=EVE
    )
    held_item(gateway, answer.ref)
    gateway.command("quarantine", "release", answer.ref, *WHY)
    raw = arrival(inside, answer.ref).raw
    assert b"X-MS-Exchange-Organization" not in raw
    assert raw.count(b"\r\nX-Gatepost-Hop:") == 1


def test_a_release_waives_the_reasons_of_that_message_only(gateway: Gateway, inside: NextHop) -> None:
    first, second = hold(gateway, subject="one"), hold(gateway, subject="two")
    gateway.command("quarantine", "release", first, "--waive", UNKNOWN, *WHY)
    assert arrival(inside, first)
    assert held_item(gateway, second).recipients
    third = hold(gateway, subject="one")  # the same bytes once more: the waiver was for one time
    assert arrivals(inside, second) == arrivals(inside, third) == []
    wrong = gateway.command("quarantine", "release", third, "--waive", "loop:hops", *WHY, check=False)
    assert "loop:hops is not among what holds it" in wrong.stderr


def test_one_recipient_gets_it_and_the_other_waits(gateway: Gateway, inside: NextHop) -> None:
    ref = hold(gateway, BOB, CID)
    gateway.command("quarantine", "release", ref, "--to", CID, *WHY)
    assert arrival(inside, ref).recipients == [CID]
    gateway.settled(ref, bob=State.HELD, cid=State.DELIVERED)
    gateway.command("quarantine", "release", ref, *WHY)
    gateway.settled(ref, bob=State.DELIVERED, cid=State.DELIVERED)
    assert [one.recipients for one in arrivals(inside, ref)] == [[CID], [BOB]]


def test_several_are_released_and_deleted_together(gateway: Gateway, inside: NextHop) -> None:
    out, gone = [hold(gateway) for _ in range(3)], [hold(gateway) for _ in range(2)]
    gateway.command("quarantine", "release", *out, *WHY)
    assert gateway.command("quarantine", "delete", *gone, *WHY).stdout == "2 deliveries are deleted.\n"
    for ref in out:
        assert arrival(inside, ref)
    for ref in gone:
        gateway.settled(ref, bob=State.DELETED)
        assert arrivals(inside, ref) == []


# -- judged again


def test_it_is_judged_again_and_stays_held_for_what_objects_today(
    gateway: Gateway, inside: NextHop, outside: NextHop
) -> None:
    ref = hold(gateway, author="bob@corp.example")
    forbids = policy(inside, outside, filters={"own_domain": {"mode": "enforce", "options": {"action": "quarantine"}}})
    with gateway.under(forbids):
        done = gateway.command("quarantine", "release", ref, *WHY, check=False)
        assert (done.returncode, "still held for bob@corp.example: own_domain:forged" in done.stdout) == (1, True)
        # It belongs to the safety floor, which is now among the item's reasons: nobody is asked to waive it.
        asked = gateway.command("quarantine", "release", ref, *WHY, check=False)
        assert "own_domain:forged belongs to the safety floor: no release opens it" in asked.stderr
        elsewhere = gateway.command("queue", "redirect", ref, "--to", CID, *WHY, check=False)
        assert "release it first" in elsewhere.stderr
    assert arrivals(inside, ref) == []
    assert "still held by own_domain:forged" in gateway.command("explain", ref).stdout


def test_what_the_floor_holds_is_not_released(gateway: Gateway, inside: NextHop, outside: NextHop) -> None:
    with gateway.under(
        policy(inside, outside, filters={"own_domain": {"mode": "enforce", "options": {"action": "quarantine"}}})
    ):
        ref = hold(gateway, author="bob@corp.example")
        asked = gateway.command("quarantine", "release", ref, *WHY, check=False)
        assert (asked.returncode, "no release opens it" in asked.stderr) == (1, True)
    assert held_item(gateway, ref).recipients


def test_the_refused_share_is_held_when_others_receive_it(gateway: Gateway, inside: NextHop, outside: NextHop) -> None:
    with gateway.under(policy(inside, outside, action="reject")):
        ref = receive(gateway, BOB, POSTMASTER).ref
        assert arrival(inside, ref).recipients == [POSTMASTER]
        gateway.settled(ref, bob=State.HELD, postmaster=State.DELIVERED)
        gateway.command("quarantine", "release", ref, *WHY)
    gateway.settled(ref, bob=State.DELIVERED, postmaster=State.DELIVERED)


# -- what nobody could deliver


def test_undeliverable_mail_is_released_by_delivering_again(
    gateway: Gateway, inside: NextHop, outside: NextHop
) -> None:
    inside.on("RCPT", "550 5.1.1 No such user", when="gone@", times=1)
    with gateway.under(document(inside, outside)):
        ref = receive(gateway, "gone@corp.example").ref
        gateway.settled(ref, gone=State.HELD)
        assert held_item(gateway, ref).kind == "undeliverable"
    # A release judges nothing here: the reason was not a judgement.
    gateway.command("quarantine", "release", ref, *WHY)
    assert arrival(inside, ref).recipients == ["gone@corp.example"]


def test_what_is_undeliverable_after_its_release_is_held_again(gateway: Gateway, inside: NextHop) -> None:
    ref = hold(gateway, "left@corp.example")
    inside.on("RCPT", "550 5.1.1 No such user", when="left@", times=1)
    gateway.command("quarantine", "release", ref, *WHY)
    wait_until(lambda: held_item(gateway, ref).kind == "undeliverable", SECONDS, "held again")
    gateway.command("quarantine", "release", ref, *WHY)
    assert arrival(inside, ref).recipients == ["left@corp.example"]


# -- time


def test_kinds_are_kept_as_long_as_the_policy_says(gateway: Gateway, inside: NextHop, outside: NextHop) -> None:
    old, new = hold(gateway), hold(gateway)
    with gateway.database() as database, database.writing() as connection:
        connection.execute(
            text("UPDATE held_items SET held_at = :at WHERE message_id = :id"),
            {"at": f"{datetime.now(UTC) - timedelta(days=3):%Y-%m-%d %H:%M:%S}.000000", "id": gateway.message(old).id},
        )
    keeps = {"held_days": 30, "held_days_by_kind": {"business_only": 2, "undeliverable": 90}}
    with gateway.under(policy(inside, outside, retention=keeps)):
        assert gateway.command("quarantine", "expire").stdout == "1 item has expired.\n"
    gateway.settled(old, bob=State.DELETED)
    assert held_item(gateway, new).recipients
    assert "expired" in gateway.command("explain", old).stdout


# -- views and accounts


def test_the_original_is_exported_and_that_is_written_down(gateway: Gateway, tmp_path: Path) -> None:
    raw = make.message(from_=EVE, subject="Original")
    ref = gateway.receive(raw, BOB, ip=STRANGER_IP, mail_from=EVE).ref
    item = held_item(gateway, ref)
    gateway.command("quarantine", "export", ref, "-o", tmp_path / "m.eml", *WHY)
    assert (tmp_path / "m.eml").read_bytes() == raw
    with gateway.database() as database:
        [order] = audit.entries(database, subject="held item", subject_id=item.message_id)
    assert (order.action, order.comment) == ("export", "expected by Anna")


def test_explain_tells_the_state_the_reasons_the_release_and_what_came_of_it(gateway: Gateway) -> None:
    ref = hold(gateway)
    assert f"{UNKNOWN}: " in gateway.command("explain", ref).stdout
    gateway.command("quarantine", "release", ref, *WHY)
    gateway.settled(ref, bob=State.DELIVERED)
    told = gateway.command("explain", ref).stdout
    assert f"for {BOB}: expected by Anna (waived {UNKNOWN}; policy " in told
    assert "released" in told
    assert f"Delivered to {BOB}: after its release; it was held because of: " in told


def test_the_schedule_releases_what_the_web_asks_for(gateway: Gateway, inside: NextHop) -> None:
    ref = hold(gateway)
    item = held_item(gateway, ref)
    with gateway.database() as database:
        wanted = Wanted(item.message_id, item.group, "it is hers")
        id = release_jobs.ask(database, wanted, by="anna@corp.example", now=datetime.now(UTC))
        wait_until(lambda: jobs.get(database, id).state == "done", SECONDS, "the job's end")
        assert jobs.get(database, id).result["released"] == [BOB]
    assert arrival(inside, ref).recipients == [BOB]


# -- at once, and cut short


def begin(gateway: Gateway, ref: str, **variables: str) -> subprocess.Popen[bytes]:
    """Start a release as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", "quarantine", "release", ref, *WHY],
        cwd=PROJECT,
        env={**gateway.environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_of_two_who_release_at_once_one_does(gateway: Gateway, inside: NextHop) -> None:
    ref = hold(gateway)
    both = [begin(gateway, ref), begin(gateway, ref)]
    said = [one.communicate(timeout=SECONDS) for one in both]
    assert sorted(one.returncode for one in both) == [0, 1], said
    gateway.settled(ref, bob=State.DELIVERED)
    assert len(arrivals(inside, ref)) == 1


def test_a_release_that_was_killed_after_its_waiver_has_released_nothing_and_can_be_repeated(
    gateway: Gateway, inside: NextHop, tmp_path: Path
) -> None:
    ref = hold(gateway)
    item = held_item(gateway, ref)
    (tmp_path / "held").touch()
    process = begin(gateway, ref, PYTHONPATH=f"{DISK}:{PROJECT}", TEST_DISK=str(tmp_path))
    wait_until((tmp_path / "waiting").exists, SECONDS, "the record before its sync")
    process.kill()
    process.communicate()
    with gateway.database() as database:
        open_waivers = [one for one in waivers.list_entries(database) if one.entry.recipients == (BOB,)]
        assert len(open_waivers) == 1  # it ends by itself
        assert held.of_message(database, item.message_id) == [item]
    gateway.command("quarantine", "release", ref, *WHY)
    gateway.settled(ref, bob=State.DELIVERED)
    assert len(arrivals(inside, ref)) == 1


def test_what_was_released_survives_the_death_of_everything(start: Start, edge: Edge) -> None:
    inside, outside = edge.hop(), edge.hop()
    own = start(policy(inside, outside), [server()])
    ref = hold(own)
    own.kill_all()
    own.command("quarantine", "release", ref, *WHY)
    assert own.outcomes(ref)[0].state is State.QUEUED
    own.start()
    own.settled(ref, bob=State.DELIVERED)
    assert len(arrivals(inside, ref)) == 1
