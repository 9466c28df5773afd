"""One attachment through the walk, as the box's child does it."""

from gateway.inspection.facts import Part
from gateway.inspection.look import Walk
from gateway.inspection.task import Bounds, Errand, Task


def walked(
    data: bytes, name: str = "a.bin", *, passwords: tuple[str, ...] = (), bounds: Bounds | None = None
) -> list[Part]:
    """Open one attached file; return it and all that lies within."""
    task = Task("1", 0, len(data), ("8bit",), names=(name,), is_attachment=True)
    errand = Errand((task,), passwords, bounds or Bounds())
    return list(Walk(errand).run(data, errand.tasks).parts)


def names(parts: list[Part]) -> list[str]:
    """Return the first name of every file within, as the walk met them."""
    return [part.names[0] if part.names else "" for part in parts[1:]]
