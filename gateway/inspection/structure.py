"""The MIME structure of a message as every plausible reader sees it: spans into its octets, no copies (RFC 2046).

First the message is cut as the standard has it. Where another reader would cut it otherwise, or describe a part
otherwise, that reading is walked too, after the first; the leaves of all readings are returned, and a code tells that
readers differ. Nothing is decoded here. Time is linear in the message's length: parts, depth and the octets that are
looked at are limited, and what lies beyond a limit is a leaf itself, with a code.

Paths: "1" is a message without parts, "1", "2" the parts of a multipart, "2.1" those of the second; "2.0" is what
stands before its first part. What stands after the last one, and the parts in other readings, follow in number.
"""

import re
from collections import deque
from collections.abc import Iterable, Sequence

from msgspec import Struct

from gateway.inspection import embedded
from gateway.inspection.delimiters import Cut, find_delimiters, other_cuts, strict_cut
from gateway.inspection.facts import FieldFact
from gateway.inspection.part_header import IDENTITY, Header, find_header, read_header, unfolded
from gateway.inspection.task import Task

MAX_DEPTH = 20
MAX_ENTITIES = 1000  # multiparts and leaves, in all readings
MAX_TASKS = 500
MAX_PASSES = 30  # times that each octet may be looked at, on an average
MAX_COPIES = 10  # times that each octet may lie in a leaf, on an average
FREE_OCTETS = 256 * 1024  # looked at whatever the message's length
HARMLESS_MARGIN = 240  # octets of prose before or after parts that are nobody's leaf
MAX_LATE = 1 << 20  # octets of a header after the listed fields that are searched
LONG_FIELD = 4000  # octets; a longer one may be cut in the facts
MAX_REPEATS = 16  # fields of one name beyond the listed ones

DEFECTS = (
    "repeated_field",  # a MIME field stands twice in one part
    "ambiguous_type",  # a content type that has several readings, or none
    "ambiguous_boundary",
    "ambiguous_name",  # fields or readings name the file differently
    "ambiguous_encoding",
    "odd_encoding",  # a transfer encoding that is none as it is written
    "long_boundary",  # RFC 2046 section 5.1.1 allows 70 characters
    "long_name",
    "header_cut",  # a part's header is longer than is read
    "no_blank_line",  # a line that is no field stands in a part's header
    "line_of_blanks",  # in a part's header: some readers begin the body there
    "no_boundary",  # a multipart that names none, or an empty one
    "no_delimiter",  # a multipart whose boundary is not found
    "no_close",  # its closing delimiter is not found
    "prefix_boundary",  # a line begins with a boundary and goes on
    "inline_delimiter",  # a boundary within a line
    "early_close",  # delimiters after the closing one
    "unexpected_boundary",  # of a type that has no parts, and yet there are delimiters
    "preamble",  # more than a few words before the first part
    "epilogue",
    "hidden_parts",  # what looks like MIME parts in a text
    "undeclared_base64",
    "uuencode",
    "yenc",
    "binhex",
    "encoded_multipart",  # RFC 2045 section 6.4 forbids base64 and quoted-printable there
    "encoded_message",
    "no_message",  # an attached message that has no header
    "partial_message",  # RFC 2046 section 5.2.2: the rest is in other messages
    "external_body",  # RFC 2046 section 5.2.3: the content is elsewhere
    "too_deep",
    "too_many_parts",
    "too_complex",  # the octets that may be looked at were used up
)
MESSAGES = frozenset({"message/rfc822", "message/global", "message/news"})
FRAGMENTS = frozenset({"message/partial", "message/external-body"})  # walked into, and leaves as well
BLOCK_DEFECTS = {"x-uuencode": "uuencode", "x-yenc": "yenc", "x-binhex40": "binhex"}
MIME_FIELDS = frozenset({"content-type", "content-disposition", "content-transfer-encoding"})

