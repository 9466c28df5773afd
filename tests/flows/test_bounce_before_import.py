"""A bounce to mail that has left comes in before the database knows that mail, whichever worker took either of them."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests import make
from tests.flows.conftest import Start
from tests.flows.edge import arrival
from tests.flows.gateway import WORKERS, Gateway, document, processes, server
from tests.flows.peer import BOB, Answer
from tests.nexthop import NextHop
from tests.product import wait_until

SECONDS = 30.0
STRANGER_IP = "203.0.113.66"


@pytest.fixture(scope="module")
def gateway(start: Start, inside: NextHop, outside: NextHop) -> Gateway:
    return start(document(inside, outside, filters={"business_only": {"mode": "enforce"}}), [server()])


@pytest.fixture
def locked(gateway: Gateway) -> Iterator[None]:
    with gateway.locked():
        yield


def send_out(gateway: Gateway, message_id: str) -> str:
    """Send one message of ours to the world and return its reference."""
    with gateway.server() as peer:
        answer = peer.offer(make.message(from_=BOB, message_id=message_id), "ann@partner.example", mail_from=BOB)
    assert answer.code == 250
    return answer.ref


def bounced(gateway: Gateway, message_id: str) -> Answer:
    return gateway.receive(make.bounce(message_id), ip=STRANGER_IP, mail_from="")


def takers(gateway: Gateway, *refs: str) -> set[str]:
    """Return which workers took the messages with these references."""
    return processes(event for event in gateway.events("message.accepted") if event["ref"] in refs)


def test_at_once_and_in_every_worker(gateway: Gateway, outside: NextHop) -> None:
    refs: list[str] = []
    while takers(gateway, *refs) < set(WORKERS):
        message_id = f"<quick-{len(refs)}@corp.example>"
        send_out(gateway, message_id)
        answer = bounced(gateway, message_id)
        assert answer.code == 250, answer
        refs.append(answer.ref)
        assert len(refs) < 200


@pytest.mark.usefixtures("locked")
def test_while_the_database_takes_no_writes(gateway: Gateway, inside: NextHop, outside: NextHop) -> None:
    arrival(outside, send_out(gateway, "<waits@corp.example>"))
    wait_until(lambda: gateway.events("import.failed"), SECONDS, "import.failed")
    refs: list[str] = []

    def every_worker_took_one() -> bool:
        answer = bounced(gateway, "<waits@corp.example>")
        assert answer.code == 250, answer
        refs.append(answer.ref)
        return takers(gateway, *refs) >= set(WORKERS)

    wait_until(every_worker_took_one, SECONDS, "a bounce taken by each worker")
    assert arrival(inside, refs[0]).mail.startswith("FROM:<>")
    answer = bounced(gateway, "<never-sent@corp.example>")
    assert answer.code == 550, answer


@pytest.mark.usefixtures("locked")
def test_after_the_worker_that_sent_it_was_killed(gateway: Gateway, outside: NextHop) -> None:
    ref = send_out(gateway, "<orphan@corp.example>")
    arrival(outside, ref)
    wait_until(lambda: takers(gateway, ref), SECONDS, "its line in the log")
    [worker] = takers(gateway, ref)
    os.kill(gateway.pid_of(worker), signal.SIGKILL)
    answer = bounced(gateway, "<orphan@corp.example>")
    assert answer.code == 250, answer


def test_what_cannot_be_told_is_deferred_and_decided_later(gateway: Gateway) -> None:
    segment = gateway.data / "spool" / "mx-smtp_9-0a1b2c3d-9-beef" / "00000001.seg"
    with gateway.locked():
        segment.parent.mkdir()
        segment.write_bytes(b"no record" * 100)
        answer = bounced(gateway, "<never-sent@corp.example>")
        assert answer.code == 451, answer
    assert [one.reason for one in gateway.trace(answer.ref).findings] == ["business_only:cannot-tell"]
    wait_until(lambda: not segment.exists(), SECONDS, "what is damaged is put aside")
    answer = bounced(gateway, "<never-sent@corp.example>")
    assert answer.code == 550, answer


def test_in_the_end_the_database_knows(gateway: Gateway) -> None:
    ref = send_out(gateway, "<known@corp.example>")
    assert gateway.message(ref)
    answer = bounced(gateway, "<known@corp.example>")
    assert answer.code == 250, answer
    assert [one.reason for one in gateway.trace(answer.ref).findings] == ["business_only:bounce"]
