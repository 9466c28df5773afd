"""What a field of a condition is, and how one is registered: a function whose docstring is its help.

A field yields values, none or many. What they are decides which operators it takes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from gateway.verdict import Question, Unknown

if TYPE_CHECKING:
    from gateway.policy.rules.view import View

Value = str | int | float | bool
Values = Sequence[Value] | Unknown
Read = Callable[["View", str], Values]
Asks = Callable[["View", str], Iterable[Question]]


class Type(StrEnum):
    """What a field's values are."""

    TEXT = "text"
    DOMAIN = "domain"  # lower case, A-labels
    NETWORK = "network"  # an IP address
    NUMBER = "number"
    FLAG = "flag"
    CODE = "code"  # one of few, or of names that the document gives


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A field as the registry has it.

    `choices` are all values of a CODE that has few. `takes_name`: a condition says which one (a header field). `asks`
    yields the questions whose answers `read` needs. `is_late`: is not the same all the time (tags), or not for all
    recipients (findings), so it is read anew each time. `is_recipient`: its values are the envelope's recipients in
    their order.
    """

    name: str
    group: str
    type: Type
    help: str
    read: Read
    choices: tuple[str, ...] = ()
    takes_name: bool = False
    asks: Asks | None = None
    is_encoded: bool = False  # may hold encoded words
    is_late: bool = False
    is_recipient: bool = False


class FieldRef:
    """One field as conditions name it, with its name and form: values are read and prepared once per message by it."""

    __slots__ = ("name", "raw", "spec")

    def __init__(self, spec: FieldSpec, name: str, raw: bool) -> None:
        self.spec, self.name, self.raw = spec, name, raw


class Registry:
    """The fields of one module, in the order in which they are written there."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.specs: list[FieldSpec] = []

    def field(
        self,
        name: str,
        type: Type,
        *,
        choices: Iterable[str] = (),
        takes_name: bool = False,
        asks: Asks | None = None,
        is_encoded: bool = False,
        is_late: bool = False,
        is_recipient: bool = False,
    ) -> Callable[[Read], Read]:
        def register(read: Read) -> Read:
            doc = " ".join((read.__doc__ or "").split())
            if not doc:
                raise ValueError(f"{name}: its docstring is its help")
            self.specs.append(
                FieldSpec(
                    name, self.group, type, doc, read, tuple(choices), takes_name, asks, is_encoded, is_late,
                    is_recipient,
                )
            )  # fmt: skip
            return read

        return register
