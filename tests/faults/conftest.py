"""A scripted next hop, and the whole product in front of it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.hop import NextHop
from tests.product import Product

MakeProduct = Callable[..., Product]


@pytest.fixture
def hop() -> Iterator[NextHop]:
    with NextHop() as hop:
        yield hop


@pytest.fixture
def make_product(tmp_path: Path, hop: NextHop) -> Iterator[MakeProduct]:
    """Return a function that starts a Gatepost in a folder of its own before `hop`; it is ended at last."""
    with ExitStack() as stack:

        def make(**settings: Any) -> Product:
            return stack.enter_context(Product(tmp_path / "gatepost", hop.port, **settings))

        yield make


@pytest.fixture
def product(make_product: MakeProduct) -> Product:
    return make_product()
