"""The product with the outside around it. Everything is made once for each module: a start takes seconds."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.flows.edge import Edge
from tests.flows.gateway import Gateway
from tests.nexthop import NextHop

Start = Callable[..., Gateway]


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with Edge() as edge:
        yield edge


@pytest.fixture(scope="module")
def inside(edge: Edge) -> NextHop:
    """The company's mail server."""
    return edge.hop(name="exchange.corp.internal")


@pytest.fixture(scope="module")
def outside(edge: Edge) -> NextHop:
    """A mail server of the world, which takes whatever leaves."""
    return edge.hop(name="mx.world.example")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Return a function that starts a Gatepost: policy, ledger entries, settings. It is ended at last."""
    with ExitStack() as stack:

        def make(*arguments: object, **settings: object) -> Gateway:
            folder = tmp_path_factory.mktemp("gatepost")
            return stack.enter_context(Gateway(folder, *arguments, **settings))  # type: ignore[arg-type]

        yield make
