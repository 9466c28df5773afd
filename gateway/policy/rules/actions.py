"""What a rule may do: one registered class an action, its docstring is its help, its fields are the form.

Only what the gateway carries out today is here: returning to the sender, holding for the sender's word and redirecting
are not. An action belongs to sections: what objects to a message, what changes it and where it goes are decided apart.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, model_validator

from gateway.inspection.facts import Facts
from gateway.inspection.words import decode_words
from gateway.mail.encoded_words import encoded
from gateway.mail.reply import REFUSALS
from gateway.policy.rules.patterns import Pattern
from gateway.policy.rules.schema import Model, Section
from gateway.policy.rules.view import cut_octets, plain
from gateway.verdict import Action, AddField, Kind, PrefixSubject, RemoveFields, SetField, Transform

# Ours, the trace, who wrote it, and fields without which the body is read wrongly.
UNTOUCHABLE = re.compile(
    r"received|return-path|mime-version|content-.*|x-gatepost-.*|authentication-results|from", re.IGNORECASE
)
_NAME = re.compile(r"[!-9;-~]{1,76}")
_WORD = re.compile(r"[a-z0-9][a-z0-9_.-]{0,49}")
CATEGORIES = tuple(name for name, words in REFUSALS.items() if words.is_permanent)
KEPT_LATER = ("operator", "undeliverable")  # kinds of held mail that `store.mail_tables` tells apart
OBJECTING = (Section.DENY, Section.HOLD)
EVERYWHERE = tuple(Section)
BEFORE_ROUTE = tuple(section for section in Section if section is not Section.ROUTE)

Edit = Callable[[Facts], Transform | None]


def _field_name(text: str) -> str:
    name = text.strip()
    if not _NAME.fullmatch(name):
        raise ValueError("should be the name of a header field")
    if UNTOUCHABLE.fullmatch(name):
        raise ValueError(f"{name} cannot be edited")
    return name


def _line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("should be one line of printable text")
    return text


def _word(text: str) -> str:
    word = text.strip().lower()
    if not _WORD.fullmatch(word):
        raise ValueError("should be a word of letters, digits, dots, underscores and hyphens")
    return word


def _not_ours(kind: str) -> str:
    if kind in KEPT_LATER:
        raise ValueError(f"{kind} is for mail that was on its way before")
    return kind


def _category(text: str) -> str:
    if text not in CATEGORIES:
        raise ValueError(f"should be one of {', '.join(CATEGORIES)}")
    return text


def _pattern(text: str) -> str:
    if text:
        Pattern(text, ignore_case=True)
    return text


FieldName = Annotated[str, AfterValidator(_field_name)]
Line = Annotated[str, AfterValidator(_line), Field(max_length=2000)]
Word = Annotated[str, AfterValidator(_word)]
Category = Annotated[str, AfterValidator(_category)]


@dataclass(slots=True)
class Effect:
    """What the actions of one rule amount to."""

    action: Action | None = None
    category: str = ""
    hold: str = ""
    score: float = 0.0
    exempts: tuple[Kind, ...] = ()
    tags: frozenset[str] = frozenset()
    edits: list[Edit] = field(default_factory=list)
    route: str = ""
    notes: list[str] = field(default_factory=list)

    def decide(self, action: Action, category: str = "", hold: str = "") -> None:
        """Set the final action. Raises ValueError for a second one."""
        if self.action is not None:
            raise ValueError("a rule has one final action")
        self.action, self.category, self.hold = action, category, hold


class RuleAction(Model):
    """The options of one action."""

    sections: ClassVar[tuple[Section, ...]] = EVERYWHERE

    def add_to(self, effect: Effect) -> None:
        """Say what is done. Raises ValueError for what cannot be done together with what is there."""
        raise NotImplementedError


ACTIONS: dict[str, type[RuleAction]] = {}


def registered(name: str, *sections: Section) -> Callable[[type[RuleAction]], type[RuleAction]]:
    def register(action: type[RuleAction]) -> type[RuleAction]:
        action.sections = sections or EVERYWHERE
        ACTIONS[name] = action
        return action

    return register


# --- Final ------------------------------------------------------------------------------------------------------------


@registered("deliver", *OBJECTING)
class Deliver(RuleAction):
    """Object to nothing. Whatever others object to stands: only a pass opens that."""

    def add_to(self, effect: Effect) -> None:
        effect.decide(Action.DELIVER)


@registered("reject", Section.DENY)
class Reject(RuleAction):
    """Refuse the message for good. The sender is told the public words of the category."""

    category: Category = Field("generic", title="Category")

    def add_to(self, effect: Effect) -> None:
        effect.decide(Action.REJECT, self.category)


@registered("defer", Section.DENY)
class Defer(RuleAction):
    """Have the sending server try again later."""

    category: Category = Field("generic", title="Category")

    def add_to(self, effect: Effect) -> None:
        effect.decide(Action.DEFER, self.category)


@registered("discard", Section.DENY)
class Discard(RuleAction):
    """Accept the message and deliver it to nobody. The sender is not told; the trace is kept."""

    def add_to(self, effect: Effect) -> None:
        effect.decide(Action.DISCARD)


@registered("quarantine", Section.HOLD)
class Quarantine(RuleAction):
    """Keep the message for review, among the held ones of this kind."""

    kind: Annotated[Word, AfterValidator(_not_ours)] = Field("rule", title="Kind of quarantine")

    def add_to(self, effect: Effect) -> None:
        effect.decide(Action.QUARANTINE, hold=self.kind)


# --- Not final --------------------------------------------------------------------------------------------------------


@registered("exempt", Section.PASSES)
class Exempt(RuleAction):
    """Let pass whatever filters and rules find of these kinds, but never what belongs to the safety floor."""

    kinds: tuple[Kind, ...] = Field(min_length=1, title="Kinds")

    def add_to(self, effect: Effect) -> None:
        effect.exempts += self.kinds


@registered("tag", *BEFORE_ROUTE)
class Tag(RuleAction):
    """Set a tag, which rules of later sections may ask about."""

    tag: Word = Field(title="Tag")

    def add_to(self, effect: Effect) -> None:
        effect.tags |= {self.tag}


@registered("score", *OBJECTING)
class Score(RuleAction):
    """Add to the message's score, or take from it; the policy's thresholds say what becomes of the sum."""

    score: float = Field(ge=-1000, le=1000, title="Score")

    def add_to(self, effect: Effect) -> None:
        effect.score += self.score


@registered("log")
class Log(RuleAction):
    """Say something in the trace."""

    text: Line = Field(title="Text")

    def add_to(self, effect: Effect) -> None:
        effect.notes.append(self.text)


@registered("add_header", Section.TRANSFORM)
class AddHeader(RuleAction):
    """Put a header field on top, whether there is one of that name or not."""

    name: FieldName = Field(title="Field")
    value: Line = Field(title="Value")

    def add_to(self, effect: Effect) -> None:
        transform = AddField(self.name, encoded(self.value))
        effect.edits.append(lambda facts: transform)


@registered("set_header", Section.TRANSFORM)
class SetHeader(RuleAction):
    """Have exactly one header field of this name, with this value."""

    name: FieldName = Field(title="Field")
    value: Line = Field(title="Value")

    def add_to(self, effect: Effect) -> None:
        transform = SetField(self.name, encoded(self.value))
        effect.edits.append(lambda facts: transform)


@registered("remove_header", Section.TRANSFORM)
class RemoveHeader(RuleAction):
    """Take out the header fields of this name that the message came with; with a pattern only those that match it."""

    name: FieldName = Field(title="Field")
    pattern: Annotated[str, AfterValidator(_pattern)] = Field("", title="Where the value matches")

    def add_to(self, effect: Effect) -> None:
        key = self.name.lower()
        pattern = Pattern(self.pattern, ignore_case=True) if self.pattern else None

        def edit(facts: Facts) -> Transform | None:
            indexes = tuple(
                [
                    index
                    for index, one in enumerate(facts.fields)
                    if one.key == key
                    and (pattern is None or pattern.found_in(cut_octets(plain(decode_words(one.value)))))
                ]
            )
            return RemoveFields(indexes) if indexes else None

        effect.edits.append(edit)


@registered("subject", Section.TRANSFORM)
class Subject(RuleAction):
    """Put words before the Subject, unless it has them already, or another Subject in its place."""

    prefix: Line = Field("", title="Before it")
    replace: Line = Field("", title="Instead of it")

    @model_validator(mode="after")
    def _says_one(self) -> "Subject":
        if bool(self.prefix.strip()) == bool(self.replace.strip()):
            raise ValueError("should have one of prefix and replace")
        return self

    def add_to(self, effect: Effect) -> None:
        transform = (
            PrefixSubject(self.prefix.strip()) if self.prefix.strip() else SetField("Subject", encoded(self.replace))
        )
        effect.edits.append(lambda facts: transform)


@registered("route", Section.ROUTE)
class RouteTo(RuleAction):
    """Send the message by one of the policy's routes. Of several rules the one with the lowest number counts."""

    route: str = Field(min_length=1, title="Route")

    def add_to(self, effect: Effect) -> None:
        if effect.route:
            raise ValueError("a rule has one route")
        effect.route = self.route


def transforms_of(edits: Iterable[Edit], facts: Facts) -> tuple[Transform, ...]:
    """Return what the edits of a rule mean for this message."""
    return tuple([transform for edit in edits if (transform := edit(facts)) is not None])
