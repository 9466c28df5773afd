"""Where the parts of a multipart lie, for each way in which readers find its delimiters (RFC 2046 section 5.1)."""

import re

from msgspec import Struct

MAX_DELIMITERS = 2000  # of one multipart

_TAIL = re.compile(rb"(--)?[ \t]*+(?:\r?\n|\Z)")


class Delimiter(Struct, frozen=True):
    """One occurrence of a boundary with its two hyphens. `start` to `end` is all that belongs to no part: from the line
    end before it to after its own line."""

    start: int
    end: int
    is_close: bool
    is_exact: bool  # nothing but blanks after it
    is_line: bool  # it begins a line


class Cut(Struct, frozen=True):
    """A multipart as one kind of reader sees it. Spans are of whole parts, from their headers on."""

    preamble: tuple[int, int]
    parts: tuple[tuple[int, int], ...]
    epilogue: tuple[int, int]
    is_closed: bool
    is_strict: bool  # all of its delimiters are lines of their own
    delimiters: tuple[tuple[int, int], ...]


def find_delimiters(raw: bytes, boundary: bytes, start: int, end: int) -> tuple[list[Delimiter], bool]:
    """Return the delimiters between `start` and `end`, and whether there are more than are listed."""
    needle = b"--" + boundary
    found: list[Delimiter] = []
    at = raw.find(needle, start, end)
    while at >= 0:
        if len(found) >= MAX_DELIMITERS:
            return found, True
        after = at + len(needle)
        is_line = at == start or raw[at - 1] == 0x0A
        tail = _TAIL.match(raw, after, end)
        if tail is not None:
            line_end, is_close = tail.end(), tail[1] is not None
        else:
            line_end = raw.find(b"\n", after, end) + 1 or end
            is_close = raw.startswith(b"--", after, end)
        before = _before_line_end(raw, start, at) if is_line else at
        found.append(Delimiter(before, line_end, is_close, tail is not None, is_line))
        at = raw.find(needle, line_end, end)
    return found, False


def _before_line_end(raw: bytes, start: int, at: int) -> int:
    # RFC 2046 section 5.1.1: the line end before a delimiter belongs to it, not to the part.
    if at - 1 >= start and raw[at - 1] == 0x0A:
        return at - 2 if at - 2 >= start and raw[at - 2] == 0x0D else at - 1
    return at


def strict_cut(delimiters: list[Delimiter], start: int, end: int) -> Cut | None:
    """Cut at whole lines up to the first closing one, as the standard has it. None without any delimiter."""
    return _cut([one for one in delimiters if one.is_exact and one.is_line], start, end, stops=True)


def other_cuts(delimiters: list[Delimiter], start: int, end: int) -> list[Cut]:
    """Cut as lenient readers do: on past the close, at lines that only begin with a boundary, at any occurrence."""
    lines = [one for one in delimiters if one.is_line]
    exact = [one for one in lines if one.is_exact]
    chosen = [
        (exact, False),
        (lines, True),  # RFC 2046 section 5.1.1: it is enough that a line begins with the boundary
        (lines, False),
        (delimiters, True),
        (delimiters, False),
    ]
    seen = {_spans(exact, stops=True)}
    cuts: list[Cut] = []
    for some, stops in chosen:
        key = _spans(some, stops=stops)
        if key not in seen:
            seen.add(key)
            cut = _cut(some, start, end, stops=stops)
            if cut is not None:
                cuts.append(cut)
    return cuts


def _spans(delimiters: list[Delimiter], *, stops: bool) -> tuple[int, ...]:
    starts: list[int] = []
    for one in delimiters:
        starts.append(one.start)
        if stops and one.is_close:
            break
    return tuple(starts)


def _cut(delimiters: list[Delimiter], start: int, end: int, *, stops: bool) -> Cut | None:
    if not delimiters:
        return None
    parts: list[tuple[int, int]] = []
    used: list[tuple[int, int]] = []
    part_start = -1
    is_closed = False
    for one in delimiters:
        used.append((one.start, one.end))
        if part_start >= 0:
            parts.append((part_start, max(part_start, one.start)))
        part_start = one.end
        is_closed = one.is_close
        if is_closed and stops:
            break
    if not is_closed:
        parts.append((part_start, end))
    epilogue = (part_start, end) if is_closed else (end, end)
    is_strict = all(one.is_line and one.is_exact for one in delimiters)
    return Cut((start, max(start, used[0][0])), tuple(parts), epilogue, is_closed, is_strict, tuple(used))
