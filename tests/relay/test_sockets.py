"""Sockets that several workers listen on."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gateway.relay.sockets import Bound, bind, close
from gateway.settings import SettingsError


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(stack: ExitStack, address: str, count: int) -> Bound:
    bound = bind("listeners", address, count)
    stack.callback(close, bound.sockets)
    return bound


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_each_worker_has_a_socket_on_the_same_port(opened: ExitStack, host: str) -> None:
    bound = listening(opened, f"{host}:0", 3)
    assert len({one.fileno() for one in bound.sockets}) == 3
    assert {f"{host}:{one.getsockname()[1]}" for one in bound.sockets} == {bound.address}


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("second", [1, 2])
def test_a_second_gateway_does_not_share_the_port(opened: ExitStack, first: int, second: int) -> None:
    bound = listening(opened, "127.0.0.1:0", first)
    with pytest.raises(SettingsError, match=f"listeners: cannot listen on {bound.address}: Address already in use"):
        bind("listeners", bound.address, second)


def test_a_port_is_free_again_at_once(opened: ExitStack) -> None:
    bound = bind("listeners", "127.0.0.1:0", 2)
    close(bound.sockets)
    assert listening(opened, bound.address, 2).address == bound.address
