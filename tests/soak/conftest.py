"""Long runs, left out of the everyday tests: `make soak` asks for them with `-m soak`."""

import pytest

from tests.faults.conftest import hop, make_product, product

__all__ = ["hop", "make_product", "product"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: takes minutes; only run with -m soak")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave soak tests out unless -m names them."""
    if "soak" in config.getoption("markexpr", ""):
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    if soak:
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]