_BLANKS_LINE = re.compile(rb"\n[ \t]++\r?\n")
_LATE_FIELD = re.compile(
    r"(?:\A|(?<=\n))(content-(?:type|disposition|transfer-encoding))[ \t]*+:([^\n]*+(?>(?:\n[ \t][^\n]*+){0,1000}))",
    re.IGNORECASE,
)
_MESSAGE_START = re.compile(rb"\s{0,20}+(?:>?From [^\n]{0,998}+\n)?[!-9;-~]{1,80}+[ \t]*+:")
_UNBROKEN = re.compile(rb"\S{40}|://|(?i:begin |content-)")
_BLANK = re.compile(rb"\s*+")
_MESSAGE_NAME = re.compile(r"[^.]*+|.*\.(?:eml|msg|mht|mhtml|txt)", re.IGNORECASE | re.DOTALL)


class Entity(Struct, frozen=True, array_like=True):
    """A part: its header lies from `start` to `body_start`, its body to `end`; all delimiters are outside.

    `parent` is the place of the part that it lies in among the entities, -1 for the message. `delimiters` are those of
    a multipart that was cut, each from the line end before it to after its own. `is_certain`: cut so by the standard.
    """

    path: str
    parent: int
    start: int
    body_start: int
    end: int
    kinds: tuple[str, ...]
    is_certain: bool = True
    delimiters: tuple[tuple[int, int], ...] = ()


class Structure(Struct, frozen=True):
    """The leaves for the box, all parts in the order in which they were met, and closed codes (`DEFECTS`)."""

    tasks: tuple[Task, ...]
    entities: tuple[Entity, ...]
    defects: tuple[str, ...] = ()


class _Place(Struct, frozen=True):
    """Where a part stands. `is_message`: it is a whole message, and a leaf there has a number of its own."""

    path: str
    parent: int
    depth: int
    default: str = "text/plain"
    is_message: bool = False
    is_certain: bool = True


def structure(raw: bytes, body_start: int, fields: Sequence[FieldFact]) -> Structure:
    """Return the structure of a message whose header was scanned (`scan.scan`). Never raises."""
    mime: list[tuple[str, str]] = []
    stray = -1
    for field in fields:
        name = field.name
        if name[:1] in "Cc":  # also without a name: lines that are no field
            key = name.lower()
            if key in MIME_FIELDS:
                is_long = field.end - field.start > LONG_FIELD
                mime.append((key, _whole(raw, field) if is_long else field.value))
            elif not name and stray < 0 and not raw.startswith((b"From ", b">From "), field.start):
                stray = field.start
    starts = [body_start]
    defects: list[str] = []
    if fields and fields[-1].end < body_start - 2:
        mime += _late_fields(raw, fields[-1].end, body_start)
    if stray >= 0:
        starts.insert(0, stray)
        if stray:
            defects.append("no_blank_line")
    if raw.find(b" \r\n", 0, body_start) >= 0 or raw.find(b"\t\r\n", 0, body_start) >= 0:
        blanks = _BLANKS_LINE.search(raw, 0, body_start)
        if blanks is not None:
            starts.append(blanks.end())
            defects.append("line_of_blanks")
    walk = _Walk(raw, defects)
    walk.body(_Place("", -1, 0, is_message=True), 0, tuple(starts), len(raw), read_header(mime))
    return walk.result()


def structure_of(raw: bytes) -> Structure:
    """Return the structure of a message whose header was not scanned. Line ends are CRLF or LF."""
    walk = _Walk(raw, [])
    walk.part(_Place("", -1, 0, is_message=True), 0, len(raw))
    return walk.result()


def _whole(raw: bytes, field: FieldFact) -> str:
    return unfolded(raw[field.start + len(field.name) : field.end].decode("latin-1").lstrip(" \t").removeprefix(":"))


def _late_fields(raw: bytes, start: int, body_start: int) -> list[tuple[str, str]]:
    """Return MIME fields that stand in the header after all that are listed, the first ones and the last ones."""
    text = raw[start : min(body_start, start + MAX_LATE)].decode("latin-1")
    found = [(name.lower(), unfolded(value)) for name, value in _LATE_FIELD.findall(text)]
    return found if len(found) <= 2 * MAX_REPEATS else found[:MAX_REPEATS] + found[-MAX_REPEATS:]


