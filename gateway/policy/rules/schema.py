"""What a rule is, as the document, the form, the API and import and export have it.

Fields, operators and actions are named here and checked by `rules.compile` against the registry: this module knows none
of them.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from gateway.mail.envelope import Direction, ListenerKind
from gateway.verdict import Action, Kind, Mode

MAX_DEPTH = 10  # trees within trees
MAX_CONDITIONS = 500  # of one tree
MAX_RULES = 10_000
MAX_VALUES = 10_000  # of one condition; longer ones belong into a list

Scalar = bool | int | float | Annotated[str, Field(max_length=4096)]


class Section(StrEnum):
    """Where in the pipeline a rule stands; the floor before them belongs to the filters."""

    PASSES = "passes"
    DENY = "deny"
    HOLD = "hold"
    TRANSFORM = "transform"
    ROUTE = "route"


class WhenUnknown(StrEnum):
    """What a rule does when it cannot be told whether it matches."""

    MATCH = "match"
    NO_MATCH = "no_match"
    DEFER = "defer"


class Quantifier(StrEnum):
    """Which of a field's values the operator is asked about."""

    ANY = "any"
    ALL = "all"  # and there is at least one
    NONE = "none"
    FIRST = "first"
    COUNT = "count"  # how many there are
    EACH = "each"  # recipients: the rule is judged for each by itself


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Condition(Model):
    """One node of a tree: `all`, `any` or `none` of others, or a leaf with field, operator and value or list.

    `name` says which header field or which DNS list where the field asks for one. `raw`: as written, letters included.
    """

    all: tuple["Condition", ...] | None = Field(None, min_length=1, title="All of")
    any: tuple["Condition", ...] | None = Field(None, min_length=1, title="Any of")
    none: tuple["Condition", ...] | None = Field(None, min_length=1, title="None of")
    field: str = Field("", max_length=100, title="Field")
    name: str = Field("", max_length=255, title="Name", description="Of the header field, or of the DNS list")
    op: str = Field("", max_length=100, title="Operator")
    value: Scalar | Annotated[tuple[Scalar, ...], Field(max_length=MAX_VALUES)] | None = Field(None, title="Value")
    list: str = Field("", max_length=100, title="List", description="One of the document's lists, instead of values")
    of: Quantifier | None = Field(None, title="Of the values")
    raw: bool = Field(False, title="As written", description="Undecoded, letters as they are")

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        groups = [name for name in ("all", "any", "none") if getattr(self, name) is not None]
        if len(groups) + bool(self.field) != 1:
            raise ValueError("should have one of all, any, none, field")
        if groups and self.model_fields_set - {groups[0]} - self._unset():
            raise ValueError(f"beside {groups[0]} nothing else may stand")
        return self

    def _unset(self) -> set[str]:
        """Return the keys that say what they say anyway."""
        fields = type(self).model_fields
        return {name for name in self.model_fields_set if getattr(self, name) == fields[name].default}

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write what is said and nothing else: a tree is read by people."""
        unset = {name for name, one in type(self).model_fields.items() if getattr(self, name) == one.default}
        return {name: value for name, value in handler(self).items() if name not in unset}

    @property
    def children(self) -> tuple["Condition", ...]:
        return next((one for one in (self.all, self.any, self.none) if one is not None), ())


def _bounded(tree: Condition) -> Condition:
    """Refuse trees that cost too much. pydantic itself stops at 255 levels."""
    level, depth, count = [tree], 0, 0
    while level:
        depth, count = depth + 1, count + len(level)
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels")
        if count > MAX_CONDITIONS:
            raise ValueError(f"more than {MAX_CONDITIONS} conditions")
        level = [child for one in level for child in one.children]
    return tree


class FileOf(Model):
    """A file of an example, as the inspection would describe it; `rules.examples` says how."""

    names: tuple[str, ...] = ()
    path: str = Field("2", pattern=r"^\d+(\.\d+)*(/\d+)*$")
    found_types: tuple[str, ...] = ()
    declared_types: tuple[str, ...] = ()
    size: int = Field(0, ge=0)
    sha256: str = ""
    lock: str = Field("", pattern="^(|opened|locked)$")
    macro: str = Field("", pattern="^(|present|auto_run|suspicious)$")
    active: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class LinkOf(Model):
    target: str = Field(max_length=4096)
    text: str = Field("", max_length=4096)


class Example(Model):
    """A small message, or facts by hand, and whether the rule matches it; it must do so before it is published."""

    name: str = Field("", max_length=200)
    expect: WhenUnknown = Field(title="Outcome", description="match, no_match, or defer where it cannot be told")
    message: str = Field("From: <ann@partner.example>\nSubject: Hello\n\nHello.\n", max_length=64 * 1024)
    mail_from: str = Field("ann@partner.example", description="Empty: a bounce")
    recipients: tuple[str, ...] = Field(("bob@corp.example",), min_length=1, max_length=100)
    direction: Direction = Direction.INBOUND
    client_ip: str = "192.0.2.10"
    helo: str = "mail.partner.example"
    listener: ListenerKind = ListenerKind.INBOUND
    tls: str = Field("", description="Version, e.g. TLSv1.3; empty: none")
    user: str = ""
    at: AwareDatetime = datetime.fromisoformat("2026-01-01T12:00:00+00:00")
    text: str = ""
    files: tuple[FileOf, ...] = ()
    links: tuple[LinkOf, ...] = ()
    tags: tuple[str, ...] = ()
    findings: tuple[str, ...] = Field((), description="Reasons of findings, e.g. business_only:listed")


class Rule(Model):
    """One rule. Its number is stable: traces, statistics and colleagues name it by that."""

    number: int = Field(ge=1, le=999_999, title="Number")
    name: str = Field("", max_length=200, title="Name")
    section: Section
    direction: Direction | None = Field(None, title="Direction", description="Empty: every one")
    mode: Mode = Mode.SHADOW
    kind: Kind = Field(Kind.CONTENT, title="Kind of objection", description="What keys and passes open it with")
    when: Condition | None = Field(None, description="Empty: every message")
    unless: Condition | None = None
    when_unknown: WhenUnknown = WhenUnknown.NO_MATCH
    # Each is checked by `rules.compile`: `do` names a registered action, the rest are its options.
    actions: tuple[dict[str, Any], ...] = Field(min_length=1, max_length=20)
    owner: str = Field("", max_length=200)
    expires_at: AwareDatetime | None = None
    examples: tuple[Example, ...] = Field((), max_length=50)

    @field_validator("when", "unless")
    @classmethod
    def _small(cls, tree: Condition | None) -> Condition | None:
        return tree and _bounded(tree)

    @field_validator("kind")
    @classmethod
    def _open_to_observe_mode(cls, kind: Kind) -> Kind:
        if kind is Kind.PROTOCOL:
            # What is of that kind is refused in observe mode as well.
            raise ValueError("rules do not judge the protocol")
        return kind

    @field_validator("direction")
    @classmethod
    def _judged(cls, direction: Direction | None) -> Direction | None:
        if direction is Direction.RETURNED:
            raise ValueError("mail back from the second scanner is not judged again")
        return direction


class ScoreThreshold(Model):
    """What becomes of a message whose findings' scores add up to so much."""

    at: float = Field(gt=0, le=1_000_000, title="Score")
    action: Action
    category: str = Field("generic", max_length=50)

    @field_validator("action")
    @classmethod
    def _carried_out(cls, action: Action) -> Action:
        offered = (Action.QUARANTINE, Action.DEFER, Action.REJECT)
        if action not in offered:
            raise ValueError(f"should be one of {', '.join(offered)}")
        return action
