"""From one leaf of a tree to the closure that answers it, and to what must be there for it to be true."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.policy.rules.fields import FieldRef, FieldSpec, Type, Value
from gateway.policy.rules.operators import OPERATORS, Form, Wanted
from gateway.policy.rules.patterns import MAX_REPEATS, Pool, repeats_in
from gateway.policy.rules.schema import Condition, Quantifier
from gateway.policy.rules.truth import Tree, Truth, negated
from gateway.policy.rules.view import View
from gateway.verdict import Unknown

MAX_INDEXED = 1000  # values of one condition; with more of them the index costs more than it saves
COUNTING = FieldSpec("count", "", Type.NUMBER, "How many values there are.", lambda view, name: ())


@dataclass(frozen=True, slots=True)
class Needs:
    """What has to be there for a tree to be true: one of the keys of a field, or one of the pool's patterns."""

    ref: FieldRef
    keys: frozenset[str] = frozenset()
    pool: Pool | None = None
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Leaf:
    tree: Tree
    needs: Needs | None
    ref: FieldRef


def make(condition: Condition, ref: FieldRef, values: tuple[Value, ...], pools: "Pools") -> Leaf:
    """Compile a leaf whose field is known. Raises ValueError for values that the operator does not take."""
    of = condition.of or (Quantifier.EACH if ref.spec.is_recipient else Quantifier.ANY)
    if of is Quantifier.EACH and not ref.spec.is_recipient:
        raise ValueError("each is for recipients")
    if condition.op == "exists":
        if of not in (Quantifier.ANY, Quantifier.EACH):
            raise ValueError("exists is asked about all values at once")
        tree = _exists(ref)
        return Leaf(negated(tree) if values == (False,) else tree, None, ref)
    if of is Quantifier.COUNT:
        counting = FieldRef(COUNTING, "", False)
        return Leaf(_count(ref, OPERATORS[condition.op].make(values, counting)), None, ref)
    wanted = OPERATORS[condition.op].make(values, ref)
    pools.count_repeats(ref, wanted.patterns)
    needs = pools.needs(ref, wanted) if of is Quantifier.ANY or of is Quantifier.EACH else None
    return Leaf(_quantified(of, ref, wanted), needs, ref)


class Pools:
    """The pattern pools of one policy, by field and form, and its fields, each once."""

    def __init__(self) -> None:
        self._refs: dict[tuple[str, str, bool], FieldRef] = {}
        self._pools: dict[tuple[FieldRef, bool], Pool] = {}
        self._repeats: dict[FieldRef, int] = {}

    def ref(self, spec: FieldSpec, name: str, raw: bool) -> FieldRef:
        key = (spec.name, name.lower(), raw)
        if key not in self._refs:
            self._refs[key] = FieldRef(spec, name.lower(), raw)
        return self._refs[key]

    def count_repeats(self, ref: FieldRef, patterns: Sequence[str]) -> None:
        """Raise ValueError when the patterns of one field come to cost too much together."""
        repeats = self._repeats.get(ref, 0) + sum(map(repeats_in, patterns))
        if repeats > MAX_REPEATS:
            raise ValueError(f"with this the patterns of {ref.spec.name} repeat {repeats} times, at most {MAX_REPEATS}")
        self._repeats[ref] = repeats

    def needs(self, ref: FieldRef, wanted: Wanted) -> Needs | None:
        """Return what the index can look for; nothing in fields that change while the rules run."""
        if ref.spec.is_late:
            return None
        if len(wanted.keys) > MAX_INDEXED:
            return None
        if wanted.keys:
            return Needs(ref, keys=wanted.keys)
        sources = wanted.literals or wanted.patterns
        if not sources:
            return None
        pool = self._pools.setdefault((ref, bool(wanted.literals)), Pool(ref, is_folded=bool(wanted.literals)))
        return Needs(ref, pool=pool, numbers=tuple(pool.add(one) for one in sources))

    def freeze(self) -> frozenset[Pool]:
        """Return the pools that are of use."""
        return frozenset([pool for pool in self._pools.values() if pool.freeze()])


def _read(view: View, ref: FieldRef, form: Form) -> Sequence[Any] | Unknown:
    if form is Form.FOLDED:
        return view.folded(ref)
    return view.octets(ref) if form is Form.OCTETS else view.values(ref)


def _quantified(of: Quantifier, ref: FieldRef, wanted: Wanted) -> Tree:
    test, form = wanted.test, wanted.form

    def judge_any(view: View) -> Truth:
        values = _read(view, ref, form)
        if isinstance(values, Unknown):
            return None
        return any(test(value) for value in values)

    def judge_all(view: View) -> Truth:
        values = _read(view, ref, form)
        return None if isinstance(values, Unknown) else bool(values) and all(test(value) for value in values)

    def judge_first(view: View) -> Truth:
        values = _read(view, ref, form)
        return None if isinstance(values, Unknown) else bool(values) and test(values[0])

    def judge_each(view: View) -> Truth:
        values = _read(view, ref, form)
        if isinstance(values, Unknown):
            return None
        if view.place is None:
            outcomes = {test(value) for value in values}
            return outcomes.pop() if len(outcomes) == 1 else None  # it depends on whom is asked about
        return test(values[view.place])

    if of is Quantifier.NONE:
        return negated(judge_any)
    trees = {Quantifier.ALL: judge_all, Quantifier.FIRST: judge_first, Quantifier.EACH: judge_each}
    return trees.get(of, judge_any)


def _exists(ref: FieldRef) -> Tree:
    def judge(view: View) -> Truth:
        values = view.values(ref)
        return None if isinstance(values, Unknown) else bool(values)

    return judge


def _count(ref: FieldRef, wanted: Wanted) -> Tree:
    def judge(view: View) -> Truth:
        values = view.values(ref)
        return None if isinstance(values, Unknown) else wanted.test(len(values))

    return judge
