"""What crosses the socket between a worker and a child of the box.

A request is a head, the errand as MessagePack and the octets of the message; an answer is a head and an `Opened`. The
child may be in an attacker's hands: its answer is bounded, decoded strictly and held against what was asked.
"""

import re
import struct
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.inspection.facts import Link, Part
from gateway.inspection.look import ACTIVE, PROBLEMS
from gateway.inspection.task import Bounds, Errand, Opened, Rendition, Task

REQUEST_HEAD = struct.Struct("<IQ")  # octets of the errand, of the message
ANSWER_HEAD = struct.Struct("<IB")  # octets of the answer, and whether the child wants to be replaced
MAX_ANSWER_BYTES = 8 << 20
# Decoding makes no more than so many of each, whatever the bounds of the errand; then those count.
MOST_PARTS = 50_000
MOST_LINKS = 50_000
SHA256 = re.compile(r"(?:[0-9a-f]{64})?\Z")
WITHIN = re.compile(r"(?:/[1-9][0-9]{0,5})*\Z")  # what follows a task's path in that of a file within its part
KNOWN_ACTIVE = frozenset(ACTIVE)
KNOWN_PROBLEMS = frozenset(PROBLEMS)


class BadAnswer(Exception):
    """What a child answered is none, or not to what it was asked."""


class _Answer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """`Opened` as it is decoded: lengths are looked at before anything is made of them."""

    parts: Annotated[tuple[Part, ...], Meta(max_length=MOST_PARTS)]
    links: Annotated[tuple[Link, ...], Meta(max_length=MOST_LINKS)]
    text: str
    renditions: Annotated[tuple[Rendition, ...], Meta(max_length=MOST_PARTS)]
    problems: Annotated[tuple[str, ...], Meta(max_length=len(PROBLEMS))]


_encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
_errand: Callable[[bytes | memoryview], Errand] = msgspec.msgpack.Decoder(Errand).decode
_answer: Callable[[bytes | memoryview], _Answer] = msgspec.msgpack.Decoder(_Answer).decode


def request_head(errand: Errand, size: int) -> bytes:
    """Return what goes before the `size` octets of the message."""
    asked = _encode(errand)
    return REQUEST_HEAD.pack(len(asked), size) + asked


def read_errand(encoded: bytes | memoryview) -> Errand:
    return _errand(encoded)


def answer(opened: Opened, *, is_last: bool) -> bytes:
    """Return the child's answer, whole. What is too large loses its texts and links, and says so."""
    encoded = _encoded(opened)
    if len(encoded) > MAX_ANSWER_BYTES:
        encoded = _encoded(Opened(opened.parts, problems=(*opened.problems, "too_much")))
    return ANSWER_HEAD.pack(len(encoded), is_last) + encoded


def _encoded(opened: Opened) -> bytes:
    try:
        return _encode(opened)
    except UnicodeEncodeError:
        return _encode(_without_surrogates(msgspec.to_builtins(opened)))


def _without_surrogates(value: Any) -> Any:
    """Names that could not be decoded hold lone surrogates (PEP 383), which UTF-8 has no place for."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in value]
    return value


def read_answer(encoded: bytes | memoryview, errand: Errand) -> Opened:
    """Return the answer to `errand`. Raises BadAnswer when it is none: the child is not to be used again."""
    try:
        got = _answer(encoded)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer(str(error)) from error
    asked = {task.path for task in errand.tasks}
    _check_bounds(got, errand.bounds)
    for part in got.parts:
        _check_part(part, asked)
    for link in got.links:
        _check_path(link.part, asked)
    if not asked.issuperset(rendition.path for rendition in got.renditions):
        raise BadAnswer("a rendition of something else")
    if not KNOWN_PROBLEMS.issuperset(got.problems):
        raise BadAnswer("an unknown problem")
    return _with_missing(Opened(got.parts, got.links, got.text, got.renditions, got.problems), errand)


def _check_bounds(got: _Answer, bounds: Bounds) -> None:
    most_chars = 2 * bounds.text_chars  # a line end after each text that was kept, even if it is one character
    if len(got.parts) > bounds.files or len(got.links) > bounds.links or len(got.text) > most_chars:
        raise BadAnswer("more than was asked for")


def _check_part(part: Part, asked: set[str]) -> None:
    _check_path(part.path, asked)
    if not KNOWN_ACTIVE.issuperset(part.active) or not KNOWN_PROBLEMS.issuperset(part.problems):
        raise BadAnswer("an unknown code")
    if part.size < 0 or not SHA256.match(part.sha256):
        raise BadAnswer("a size or a hash that is none")


def _check_path(path: str, asked: set[str]) -> None:
    if path in asked:
        return
    leaf, slash, rest = path.partition("/")
    if leaf not in asked or not WITHIN.match(slash + rest):
        raise BadAnswer("a part of something else")


def _with_missing(opened: Opened, errand: Errand) -> Opened:
    """Add the tasks that a limit left without a part: not opened is never clean."""
    seen = {part.path for part in opened.parts}
    missing = [task for task in errand.tasks if task.path not in seen]
    if not missing:
        return opened
    if not opened.problems:
        raise BadAnswer("a task without an answer")
    return msgspec.structs.replace(
        opened, parts=(*opened.parts, *(unopened(task, opened.problems[0]) for task in missing))
    )


def unopened(task: Task, problem: str) -> Part:
    """Return the part of a task that was not opened to its end."""
    return Part(
        task.path,
        declared_types=task.declared_types,
        names=task.names,
        problems=(problem,),
        is_attachment=task.is_attachment,
    )
