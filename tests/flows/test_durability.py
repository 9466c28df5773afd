"""S30: never 250 before the message is durable, and what was answered 250 is never lost.

The disk is the edge that is faked here: `disk/sitecustomize.py` stands between the product and the system's fdatasync.
"""

import select
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import make
from tests.faults.sender import stuffed
from tests.flows.conftest import Start
from tests.flows.edge import Edge, arrival, arrivals
from tests.flows.gateway import Gateway, document
from tests.flows.peer import BOB, Answer, Peer, answer
from tests.nexthop import NextHop
from tests.product import wait_until

DISK = Path(__file__).parent / "disk"


class Disk:
    """The disk's state, which the product's processes look at."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def state(self, name: str) -> Iterator[None]:
        (self._folder / name).touch()
        try:
            yield
        finally:
            (self._folder / name).unlink()
            (self._folder / "waiting").unlink(missing_ok=True)

    def wait_for_sync(self) -> None:
        wait_until((self._folder / "waiting").exists, 20, "a sync that waits")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    return Disk(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def gateway(start: Start, disk: Disk, inside: NextHop, tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    variables = {"PYTHONPATH": str(DISK), "TEST_DISK": str(tmp_path_factory.getbasetemp())}
    return start(document(inside), variables=variables)


def begin(peer: Peer) -> None:
    """Send a whole message and read no reply to it."""
    for command in ("MAIL FROM:<ann@partner.example>", f"RCPT TO:<{BOB}>", "DATA"):
        assert peer.ask(command)[0] in "23"
    peer.send(stuffed(make.message()))


def has_reply(peer: Peer) -> bool:
    return bool(select.select([peer.socket], [], [], 0)[0])


def test_no_250_is_said_before_the_disk_has_the_message(gateway: Gateway, disk: Disk, inside: NextHop) -> None:
    before = len(inside.messages)
    with ExitStack() as stack:
        peers = [stack.enter_context(gateway.partner()) for _ in range(6)]
        others = [stack.enter_context(gateway.partner()) for _ in range(6)]
        with disk.state("held"):
            for peer in peers:
                begin(peer)
            disk.wait_for_sync()
            # Both workers go on with everything else meanwhile.
            for other in others:
                assert other.ask("MAIL FROM:<ann@partner.example>").startswith("250 ")
            assert not any(map(has_reply, peers))
            assert len(inside.messages) == before, "nor is it sent on"
        found = [answer(peer.reply()) for peer in peers]
    assert {one.code for one in found} == {250}
    for one in found:
        assert arrival(inside, one.ref)


def test_a_disk_that_fails_is_answered_451_and_nothing_is_sent_on(
    gateway: Gateway, disk: Disk, inside: NextHop
) -> None:
    before = len(inside.messages)
    with gateway.partner() as peer:
        with disk.state("broken"):
            found = peer.offer(make.message(), BOB)
        assert (found.code, found.text.split()[0]) == (451, "4.3.0")
        # The same message again, as a client does that was told to: once the disk is well it is taken, once.
        again = peer.offer(make.message(), BOB)
    assert again.code == 250
    assert arrival(inside, again.ref)
    assert len(inside.messages) == before + 1


def test_in_a_chunk_it_is_no_different(gateway: Gateway, disk: Disk) -> None:
    raw = make.message()
    with gateway.partner() as peer, disk.state("broken"):
        peer.send(f"MAIL FROM:<ann@partner.example>\r\nRCPT TO:<{BOB}>\r\nBDAT {len(raw)} LAST\r\n".encode() + raw)
        assert peer.codes(3) == [250, 250, 451]


def test_what_was_answered_250_outlives_a_crash_of_everything(gateway: Gateway, edge: Edge, inside: NextHop) -> None:
    edge.run(inside.stop())
    found = [gateway.receive(make.message()) for _ in range(5)]
    gateway.kill_all()
    assert {one.code for one in found} == {250}
    edge.run(inside.__aenter__())
    gateway.start()
    wait_until(lambda: have_come(gateway, inside, found), 60, "what was answered 250")
    gateway.settled(found[-1].ref, bob="delivered")
    assert [len(arrivals(inside, one.ref)) for one in found] == [1] * 5


def have_come(gateway: Gateway, hop: NextHop, answers: list[Answer]) -> bool:
    """Make due what waits, and tell whether all of these have come."""
    gateway.rows.make_due()
    return all(arrivals(hop, one.ref) for one in answers)


def test_whoever_was_not_told_250_had_no_promise(gateway: Gateway, disk: Disk, inside: NextHop) -> None:
    with gateway.partner() as peer, disk.state("held"):
        begin(peer)
        disk.wait_for_sync()
        gateway.kill_all()
        assert peer.is_closed(), "cut, without a reply"
    gateway.start()
    found = gateway.receive(make.message())
    assert arrival(inside, found.ref)
