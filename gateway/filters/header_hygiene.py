"""Take out of the header what outsiders need not know, and edit fields as the operator says, in either direction.

Reads field names and values. Outgoing mail loses the trace of our own machines, the software's fields, and whatever
names an internal address or host; an internal Message-ID is replaced by a keyed hash of it, always the same one, so
that answers are recognised. What people wrote or readers need is never touched: see `KEPT`.
"""

import hmac
import re
from collections.abc import Iterable, Iterator
from enum import Enum, StrEnum, auto
from functools import cached_property
from typing import Annotated

from pydantic import AfterValidator, Field

from gateway.filters import Filter, FilterOptions, asks_nothing
from gateway.inspection.facts import HIDING, FieldFact
from gateway.inspection.marker import NAME
from gateway.inspection.scan import MAX_VALUE
from gateway.mail.address import Address
from gateway.mail.envelope import Direction
from gateway.mail.received import parse_received
from gateway.policy.compile import Policy
from gateway.verdict import (
    Action,
    AddField,
    Answers,
    Case,
    Finding,
    Kind,
    RemoveFields,
    ReplaceField,
    Transform,
)

# Never removed by a pattern or for their value: what people wrote, what threads, what says how to read the body, and
# signatures, which the next signer may need whole.
KEPT = frozenset(
    {
        "from", "to", "cc", "bcc", "subject", "date", "message-id", "in-reply-to", "references", "mime-version",
        "dkim-signature", "arc-seal", "arc-message-signature", "arc-authentication-results",
    }
)  # fmt: skip
# Fields that our own edits may not name: ours, the trace, and those without which the body is read wrongly.
UNTOUCHABLE = re.compile(
    r"received|return-path|mime-version|content-.*|x-gatepost-.*|authentication-results", re.IGNORECASE
)
DEFAULT_REMOVE = (
    "X-Originating-*", "X-MS-*", "X-Microsoft-*", "X-Exchange-*", "X-Forefront-*", "X-EOP*", "X-OriginatorOrg",
    "X-Mailer", "X-MimeOLE", "User-Agent", "Thread-Index", "Thread-Topic", "X-ClientProxiedBy", "X-Authenticated-*",
    "X-Sender-IP", "X-Remote-*", "X-Client-*", "X-PHP-*", "X-Source*", "X-Get-Message-Sender-Via", "X-AntiAbuse",
    "X-Gatepost-*",
)  # fmt: skip
REMOVED = {
    "trace": "Received fields of our own machines",
    "software": "fields of our own software",
    "internal": "fields that name an internal address or host",
}
MARKER = NAME.lower()  # replaced when our own fields are written
# With these there are fields that were not looked at.
UNSEEN = HIDING - {"ambiguous_author"}
MAX_NAMED = 20  # field names listed in a finding's detail
MAX_CACHED = 4096  # field names whose fate is remembered
HASH_DIGITS = 40  # 160 bits

_NAME = re.compile(r"[!-)+-9;-~]{1,76}")
_PATTERN = re.compile(r"[!-9;-~]{1,76}")
_LINE_ENDS = re.compile(r"[\r\n\0]")
_ID = re.compile(r"<[^<>\s]+>")


class Fate(Enum):
    """What becomes of an outgoing field, by its name."""

    KEEP = auto()
    REMOVE = auto()
    CHECK = auto()  # by its value
    TRACE = auto()
    HIDE = auto()  # holds Message-IDs


class TraceFields(StrEnum):
    """Which Received fields outgoing mail loses."""

    INTERNAL = "internal"  # those that our own machines wrote, or that name one
    ALL = "all"
    NONE = "none"


def _pattern(text: str) -> str:
    name = text.strip()
    if not _PATTERN.fullmatch(name) or not name.strip("*"):
        raise ValueError("should be a field name, with * for any letters")
    return name


def _editable_pattern(text: str) -> str:
    name = _pattern(text)
    if UNTOUCHABLE.fullmatch(name.replace("*", "")) or name.lower() == "from":
        raise ValueError(f"{name} cannot be edited")
    return name


def _editable_name(text: str) -> str:
    name = text.strip()
    if not _NAME.fullmatch(name):
        raise ValueError("should be a field name")
    if UNTOUCHABLE.fullmatch(name) or name.lower() == "from":
        raise ValueError(f"{name} cannot be edited")
    return name


