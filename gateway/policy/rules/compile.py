"""From the rules of the document to closures and their index. Every problem is told, with the path of its field."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from pydantic import ValidationError

from gateway.mail.envelope import Direction
from gateway.policy.rules.actions import Effect
from gateway.policy.rules.fields import Asks, FieldSpec, Type, Value
from gateway.policy.rules.leaves import Needs, Pools, make
from gateway.policy.rules.operators import MANY, Operator
from gateway.policy.rules.patterns import Pool
from gateway.policy.rules.schema import Condition, Quantifier, Rule, Section, WhenUnknown
from gateway.policy.rules.truth import Tree, all_of, always, any_of, negated
from gateway.policy.rules.vocabulary import Vocabulary
from gateway.verdict import Kind, Mode

SECTIONS = {section: place for place, section in enumerate(Section)}
MAX_LISTED = 30  # words of a message that lists what there is

Problem = tuple[str, str]


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One rule that runs. `asks` are what its conditions ask, with the name that each is asked with."""

    number: int
    label: str
    section: int
    direction: Direction | None
    kind: Kind
    is_shadow: bool
    tree: Tree
    when_unknown: WhenUnknown
    effect: Effect
    expires_at: datetime | None
    asks: tuple[tuple[Asks, str], ...]

    @property
    def code(self) -> str:
        return str(self.number)

    def is_over(self, now: datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules that run, in the order of sections and numbers, and what tells which of them have to be looked at.

    `unindexed` always have to be. `by_key` and `by_pattern` name rules by what at least has to be there.
    """

    rules: tuple[CompiledRule, ...] = ()
    asking: tuple[CompiledRule, ...] = ()
    unindexed: tuple[int, ...] = ()
    by_key: tuple[tuple[Any, dict[str, tuple[int, ...]]], ...] = ()
    by_pattern: tuple[tuple[Pool, dict[int, tuple[int, ...]]], ...] = ()
    zone: tzinfo = UTC


@dataclass(frozen=True, slots=True)
class Source:
    """What compiling needs of the document besides the rules."""

    vocabulary: Vocabulary
    lists: Mapping[str, Sequence[str]]
    routes: Iterable[str]
    zone: tzinfo = UTC


def compile_rules(rules: Sequence[Rule], source: Source, problems: list[Problem]) -> Rules:
    """Compile all rules, those that are off as well: they are checked, and then left out. Adds to `problems`."""
    pools = Pools()
    compiled: list[tuple[CompiledRule, tuple[Needs, ...]]] = []
    seen: dict[int, int] = {}
    for place, rule in enumerate(rules):
        if rule.number in seen:
            problems.append((f"rules.{place}.number", f"rules.{seen[rule.number]} has the number {rule.number}"))
        seen.setdefault(rule.number, place)
        one = _Compiler(source, pools, problems).rule(rule, f"rules.{place}")
        if one is not None and rule.mode is not Mode.OFF:
            compiled.append(one)
    compiled.sort(key=lambda pair: (pair[0].section, pair[0].number))
    return _indexed(compiled, pools.freeze(), source.zone)


def compile_rule(rule: Rule, source: Source) -> CompiledRule | None:
    """Compile one rule alone, for its examples; None if it has problems."""
    problems: list[Problem] = []
    one = _Compiler(source, Pools(), problems).rule(rule, "rule")
    return one[0] if one is not None and not problems else None


class _Compiler:
    """Compiles one rule. What is wrong is noted and the rest compiled on, so that all of it is told at once."""

    def __init__(self, source: Source, pools: Pools, problems: list[Problem]) -> None:
        self._source, self._pools, self._problems = source, pools, problems
        self._words = source.vocabulary
        self._asks: dict[tuple[Asks, str], None] = {}

    def rule(self, rule: Rule, path: str) -> tuple[CompiledRule, tuple[Needs, ...]] | None:
        before = len(self._problems)
        tree, needs = self._tree(rule.when, f"{path}.when") if rule.when else (always, ())
        if rule.unless:
            unless, _ = self._tree(rule.unless, f"{path}.unless")
            tree = all_of([tree, negated(unless)])
        effect = self._effect(rule, path)
        if len(self._problems) > before:
            return None
        label = f"rule {rule.number} ({rule.name})" if rule.name else f"rule {rule.number}"
        return (
            CompiledRule(
                number=rule.number,
                label=label,
                section=SECTIONS[rule.section],
                direction=rule.direction,
                kind=rule.kind,
                is_shadow=rule.mode is Mode.SHADOW,
                tree=tree,
                when_unknown=rule.when_unknown,
                effect=effect,
                expires_at=rule.expires_at,
                asks=tuple(self._asks),
            ),
            needs,
        )

    def _tree(self, node: Condition, path: str) -> tuple[Tree, tuple[Needs, ...]]:
        """Return a tree with what at least has to be there for it not to be false; nothing if that cannot be said."""
        if node.field:
            return self._leaf(node, path)
        name = "all" if node.all is not None else "any" if node.any is not None else "none"
        parts = [self._tree(one, f"{path}.{name}.{place}") for place, one in enumerate(node.children)]
        trees, needs = [tree for tree, _ in parts], [one for _, one in parts]
        if name == "all":
            return all_of(trees), min((one for one in needs if one), key=_cost, default=())
        either = any_of(trees)
        if name == "none":
            return negated(either), ()
        return either, tuple([one for group in needs for one in group]) if all(needs) else ()

    def _leaf(self, leaf: Condition, path: str) -> tuple[Tree, tuple[Needs, ...]]:
        before = len(self._problems)
        spec = self._words.fields.get(leaf.field)
        operator = self._words.operators.get(leaf.op)
        if spec is None:
            self._note(f"{path}.field", f"no such field: {leaf.field!r}; {_near(leaf.field, self._words.fields)}")
        if operator is None:
            self._note(f"{path}.op", f"no such operator: {leaf.op!r}; there are {', '.join(self._words.operators)}")
        if spec is None or operator is None:
            return always, ()
        self._check_operator(leaf, spec, operator, path)
        self._check_name(leaf, spec, path)
        values = self._values(leaf, operator, path)
        if len(self._problems) > before:
            return always, ()
        try:
            made = make(leaf, self._pools.ref(spec, leaf.name, leaf.raw), values, self._pools)
        except ValueError as error:
            self._note(f"{path}.{'list' if leaf.list else 'value'}", str(error))
            return always, ()
        if spec.asks is not None:
            self._asks[spec.asks, made.ref.name] = None
        return made.tree, (made.needs,) if made.needs else ()

    def _check_operator(self, leaf: Condition, spec: FieldSpec, operator: Operator, path: str) -> None:
        is_count = leaf.of is Quantifier.COUNT and operator.name != "exists"
        if (Type.NUMBER if is_count else spec.type) not in operator.types:
            what = "a count" if is_count else f"{spec.name} is a {spec.type}, which"
            self._note(f"{path}.op", f"{what} does not take {operator.name}")
        if leaf.of is Quantifier.EACH and not spec.is_recipient:
            self._note(f"{path}.of", "each is for recipients")
        if operator.name == "exists" and leaf.of not in (None, Quantifier.ANY):
            self._note(f"{path}.of", "exists is asked about all values at once")

    def _check_name(self, leaf: Condition, spec: FieldSpec, path: str) -> None:
        if spec.takes_name and not leaf.name.strip():
            self._note(f"{path}.name", f"{spec.name} wants to know which one")
        elif leaf.name and not spec.takes_name:
            self._note(f"{path}.name", f"{spec.name} has no name")

    def _values(self, leaf: Condition, operator: Operator, path: str) -> tuple[Value, ...]:
        least, most = operator.wants
        if leaf.list:
            if leaf.value is not None:
                self._note(f"{path}.value", "should be left out beside a list")
            if leaf.list not in self._source.lists:
                self._note(f"{path}.list", f"no such list: {leaf.list!r}")
            if most < MANY:
                self._note(f"{path}.list", f"{operator.name} takes no list")
            return tuple(self._source.lists.get(leaf.list, ()))
        values = () if leaf.value is None else leaf.value if isinstance(leaf.value, tuple) else (leaf.value,)
        if len(values) < least:
            self._note(f"{path}.value", f"{operator.name} wants a value")
        elif len(values) > most:
            self._note(f"{path}.value", f"{operator.name} takes one value")
        return values

    def _effect(self, rule: Rule, path: str) -> Effect:
        effect = Effect()
        for place, given in enumerate(rule.actions):
            self._add_action(rule, given, f"{path}.actions.{place}", effect)
        if effect.route and effect.route not in self._source.routes:
            self._note(f"{path}.actions", f"no such route: {effect.route!r}")
        return effect

    def _add_action(self, rule: Rule, given: dict[str, Any], path: str, effect: Effect) -> None:
        name = given.get("do")
        known = self._words.actions.get(name) if isinstance(name, str) else None
        if known is None:
            self._note(f"{path}.do", f"no such action: {name!r}; there are {', '.join(self._words.actions)}")
            return
        if rule.section not in known.sections:
            self._note(f"{path}.do", f"{name} belongs to {' or '.join(known.sections)}")
        try:
            known.model_validate({key: value for key, value in given.items() if key != "do"}).add_to(effect)
        except ValidationError as error:
            for one in error.errors(include_url=False, include_input=False):
                self._note(".".join([path, *map(str, one["loc"])]), one["msg"])
        except ValueError as error:
            self._note(path, str(error))

    def _note(self, path: str, message: str) -> None:
        self._problems.append((path, message))


def _cost(needs: tuple[Needs, ...]) -> tuple[bool, int]:
    """Return how much it costs to look for what has to be there: keys are found at once, patterns are searched for."""
    return any(one.pool for one in needs), sum(len(one.keys) + len(one.numbers) for one in needs)


def _near(name: str, names: Iterable[str]) -> str:
    group = name.partition(".")[0]
    near = [one for one in names if one.partition(".")[0] == group] or list(names)
    return f"there are {', '.join(near[:MAX_LISTED])}"


def _indexed(
    compiled: Sequence[tuple[CompiledRule, tuple[Needs, ...]]], useful: frozenset[Pool], zone: tzinfo
) -> Rules:
    by_key: dict[Any, dict[str, list[int]]] = {}
    by_pattern: dict[Pool, dict[int, list[int]]] = {}
    unindexed: list[int] = []
    for place, (_, needs) in enumerate(compiled):
        if not needs or any(one.pool is not None and one.pool not in useful for one in needs):
            unindexed.append(place)
            continue
        for one in needs:
            for key in one.keys:
                by_key.setdefault(one.ref, {}).setdefault(key, []).append(place)
            for number in one.numbers if one.pool else ():
                by_pattern.setdefault(one.pool, {}).setdefault(number, []).append(place)  # type: ignore[arg-type]
    rules = tuple(rule for rule, _ in compiled)
    return Rules(
        rules=rules,
        asking=tuple(rule for rule in rules if rule.asks),
        unindexed=tuple(unindexed),
        by_key=tuple((ref, {key: tuple(places) for key, places in table.items()}) for ref, table in by_key.items()),
        by_pattern=tuple(
            (pool, {number: tuple(places) for number, places in table.items()}) for pool, table in by_pattern.items()
        ),
        zone=zone,
    )
