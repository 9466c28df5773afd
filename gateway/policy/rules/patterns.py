"""Patterns of operators: re2, which takes linear time whatever is written and whatever is looked at.

Many patterns for one field are looked for together in one pass; which of them were found also tells which rules need
not be looked at.
"""

import re

import re2  # type: ignore[import-untyped]

from gateway.policy.rules.fields import FieldRef
from gateway.policy.rules.view import View
from gateway.verdict import Unknown

MAX_MEMORY = 64 << 20  # octets, for one pattern or one set
MAX_PATTERN = 2000  # characters
MIN_SET = 4  # fewer patterns are faster one by one
# Of `{m,n}` in all patterns of one field. A text with many beginnings of such a gap makes re2 keep all of them apart:
# 1000 repetitions cost one second for the worst text of 64 KiB, and what outsiders write is not ours to choose.
MAX_REPEATS = 1000
MAX_SET = 200  # so that the states of all of them have room

_COUNTED = re.compile(r"\{(\d{1,6})(?:,(\d{0,6}))?\}")


def _options(*, ignore_case: bool) -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_MEMORY
    options.case_sensitive = not ignore_case
    return options


class Pattern:
    """One checked pattern. Raises ValueError with re2's own words for one that is none."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str, *, ignore_case: bool) -> None:
        if len(text) > MAX_PATTERN:
            raise ValueError(f"the pattern is longer than {MAX_PATTERN} characters")
        self.text = text
        try:
            self._compiled = re2.compile(text, _options(ignore_case=ignore_case))
        except re2.error as error:
            said = error.args[0]
            raise ValueError(f"not a pattern: {said.decode() if isinstance(said, bytes) else said}") from None

    def found_in(self, octets: bytes) -> bool:
        return self._compiled.search(octets) is not None


def repeats_in(pattern: str) -> int:
    """Return how many repetitions a pattern counts, `{m,n}` as the larger of the two."""
    return sum(max(int(least), int(most or 0)) for least, most in _COUNTED.findall(pattern))


def literal(text: str) -> str:
    """Return the pattern of a text as it is."""
    return str(re2.escape(text))


class Pool:
    """The patterns that conditions look for in one field. `add` them all, then `freeze`, then ask `hits`.

    `is_folded`: they are literals for compared text; else patterns for text that is cut.
    """

    __slots__ = ("_ids", "_is_folded", "_ref", "_sets")

    def __init__(self, ref: FieldRef, *, is_folded: bool) -> None:
        self._ref, self._is_folded = ref, is_folded
        self._ids: dict[str, int] = {}
        self._sets: list[tuple[re2.Set, int]] = []

    def add(self, pattern: str) -> int:
        """Return the number by which `hits` tells of the pattern."""
        return self._ids.setdefault(pattern, len(self._ids))

    def freeze(self) -> bool:
        """Return whether the pool is of use. One that is too big or too small is not: all goes one by one."""
        patterns = list(self._ids)
        if len(patterns) < MIN_SET:
            return False
        try:
            for start in range(0, len(patterns), MAX_SET):
                one = re2.Set.SearchSet(_options(ignore_case=not (self._is_folded or self._ref.raw)))
                for pattern in patterns[start : start + MAX_SET]:
                    one.Add(pattern)
                one.Compile()
                self._sets.append((one, start))
        except re2.error:
            return False
        return True

    def hits(self, view: View) -> frozenset[int] | Unknown:
        """Return the numbers of the patterns that are found in any of the field's values."""
        known = view.hits.get(self)
        if known is None:
            known = view.hits[self] = self._look(view)
        return known

    def _look(self, view: View) -> frozenset[int] | Unknown:
        texts = view.folded(self._ref) if self._is_folded else view.octets(self._ref)
        if isinstance(texts, Unknown):
            return texts
        found: set[int] = set()
        for text in texts:
            octets = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
            for one, start in self._sets:
                if numbers := one.Match(octets):
                    found.update([start + number for number in numbers])
        return frozenset(found)
