"""What a filter is, and the registry of all of them: one file each in this package, found by scanning.

A filter is two pure functions over a case, its options and the policy: `ask` yields the questions whose answers it
needs, `judge` what it saw. Filters share no state, do not know each other, and find the same in any order.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict

from gateway.policy.compile import Policy
from gateway.verdict import Answers, Case, Finding, Kind, Question

FAILED = "failed"  # the code that `judge.judge` gives to a filter that raised; no filter has it itself


class FilterOptions(BaseModel):
    """A filter's options. Titles and descriptions of the fields make the form; the mode is not among them."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# The options are each filter's own class.
Ask = Callable[[Case, Any, Policy], Iterable[Question]]
Judge = Callable[[Case, Any, Policy, Answers], Iterable[Finding]]


def asks_nothing(case: Case, options: Any, policy: Policy) -> tuple[()]:
    """Ask for nothing: the `ask` of a filter to which the facts are enough."""
    return ()


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter as the registry has it. `codes` are all codes of its findings; those in `floor` are never exempted.

    `inspects`: it reads files, links, text or the structure, so that messages are looked into for it.
    """

    name: str
    kind: Kind
    defaults: FilterOptions
    ask: Ask
    judge: Judge
    codes: tuple[str, ...]
    floor: tuple[str, ...] = ()
    inspects: bool = False

    def __post_init__(self) -> None:
        if FAILED in self.codes or not set(self.floor) <= set(self.codes):
            raise ValueError(f"{self.name}: the floor is a part of the codes, and {FAILED!r} is not among them")


@cache
def registry() -> dict[str, Filter]:
    """Return every filter by name: the `FILTER` of each module in this package."""
    found = [importlib.import_module(f"{__name__}.{module.name}").FILTER for module in pkgutil.iter_modules(__path__)]
    return {one.name: one for one in sorted(found, key=lambda one: one.name)}