def _line_value(text: str) -> str:
    value = text.strip()
    if not value.isascii() or not value.isprintable():
        raise ValueError("should be printable ASCII on one line")
    return value


class Line(FilterOptions):
    """One field to add, or to put in the place of those of the same name."""

    name: Annotated[str, AfterValidator(_editable_name)] = Field(title="Field")
    value: Annotated[str, AfterValidator(_line_value)] = Field(max_length=2000, title="Value")


class Edits(FilterOptions):
    """The operator's own changes in one direction. A name with * spares the fields that hygiene always keeps."""

    remove: tuple[Annotated[str, AfterValidator(_editable_pattern)], ...] = Field((), title="Remove fields")
    replace: tuple[Line, ...] = Field((), title="Replace values", description="Where the field is there")
    add: tuple[Line, ...] = Field((), title="Add fields")

    @cached_property
    def is_empty(self) -> bool:
        return not (self.remove or self.replace or self.add)

    @cached_property
    def removed(self) -> "Names":
        return Names(self.remove)

    @cached_property
    def replaced(self) -> dict[str, str]:
        return {line.name.lower(): line.value for line in self.replace}


class Options(FilterOptions):
    remove: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Field(
        DEFAULT_REMOVE, title="Remove from outgoing mail", description="Field names, * for any letters"
    )
    keep: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Field(
        (), title="But keep", description="Field names, * for any letters"
    )
    received: TraceFields = Field(TraceFields.INTERNAL, title="Received fields to remove from outgoing mail")
    values: bool = Field(True, title="Remove fields that name an internal address or host")
    message_id: bool = Field(True, title="Hide internal hosts in Message-ID")
    references: bool = Field(
        False, title="Also in References and In-Reply-To", description="Of our own messages, by the same hash"
    )
    inbound: Edits = Field(Edits(), title="Edits of incoming mail")
    outbound: Edits = Field(Edits(), title="Edits of outgoing mail")

    @cached_property
    def fates(self) -> dict[str, Fate]:
        """The fates of names seen so far: few names make up nearly all mail."""
        return {}

    @cached_property
    def names(self) -> tuple["Names", "Names"]:
        return Names(self.remove), Names(self.keep)

    def fate(self, key: str) -> Fate:
        """Return what becomes of outgoing fields of this name (lower case)."""
        removes, keeps = self.names
        if key == "received":
            fate = Fate.KEEP if self.received is TraceFields.NONE else Fate.TRACE
        elif self.message_id and (key == "message-id" or (self.references and key in ("references", "in-reply-to"))):
            fate = Fate.HIDE
        elif is_kept(key) or key == MARKER or keeps.hold(key):
            fate = Fate.KEEP
        else:
            fate = Fate.REMOVE if removes.hold(key) else Fate.CHECK
        if len(self.fates) < MAX_CACHED:
            self.fates[key] = fate
        return fate


class Names:
    """Patterns of field names. A pattern with * never means what is always kept."""

    __slots__ = ("_exact", "_wide")

    def __init__(self, patterns: Iterable[str]) -> None:
        lower = [pattern.lower() for pattern in patterns]
        self._exact = frozenset(pattern for pattern in lower if "*" not in pattern)
        wide = [re.escape(pattern).replace(r"\*", ".*") for pattern in lower if "*" in pattern]
        self._wide = re.compile("|".join(wide)) if wide else None

    def hold(self, key: str) -> bool:
        """Tell whether a name in lower case is meant."""
        if key in self._exact:
            return True
        return self._wide is not None and not is_kept(key) and self._wide.fullmatch(key) is not None

    def __bool__(self) -> bool:
        return bool(self._exact) or self._wide is not None


def is_kept(key: str) -> bool:
    """Tell whether hygiene never touches a field of this name (lower case)."""
    return key in KEPT or key.startswith("content-")


def judge(case: Case, options: Options, policy: Policy, answers: Answers) -> Iterable[Finding]:
    found: list[Finding] = []
    if outbound := case.towards(Direction.OUTBOUND):
        recipients = case.only(outbound)
        found += _hygiene(case, options, policy, recipients)
        found += _edits(case, options.outbound, recipients)
    if not options.inbound.is_empty and (inbound := case.towards(Direction.INBOUND)):
        found += _edits(case, options.inbound, case.only(inbound))
    return found


