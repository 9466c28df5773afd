"""The whole look at one message: structure in this process, files in the box, all of it into the facts.

The header's facts come first (`scan`): much mail is judged by them alone, and is looked into only for filters that ask.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from gateway.inspection.box.client import BoxAway
from gateway.inspection.facts import NOT_INSPECTED, Facts
from gateway.inspection.structure import Entity, structure
from gateway.inspection.task import Errand, Opened, Rendition


class Opens(Protocol):
    """The box, as far as this needs it."""

    async def open(self, raw: bytes, errand: Errand) -> Opened: ...


class NoBox:
    """Stands where there is no box: what should be looked into counts as not inspected."""

    async def open(self, raw: bytes, errand: Errand) -> Opened:
        raise BoxAway("there is no box in this process")


class Inspected(Struct, frozen=True):
    """Facts with files, links and text; where the parts lie; the texts with inert links."""

    facts: Facts
    entities: tuple[Entity, ...] = ()
    renditions: tuple[Rendition, ...] = ()


async def inspect(raw: bytes, facts: Facts, box: Opens, *, passwords: Sequence[str] = ()) -> Inspected:
    """Return what is known of the message after a look into all its files. Passwords are tried on what is locked."""
    found = structure(raw, facts.body_start, facts.fields)
    try:
        opened = await box.open(raw, Errand(found.tasks, tuple(passwords)))
    except BoxAway:
        opened = Opened(problems=(NOT_INSPECTED,))
    return Inspected(
        replace(
            facts,
            defects=(*facts.defects, *found.defects),
            parts=opened.parts,
            links=opened.links,
            text=opened.text,
            problems=opened.problems,
        ),
        found.entities,
        opened.renditions,
    )
