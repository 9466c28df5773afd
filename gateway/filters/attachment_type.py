"""Let in only the types of files that the operator allows, told by what a file holds, and by every name that it shows.

Reads the files that the box found, at any depth: each type that the octets may be must be allowed, each name must be
one that such a type may honestly have, and no name may hide what it is. Macros, locks and damage are other filters'
affair.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from gateway.filters import Filter, FilterOptions, asks_nothing
from gateway.inspection import file_names
from gateway.inspection.facts import Part
from gateway.inspection.media_types import DATA, EXTENSIONS, NAMED_TEXT, PLAIN, TYPES
from gateway.inspection.media_types import Kind as FileKind
from gateway.mail.address import Address
from gateway.mail.envelope import Direction
from gateway.policy.compile import Policy
from gateway.verdict import Action, Answers, Case, Finding, Kind

_Action = Literal[Action.REJECT, Action.QUARANTINE, Action.DELIVER]
MAX_FINDINGS = 200  # of one message: an archive of a thousand programs needs no thousand lines

# What runs, or mounts as a disk with whatever is on it, or is text that a browser runs.
NOT_BY_DEFAULT = (
    "application/x-iso9660-image",
    "application/x-udf-image",
    "application/x-vhd",
    "application/x-vhdx",
    "application/x-raw-disk-image",
    "application/x-ms-wim",
    "application/x-ace",
    "application/x-arj",
    "application/x-lzh-compressed",
    "application/x-zoo",
    "application/onenote",
    "image/svg+xml",
    "application/x-mspublisher",
    "application/vnd.ms-access",
)
# Names that lie about what the file is. The others of `file_names.ODDITIES` are clumsy more often than hostile.
LYING = frozenset({"bidi_override", "double_extension", "padded", "stream_name", "control"})


class Allowance(BaseModel):
    """Types that some recipients get besides. Whoever is listed gets them, in the directions that the filter judges."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipients: tuple[str, ...] = Field(
        title="Recipients", description="Addresses, or domains with an @ before them, e.g. @design.corp.example"
    )
    types: tuple[str, ...] = Field(title="Types or extensions", description="e.g. image/svg+xml or dwg")

    @field_validator("recipients", "types")
    @classmethod
    def _lower(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple([one.strip().lower() for one in values])


class Options(FilterOptions):
    directions: tuple[Direction, ...] = Field((Direction.INBOUND,), title="Mail")
    kinds: tuple[FileKind, ...] = Field(
        (FileKind.DOCUMENT, FileKind.IMAGE, FileKind.MEDIA, FileKind.TEXT, FileKind.ARCHIVE, FileKind.DATA),
        title="Allowed kinds",
        description="Programs and scripts are none of them by default",
    )
    denied: tuple[str, ...] = Field(
        NOT_BY_DEFAULT, title="Not these", description="Types or extensions of an allowed kind that are not allowed"
    )
    allowed: tuple[str, ...] = Field(
        (), title="These as well", description="Types or extensions that are allowed whatever their kind"
    )
    allowances: tuple[Allowance, ...] = Field((), title="For some recipients")
    action: Literal[Action.REJECT, Action.QUARANTINE] = Field(Action.REJECT, title="Types that are not allowed")
    unknown: _Action = Field(Action.QUARANTINE, title="Files of which nobody can tell what they are")
    mismatch: _Action = Field(
        Action.QUARANTINE, title="Names that do not fit", description="The name says one type, the content is another"
    )
    lying_names: _Action = Field(
        Action.REJECT, title="Names that lie", description="invoice.pdf.exe, turned writing, blanks before the end"
    )

    @field_validator("denied", "allowed")
    @classmethod
    def _lower(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple([one.strip().lower() for one in values])

    @cached_property
    def types_allowed(self) -> frozenset[str]:
        wanted = {one for one, kind in TYPES.items() if kind in self.kinds}
        return frozenset((wanted - set(self.denied)) | set(self.allowed))

    @cached_property
    def extensions_refused(self) -> frozenset[str]:
        """What systems do with a file goes by its name, whatever it holds."""
        running = {one for one, types in EXTENSIONS.items() if types[0] not in self.types_allowed}
        return frozenset((running | set(self.denied)) - set(self.allowed))


class _Objection(NamedTuple):
    code: str
    words: str
    action: Action
    types: tuple[str, ...]  # who is allowed all of these does not mind


def judge(case: Case, options: Options, policy: Policy, answers: Answers) -> Iterable[Finding]:
    if not case.facts.parts or not (concerned := case.among(options.directions)):
        return ()
    return _found(case, options, policy.document.about_attachments("attachment"), concerned)


def _found(case: Case, options: Options, category: str, concerned: tuple[Address, ...]) -> Iterator[Finding]:
    left = MAX_FINDINGS
    for part in case.facts.parts:
        for objection in _objections(part, options):
            minding = tuple([one for one in concerned if not _is_allowed(one, objection.types, options)])
            if minding and left:
                left -= 1
                yield Finding(
                    objection.code,
                    f"{part.shown} {objection.words}",
                    action=objection.action,
                    part=part.path,
                    category=category,
                    recipients=case.only(minding),
                )


def _objections(part: Part, options: Options) -> Iterator[_Objection]:
    if not part.is_attachment and set(part.found_types) <= {PLAIN, "text/html"}:
        return  # the letter itself
    not_allowed = [one for one in part.found_types if one != DATA and one not in options.types_allowed]
    if not_allowed:
        yield _Objection("type", f"is {', '.join(not_allowed)}", options.action, tuple(not_allowed))
    if part.size and part.found_types in ((), (DATA,)) and not part.lock:
        yield _Objection("unknown", "is of no known type", options.unknown, (DATA,))
    for name in part.names:
        yield from _objections_to_name(name, part, options)
    for declared in part.declared_types:
        if declared in TYPES and declared not in part.found_types and declared not in options.types_allowed:
            yield _Objection("declared", f"says that it is {declared}", options.action, (declared,))


def _objections_to_name(name: str, part: Part, options: Options) -> Iterator[_Objection]:
    lies = sorted(LYING.intersection(file_names.oddities(name)))
    ends = file_names.extensions(name)
    last = ends[0] if ends else ""
    if lies:
        words = f"has a name that hides what it is ({', '.join(one.replace('_', ' ') for one in lies)})"
        yield _Objection("lying-name", words, options.lying_names, (last,))
    if last in options.extensions_refused:
        yield _Objection("name", f"has the extension .{last}", options.action, (last, *EXTENSIONS.get(last, ())[:1]))
    elif last in EXTENSIONS and part.found_types and not _fits(last, part.found_types):
        words = f"is {part.found_types[0]}, which its name .{last} does not say"
        yield _Objection("mismatch", words, options.mismatch, part.found_types)


def _fits(extension: str, found_types: tuple[str, ...]) -> bool:
    """Whether a file of such a type may honestly be so named. Text may be named anything that is text itself."""
    possible = EXTENSIONS[extension]
    if not set(possible).isdisjoint(found_types):
        return True
    is_text = possible[0] in NAMED_TEXT or TYPES[possible[0]] in (FileKind.TEXT, FileKind.DATA)
    return PLAIN in found_types and is_text


def _is_allowed(recipient: Address, types: tuple[str, ...], options: Options) -> bool:
    address, domain = str(recipient).lower(), f"@{recipient.ascii_domain}"
    granted = {
        one
        for allowance in options.allowances
        if address in allowance.recipients or domain in allowance.recipients
        for one in allowance.types
    }
    return bool(granted) and any(one in granted for one in types if one)


FILTER = Filter(
    "attachment_type",
    Kind.ATTACHMENT,
    Options(),
    asks_nothing,
    judge,
    codes=("type", "unknown", "name", "declared", "mismatch", "lying-name"),
    inspects=True,
)
