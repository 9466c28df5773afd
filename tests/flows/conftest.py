"""The product with the outside around it.

A start takes seconds, so modules that differ only by policy and ledger use one product after the other: each arranges
it as it needs it. Whoever stops it, or wants other settings, starts one of its own, once for the module.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.flows.edge import Edge
from tests.flows.gateway import Gateway, document
from tests.nameserver import Nameserver
from tests.nexthop import NextHop
from tests.served import authority

Start = Callable[..., Gateway]


@pytest.fixture(scope="session")
def edge() -> Iterator[Edge]:
    with Edge() as edge:
        yield edge


@pytest.fixture(scope="session")
def nameserver(edge: Edge) -> Nameserver:
    """The world's DNS; modules put their names into its zone."""
    return edge.nameserver({})


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


@pytest.fixture(scope="session")
def shared(edge: Edge, nameserver: Nameserver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The product that modules use one after the other, with a certificate and the nameserver."""
    folder = tmp_path_factory.mktemp("shared")
    certificate = authority().issue_cert("gate.corp.example")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "certificate.pem", append=True)
    host, port = nameserver.address
    settings = {
        "tls_certificate": folder / "certificate.pem",
        "tls_key": folder / "key.pem",
        "nameservers": f'["{host}:{port}"]',
        "allow_local_mx": "true",
    }
    with Gateway(folder / "gatepost", document(edge.hop()), **settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def arrange(shared: Gateway) -> Start:
    """Return a function that puts a module's policy and ledger entries in force in the shared product."""

    def arranged(*arguments: object) -> Gateway:
        shared.arrange(*arguments)  # type: ignore[arg-type]
        return shared

    return arranged
