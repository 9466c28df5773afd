"""Fields of the files that come with a message, at any depth. Values of several files are asked about together."""

from collections.abc import Iterable, Iterator

from gateway.inspection.facts import Lock, Macro, Part
from gateway.policy.rules.fields import Registry, Type, Values
from gateway.policy.rules.view import View

GROUP = Registry("files")
# Worst last, so that a rule may ask for one and worse.
GRADES = tuple(grade for grade in Macro if grade is not Macro.NONE)


def _files(view: View) -> Iterator[Part]:
    return (part for part in view.case.facts.parts if part.is_attachment)


@GROUP.field("file.name", Type.TEXT)
def file_name(view: View, name: str) -> Values:
    """The names of attached files and of files within them, in every reading."""
    return _each(part.names for part in _files(view))


@GROUP.field("file.extension", Type.TEXT)
def extension(view: View, name: str) -> Values:
    """What follows the last dot of the names, without it: exe. Dots and blanks at a name's end do not count."""
    return _each([extension_of(one)] for part in _files(view) for one in part.names)


@GROUP.field("file.found_type", Type.TEXT)
def found_type(view: View, name: str) -> Values:
    """What the files are by their contents, whatever they are called; several for a file that is two things at once."""
    return _each(part.found_types for part in _files(view))


@GROUP.field("file.declared_type", Type.TEXT)
def declared_type(view: View, name: str) -> Values:
    """What the message says that the files are: application/pdf."""
    return _each(part.declared_types for part in _files(view))


@GROUP.field("file.size", Type.NUMBER)
def file_size(view: View, name: str) -> Values:
    """The files' sizes in octets, decoded and unpacked."""
    return [part.size for part in _files(view)]


@GROUP.field("file.sha256", Type.TEXT)
def sha256(view: View, name: str) -> Values:
    """The files' SHA-256 in hexadecimal; a file that could not be opened has none."""
    return [part.sha256 for part in _files(view) if part.sha256]


@GROUP.field("file.count", Type.NUMBER)
def file_count(view: View, name: str) -> Values:
    """How many files are attached, without those that lie within others."""
    return (sum(1 for part in _files(view) if not part.depth),)


@GROUP.field("file.lock", Type.CODE, choices=[lock for lock in Lock if lock is not Lock.NONE])
def lock(view: View, name: str) -> Values:
    """Files that are encrypted: opened with a password that we know, or locked."""
    return [part.lock for part in _files(view) if part.lock is not Lock.NONE]


@GROUP.field("file.depth", Type.NUMBER)
def depth(view: View, name: str) -> Values:
    """How many files each file lies within: 0 for an attachment."""
    return [part.depth for part in _files(view)]


@GROUP.field("file.in_archive", Type.FLAG)
def in_archive(view: View, name: str) -> Values:
    """Whether a file lies within another one."""
    return (any(part.depth for part in _files(view)),)


@GROUP.field("file.macro", Type.CODE, choices=GRADES)
def macro(view: View, name: str) -> Values:
    """The grades of the macros in the files; an auto_run one is also present, a suspicious one is also both."""
    return _each(_up_to(part.macro) for part in view.case.facts.parts)


@GROUP.field("file.active", Type.TEXT)
def active(view: View, name: str) -> Values:
    """What files do by themselves: script, launch, embedded_object, remote_content and others. Also of the text."""
    return _each(part.active for part in view.case.facts.parts)


@GROUP.field("file.problems", Type.TEXT)
def problems(view: View, name: str) -> Values:
    """Why files could not be seen whole, or what is odd about them: damaged, too_deep, ratio and others."""
    return _each(part.problems for part in view.case.facts.parts)


def extension_of(name: str) -> str:
    """Return the extension in lower case, "" without one. Windows drops dots and blanks at the end of a name."""
    last = name.replace("\\", "/").rpartition("/")[2].rstrip(". ")
    return last.rpartition(".")[2].lower() if "." in last else ""


def _up_to(grade: Macro) -> tuple[Macro, ...]:
    return GRADES[: GRADES.index(grade) + 1] if grade in GRADES else ()


def _each(groups: Iterable[Iterable[str]]) -> list[str]:
    return [one for group in groups for one in group if one]
