"""What may be asked about a field's values: one registered function an operator, its docstring is its help.

An operator makes a test of one value from what the condition gives. Texts come to it in the form that the field has
when it is compared; `Form` says in which one the operator wants them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.mail.address import domain_of_text, parent_domains, parse_ip, parse_network
from gateway.policy.rules.addresses import key_of, networks_of
from gateway.policy.rules.fields import FieldRef, FieldSpec, Type, Value
from gateway.policy.rules.patterns import Pattern, literal
from gateway.policy.rules.view import MAX_DOMAIN, folded

Test = Callable[[Any], bool]
TEXTS = frozenset({Type.TEXT, Type.DOMAIN})
WORDS = TEXTS | {Type.CODE, Type.NETWORK}


class Form(StrEnum):
    """In which form an operator wants the values."""

    VALUES = "values"  # as read
    FOLDED = "folded"  # as compared
    OCTETS = "octets"  # as patterns see them


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a condition asks for, made ready. `keys` are all values of which one has to be among `View.keys`.

    `literals` (for folded text) or `patterns` are all of which one has to be found. Both serve the index only.
    """

    test: Test
    form: Form
    keys: frozenset[str] = frozenset()
    literals: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()


Make = Callable[[tuple[Value, ...], FieldRef], Wanted]


@dataclass(frozen=True, slots=True)
class Operator:
    """`wants` is the least and the most number of values that it takes."""

    name: str
    types: frozenset[Type]
    wants: tuple[int, int]
    help: str
    make: Make


MANY = 1_000_000
OPERATORS: dict[str, Operator] = {}


def operator(name: str, types: Iterable[Type], wants: tuple[int, int] = (1, MANY)) -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        OPERATORS[name] = Operator(name, frozenset(types), wants, " ".join((make.__doc__ or "").split()), make)
        return make

    return register


@operator("equals", [*WORDS, Type.NUMBER, Type.FLAG], (1, 1))
def equals(values: tuple[Value, ...], ref: FieldRef) -> Wanted:
    """The value is this one; in texts letters of either case are the same."""
    return one_of(values, ref)


@operator("one_of", [*WORDS, Type.NUMBER])
def one_of(values: tuple[Value, ...], ref: FieldRef) -> Wanted:
    """The value is one of these."""
    if ref.spec.type in (Type.NUMBER, Type.FLAG):
        wanted = frozenset(_number(value) if ref.spec.type is Type.NUMBER else _flag(value) for value in values)
        return Wanted(wanted.__contains__, Form.VALUES)
    keys = frozenset(_word(value, ref) for value in values)
    return Wanted(keys.__contains__, Form.FOLDED, keys=keys)


@operator("contains", TEXTS)
def contains(values: tuple[Value, ...], ref: FieldRef) -> Wanted:
    """The text holds this, or one of these, anywhere."""
    texts = _texts(values, ref)
    if len(texts) == 1:
        return Wanted(lambda text: texts[0] in text, Form.FOLDED, literals=(literal(texts[0]),))
    return Wanted(
        lambda text: any(one in text for one in texts), Form.FOLDED, literals=tuple(literal(one) for one in texts)
    )


@operator("starts", TEXTS)
def starts(values: tuple[Value, ...], ref: FieldRef) -> Wanted:
    """The text begins with this, or with one of these."""
    texts = _texts(values, ref)
    return Wanted(
        lambda text: text.startswith(texts), Form.FOLDED, literals=tuple(rf"\A{literal(one)}" for one in texts)
    )


@operator("ends", TEXTS)
def ends(values: tuple[Value, ...], ref: FieldRef) -> Wanted:
    """The text ends with this, or with one of these."""
    texts = _texts(values, ref)
    return Wanted(lambda text: text.endswith(texts), Form.FOLDED, literals=tuple(rf"{literal(one)}\z" for one in texts))


@operator("matches", TEXTS)
def matches(values: tuple[Value, ...], ref: FieldRef) -> Wanted:
    r"""A regular expression (RE2) is found in the first 64 KiB. \w and \b know ASCII only: use [\pL\pN_] instead."""
    sources = tuple(str(value) for value in values)
    patterns = [Pattern(one, ignore_case=not ref.raw) for one in sources]
    return Wanted(lambda octets: any(one.found_in(octets) for one in patterns), Form.OCTETS, patterns=sources)


@operator("in_domain", [Type.DOMAIN])
def in_domain(values: tuple[Value, ...], ref: FieldRef) -> Wanted:
    """The domain is this one. `*.partner.example` means those below partner.example, and not itself."""
    keys = frozenset(_domain(value) for value in values)

    def is_in(domain: str) -> bool:
        if domain in keys:
            return True
        return any(f"*.{above}" in keys for above in parent_domains(domain[:MAX_DOMAIN]))

    return Wanted(is_in, Form.FOLDED, keys=keys)


@operator("in_network", [Type.NETWORK])
def in_network(values: tuple[Value, ...], ref: FieldRef) -> Wanted:
    """The address is in this network (192.0.2.0/24), or in one of these."""
    keys = frozenset(key_of(parse_network(_text(value).strip())) for value in values)
    return Wanted(lambda ip: not keys.isdisjoint(networks_of(ip)), Form.VALUES, keys=keys)


@operator("greater", [Type.NUMBER], (1, 1))
def greater(values: tuple[Value, ...], ref: FieldRef) -> Wanted:
    """The number is greater than this."""
    limit = _number(values[0])
    return Wanted(lambda number: number > limit, Form.VALUES)


@operator("less", [Type.NUMBER], (1, 1))
def less(values: tuple[Value, ...], ref: FieldRef) -> Wanted:
    """The number is less than this."""
    limit = _number(values[0])
    return Wanted(lambda number: number < limit, Form.VALUES)


@operator("exists", Type, (0, 1))
def exists(values: tuple[Value, ...], ref: FieldRef) -> Wanted:
    """There is any value; with the value false: there is none."""
    # `rules.leaves` asks for the number of values; here only the condition's value is checked.
    if values:
        _flag(values[0])
    return Wanted(lambda value: True, Form.VALUES)


def _word(value: Value, ref: FieldRef) -> str:
    text = _text(value)
    if ref.spec.type is Type.DOMAIN and not ref.raw:
        return _host(text.strip())
    if ref.spec.type is Type.NETWORK:
        return str(parse_ip(text.strip()))
    word = text if ref.raw else folded(text)
    _check_choice(word, ref.spec)
    return word


def _check_choice(word: str, spec: FieldSpec) -> None:
    if spec.choices and word not in spec.choices:
        raise ValueError(f"{spec.name} is one of {', '.join(spec.choices)}")


def _texts(values: tuple[Value, ...], ref: FieldRef) -> tuple[str, ...]:
    texts = tuple(_text(value) if ref.raw else folded(_text(value)) for value in values)
    if not all(texts):
        raise ValueError("an empty text is found everywhere")
    return texts


def _text(value: Value) -> str:
    if isinstance(value, bool):
        raise ValueError("should be a text")
    return str(value)


def _number(value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("should be a number")
    return value


def _flag(value: Value) -> bool:
    if not isinstance(value, bool):
        raise ValueError("should be true or false")
    return value


def _domain(value: Value) -> str:
    text = _text(value).strip()
    return f"*.{domain_of_text(text[2:])}" if text.startswith("*.") else _host(text)


def _host(text: str) -> str:
    """Return a domain, or what stands in the place of one: an address, or the literal of one."""
    try:
        return str(parse_ip(text))
    except ValueError:
        return text.lower() if text.startswith("[") else domain_of_text(text)
