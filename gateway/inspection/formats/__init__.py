"""Openers: one module for each family of formats, found by scanning. They run in the box's child and nowhere else.

A module says in `OPENS` which found types it opens, and `open_file(look)` notes what it finds. It may use C parsers and
raise anything: a file that cannot be opened to its end is noted as such by whoever called, never as clean.
"""

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.inspection.look import Look

Opener = Callable[["Look"], None]


@cache
def openers() -> dict[str, tuple[Opener, ...]]:
    """Return the openers by found type: those that open it, by the names of their modules."""
    found: dict[str, tuple[Opener, ...]] = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        module = importlib.import_module(f"{__name__}.{name}")
        for kind in getattr(module, "OPENS", ()):  # a module of parts has none
            found[kind] = (*found.get(kind, ()), module.open_file)
    return found