def _hygiene(case: Case, options: Options, policy: Policy, recipients: tuple[Address, ...] | None) -> Iterator[Finding]:
    found: dict[str, list[int]] = {"trace": [], "software": [], "internal": []}
    replaced: list[Transform] = []
    fields = case.facts.fields
    for index, field in enumerate(fields):
        key = field.name.lower()
        fate = options.fates.get(key) or options.fate(key)
        if fate is Fate.CHECK:
            if options.values and policy.internal.shown_in(field.value):
                found["internal"].append(index)
        elif fate is Fate.REMOVE:
            found["software"].append(index)
        elif fate is Fate.TRACE:
            if _is_internal_trace(field, options, policy):
                found["trace"].append(index)
        elif fate is Fate.HIDE:
            value = _hidden_ids(field.value, policy)
            # A list of references that was cut as a fact cannot be written back.
            if value != field.value and (key == "message-id" or len(field.value) < MAX_VALUE):
                replaced.append(ReplaceField(index, value))
    for code, indexes in found.items():
        if indexes:
            detail = f"removed {REMOVED[code]}: {_names(fields, indexes)}"
            yield Finding(code, detail, transforms=(RemoveFields(tuple(indexes)),), recipients=recipients)
    if replaced:
        detail = "replaced a Message-ID of an internal host"
        yield Finding("message-id", detail, transforms=tuple(replaced), recipients=recipients)
    if not UNSEEN.isdisjoint(case.facts.defects):
        detail = "the header has more fields than are looked at"
        yield Finding("unseen", detail, action=Action.REJECT, category="protocol", recipients=recipients)


def _is_internal_trace(field: FieldFact, options: Options, policy: Policy) -> bool:
    """Tell whether a Received field was written inside: it names an internal host, or one of ours but us wrote it."""
    if options.received is not TraceFields.INTERNAL:
        return options.received is TraceFields.ALL
    if policy.internal.shown_in(field.value):
        return True
    writer = parse_received(field.value).by.lower().rstrip(".")
    if "." not in writer:
        return True
    return writer != policy.hostname and any(
        writer == domain or writer.endswith("." + domain) for domain in policy.own_domains
    )


def _hidden_ids(value: str, policy: Policy) -> str:
    """Return a value with the Message-IDs that name an internal host replaced, and without any line end."""
    value = _LINE_ENDS.sub(" ", value)
    if "<" not in value:
        return hidden_id(value, policy) if _is_internal_id(value, policy) else value
    return _ID.sub(lambda found: hidden_id(found[0], policy) if _is_internal_id(found[0], policy) else found[0], value)


def _is_internal_id(message_id: str, policy: Policy) -> bool:
    _, at, host = message_id.rstrip("> ").rpartition("@")
    # A name without a dot exists in our own network only.
    return bool(at) and ("." not in host or bool(policy.internal.shown_in(message_id)))


def hidden_id(message_id: str, policy: Policy) -> str:
    """Return the Message-ID under which a message with an internal one leaves: the same for the same one, always."""
    digest = hmac.digest(policy.hop_key, b"gatepost message-id " + message_id.encode("utf-8", "replace"), "sha256")
    return f"<{digest.hex()[:HASH_DIGITS]}@{policy.public_name}>"


def _edits(case: Case, edits: Edits, recipients: tuple[Address, ...] | None) -> Iterator[Finding]:
    fields = case.facts.fields
    removed: list[int] = []
    transforms: list[Transform] = []
    if edits.removed or edits.replaced:
        for index, field in enumerate(fields):
            key = field.name.lower()
            if edits.removed.hold(key) and not UNTOUCHABLE.fullmatch(key):
                removed.append(index)
            elif key in edits.replaced:
                transforms.append(ReplaceField(index, edits.replaced[key]))
    if removed:
        transforms.append(RemoveFields(tuple(removed)))
    transforms += [AddField(line.name, line.value) for line in edits.add]
    if transforms:
        yield Finding("edited", "edited as the policy says", transforms=tuple(transforms), recipients=recipients)


def _names(fields: tuple[FieldFact, ...], indexes: list[int]) -> str:
    names = list(dict.fromkeys(fields[index].name for index in indexes))
    return ", ".join(names[:MAX_NAMED]) + (" and more" if len(names) > MAX_NAMED else "")


FILTER = Filter(
    "header_hygiene",
    Kind.LEAK,
    Options(),
    asks_nothing,
    judge,
    codes=("trace", "software", "internal", "message-id", "edited", "unseen"),
    floor=("unseen",),
)