class _Walk:
    def __init__(self, raw: bytes, defects: Iterable[str]) -> None:
        self.raw = raw
        self.tasks: list[Task] = []
        self.entities: list[Entity] = []
        self.defects: dict[str, None] = dict.fromkeys(defects)
        self._later: deque[tuple[_Place, Cut]] = deque()  # other readings, once the first is done
        self._seen: set[tuple[int, int, str]] = set()
        self._leaves: set[tuple[int, int, tuple[str, ...], tuple[str, ...]]] = set()
        self._numbers: dict[str, int] = {}
        self._looks_left = MAX_PASSES * len(raw) + FREE_OCTETS
        self._copies_left = MAX_COPIES * len(raw) + FREE_OCTETS

    def result(self) -> Structure:
        while self._later:
            place, cut = self._later.popleft()
            self._children(place, cut)
        return Structure(tuple(self.tasks), tuple(self.entities), tuple(self.defects))

    def _may_look(self, octets: int) -> bool:
        self._looks_left -= octets
        if self._looks_left < 0:
            self.defects["too_complex"] = None
            return False
        return True

    def _next(self, path: str) -> str:
        number = self._numbers[path] = self._numbers.get(path, 0) + 1
        return f"{path}.{number}" if path else str(number)

    # --- A part -------------------------------------------------------------------------------------------------------

    def part(self, place: _Place, start: int, end: int) -> None:
        """Walk the part, header and body, from `start` to `end`, unless it was walked already."""
        key = (start, end, place.default)
        if key in self._seen:
            return
        self._seen.add(key)
        span = find_header(self.raw, start, end)
        self._may_look(span.body_starts[-1] - start)
        self.defects.update(dict.fromkeys(span.defects))
        self.body(place, start, span.body_starts, end, read_header(span.fields))

    def body(self, place: _Place, start: int, body_starts: tuple[int, ...], end: int, header: Header) -> None:
        """Walk a part that is described by `header`; readers begin its body at one of `body_starts`."""
        if len(self.entities) >= MAX_ENTITIES:
            self.defects["too_many_parts"] = None
            return
        if header.defects:
            self.defects.update(dict.fromkeys(header.defects))
        kinds = header.kinds or (place.default,)
        index = len(self.entities)
        self.entities.append(Entity(place.path, place.parent, start, body_starts[0], end, kinds, place.is_certain))
        is_walked = False
        is_headless = start in body_starts  # to some readers: then all of it is text to them
        within = min(body_starts[1:], default=start) if is_headless else min(body_starts)
        if header.is_multipart or header.boundaries:
            is_walked = self._multipart(place, index, within, end, header)
        elif kinds[0].startswith("message/") or len(kinds) > 1:
            is_walked = self._message(place, index, within, end, header, kinds)
        if not is_walked or is_headless:
            self._leaf(place, index, body_starts, end, header, kinds)

    # --- Multiparts ---------------------------------------------------------------------------------------------------

    def _multipart(self, place: _Place, index: int, start: int, end: int, header: Header) -> bool:
        """Cut a multipart by each of its boundaries. Returns whether that is all that readers could make of it."""
        if place.depth >= MAX_DEPTH:
            self.defects["too_deep"] = None
            return False
        boundaries = _boundaries(header.boundaries)
        if b"" in boundaries or not boundaries:
            self.defects["no_boundary"] = None
        cuts: list[Cut] = []
        for boundary in boundaries:
            cuts += self._cuts(boundary, start, end, is_expected=header.is_multipart)
        if not cuts:
            if boundaries and header.is_multipart:
                self.defects["no_delimiter"] = None
            return False
        self._walk_cuts(place, index, cuts, header)
        if not header.is_multipart:
            self.defects["unexpected_boundary"] = None
        is_encoded = not IDENTITY.issuperset(header.encodings)
        if is_encoded:
            self.defects["encoded_multipart"] = None
        if not cuts[0].parts:
            self.defects["no_delimiter"] = None  # none but closing ones
        # Where the header is odd there are readers that find no boundary in it, and show the whole.
        is_sure = cuts[0].is_strict and bool(cuts[0].parts) and not is_encoded and not header.is_odd
        return is_sure and all(kind.startswith("multipart/") for kind in header.kinds)

    def _cuts(self, boundary: bytes, start: int, end: int, *, is_expected: bool = True) -> list[Cut]:
        """Return the ways to cut a multipart, the standard's first."""
        if not self._may_look(end - start):
            return []
        delimiters, are_more = find_delimiters(self.raw, boundary, start, end)
        if are_more:
            self.defects["too_many_parts"] = None
        strict = strict_cut(delimiters, start, end)
        others = other_cuts(delimiters, start, end) if delimiters else []
        if is_expected and strict is not None and not strict.is_closed:
            self.defects["no_close"] = None
        for one in delimiters if others else ():
            if not one.is_line:
                self.defects["inline_delimiter"] = None
            elif not one.is_exact:
                self.defects["prefix_boundary"] = None
            elif strict is not None and strict.is_closed and one.start >= strict.epilogue[0]:
                self.defects["early_close"] = None
        return others if strict is None else [strict, *others]

    def _walk_cuts(self, place: _Place, index: int, cuts: list[Cut], header: Header) -> None:
        default = "message/rfc822" if "multipart/digest" in header.kinds else "text/plain"
        entity = self.entities[index]
        self.entities[index] = Entity(
            entity.path,
            entity.parent,
            entity.start,
            entity.body_start,
            entity.end,
            entity.kinds,
            entity.is_certain,
            cuts[0].delimiters,
        )
        within = _Place(place.path, index, place.depth + 1, default, is_certain=place.is_certain)
        self._children(within, cuts[0])
        other = _Place(place.path, index, place.depth + 1, default, is_certain=False)
        self._later.extend((other, cut) for cut in cuts[1:])

    def _children(self, within: _Place, cut: Cut) -> None:
        """Walk the parts of one reading. `within` is the place of the multipart, seen from its parts."""
        path, default, is_certain = within.path, within.default, within.is_certain
        self._margin("preamble", f"{path}.0" if path else "0", within, cut.preamble)
        for start, end in cut.parts:
            if len(self.entities) >= MAX_ENTITIES or len(self.tasks) >= MAX_TASKS:
                self.defects["too_many_parts"] = None
                self._rest(within, start, cut.parts[-1][1])
                break
            if (start, end, default) not in self._seen:
                self.part(_Place(self._next(path), within.parent, within.depth, default, False, is_certain), start, end)
        if cut.epilogue[0] < cut.epilogue[1]:
            self._margin("epilogue", "", within, cut.epilogue)

    def _margin(self, code: str, path: str, within: _Place, span: tuple[int, int]) -> None:
        """Take what stands before or after the parts for a part of its own, unless it is blank or a few words."""
        start, end = span
        if start >= end:
            return
        blank = _BLANK.match(self.raw, start, end)
        start = blank.end() if blank is not None else start
        if start >= end or (end - start <= HARMLESS_MARGIN and not _UNBROKEN.search(self.raw, start, end)):
            return
        self.defects[code] = None
        if (start, end, "text/plain") not in self._seen:
            place = _Place(path or self._next(within.path), within.parent, within.depth, is_certain=within.is_certain)
            self.part(place, start, end)

    def _rest(self, within: _Place, start: int, end: int) -> None:
        """Keep what lies beyond a limit as one leaf."""
        if len(self.tasks) <= MAX_TASKS and (start, end, "") not in self._seen:
            self._seen.add((start, end, ""))
            self._add(Task(self._next(within.path), start, end, ("7bit", "base64"), is_attachment=True))

    # --- Messages -----------------------------------------------------------------------------------------------------

    def _message(self, place: _Place, index: int, start: int, end: int, header: Header, kinds: tuple[str, ...]) -> bool:
        """Walk into an attached message. Returns whether that is all that readers could make of it."""
        if "message/partial" in kinds:
            self.defects["partial_message"] = None
        if "message/external-body" in kinds:
            self.defects["external_body"] = None
        if MESSAGES.isdisjoint(kinds) and FRAGMENTS.isdisjoint(kinds):
            return False
        is_plain = IDENTITY.issuperset(header.encodings)
        if not is_plain:
            self.defects["encoded_message"] = None
        if IDENTITY.isdisjoint(header.encodings):
            return False
        if not _MESSAGE_START.match(self.raw, start, end):
            self.defects["no_message"] = None
            return False
        if place.depth >= MAX_DEPTH:
            self.defects["too_deep"] = None
            return False
        path = place.path or self._next("")
        self.part(
            _Place(path, index, place.depth + 1, is_message=True, is_certain=place.is_certain),
            _after_from(self.raw, start, end),
            end,
        )
        return is_plain and MESSAGES.issuperset(kinds) and all(map(_MESSAGE_NAME.fullmatch, header.names))

    # --- Leaves -------------------------------------------------------------------------------------------------------

    def _leaf(
        self, place: _Place, index: int, body_starts: tuple[int, ...], end: int, header: Header, kinds: tuple[str, ...]
    ) -> None:
        path = self._next(place.path) if place.is_message else place.path
        if place.is_message:
            entity = self.entities[index]
            if not entity.delimiters and not place.path:
                self.entities[index] = Entity(
                    path, entity.parent, entity.start, entity.body_start, end, kinds, entity.is_certain
                )
        encodings = header.encodings
        start = min(body_starts)
        is_seen = (start, end, kinds, encodings) in self._leaves
        looks = not is_seen and self._may_look(end - start)
        is_text = encodings[0] in IDENTITY and "base64" not in encodings
        if looks and is_text and embedded.has_base64(self.raw, start, end):
            self.defects["undeclared_base64"] = None
            encodings = (*encodings, "base64")
        for one in dict.fromkeys(body_starts):
            if (one, end, kinds, header.encodings) not in self._leaves:
                self._leaves.add((one, end, kinds, header.encodings))
                self._add(Task(path, one, end, encodings, kinds, header.charsets, header.names, header.is_attachment))
        if looks:
            self._look_into(place, index, path, start, end)

    def _add(self, task: Task) -> None:
        self._copies_left -= task.end - task.start
        if len(self.tasks) > MAX_TASKS:  # one more than the limit: the rest beyond it
            self.defects["too_many_parts"] = None
        elif self._copies_left < 0:
            self.defects["too_complex"] = None
        else:
            self.tasks.append(task)

    def _look_into(self, place: _Place, index: int, path: str, start: int, end: int) -> None:
        """Find what stands in a leaf for readers that search: encoded files, and parts that nothing declares."""
        for block in embedded.find_blocks(self.raw, start, end):
            self.defects[BLOCK_DEFECTS[block.encoding]] = None
            key = (block.start, block.end, (), (block.encoding,))
            if key not in self._leaves:
                self._leaves.add(key)
                names = (block.name,) if block.name else ()
                encodings = (block.encoding,)
                self._add(Task(self._next(path), block.start, block.end, encodings, (), (), names, is_attachment=True))
        if self.entities[index].delimiters:
            return  # a multipart that is a leaf as well: its parts were found
        boundary = embedded.hidden_boundary(self.raw, start, end)
        if boundary and place.depth < MAX_DEPTH:
            self.defects["hidden_parts"] = None
            hidden = _Place(path, index, place.depth + 1, is_certain=False)
            candidates = dict.fromkeys((boundary, boundary.removesuffix(b"--")))
            self._later.extend((hidden, cut) for one in candidates if one for cut in self._cuts(one, start, end))


def _boundaries(readings: tuple[str, ...]) -> list[bytes]:
    """Return the octets of the boundaries: with and without blanks at their ends, and in both likely charsets."""
    found: dict[bytes, None] = {}
    for reading in readings:
        for text in (reading, reading.rstrip(" \t")):
            found[text.encode("utf-8", "replace")] = None
            if not text.isascii():
                found[text.encode("latin-1", "replace")] = None
    return list(found)


def _after_from(raw: bytes, start: int, end: int) -> int:
    """Return where the header of an attached message begins: after the From line of a mailbox file, if it has one."""
    if raw.startswith((b"From ", b">From "), start, end):
        return raw.find(b"\n", start, end) + 1 or end
    return start
