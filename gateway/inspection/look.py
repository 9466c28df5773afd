"""The walk through the files of one message, and what an opener is given of each. Runs in the box's child only.

Everything is opened under one budget. What an opener could not do, or what a limit cut short, stands as a problem with
the file, so that "could not be opened" is never "clean". Whatever an opener raises ends its look at this file alone.
"""

import hashlib
import time
from collections.abc import Iterable, Sequence

from gateway.inspection.facts import Link, Lock, Macro, Part
from gateway.inspection.formats import openers
from gateway.inspection.signatures import found_types
from gateway.inspection.task import Bounds, Errand, Opened, Rendition, Task
from gateway.inspection.transfer import decodings

# What a file does by itself, or brings along to be done, besides macros.
ACTIVE = (
    "script",  # JavaScript, VBScript and their like in HTML, SVG, PDF, calendars
    "launch",  # starts a program or opens a file: PDF /Launch, shortcuts
    "form_submit",  # sends data elsewhere: PDF forms, HTML forms
    "embedded_file",  # a file within a document that is no archive
    "embedded_object",  # OLE object or package
    "activex",
    "dde",  # runs a command by Dynamic Data Exchange
    "external_template",
    "external_relationship",  # fetches from elsewhere when it is opened
    "frame",  # iframe, object, embed in HTML
    "remote_content",  # pictures and styles from elsewhere
    "redirect",  # leads elsewhere by itself: meta refresh
)

# Why a file was not seen whole, or what is odd about it.
PROBLEMS = (
    "damaged",
    "truncated",
    "unsupported",  # of a kind, a version or a method that is not opened
    "opener_failed",
    "too_deep",
    "too_many_files",
    "too_many_links",
    "too_big",
    "too_much",  # of all files together
    "ratio",
    "too_long",  # CPU time
    "crashed",  # the child died of it, or was ended at its deadline
    "crashed_again",  # a child has died of this message before, within a day
    "bad_encoding",  # base64 or the like with junk, missing padding, padding in the middle
    "conflicting_directory",  # readers of this archive would find different files
    "prepended_data",  # octets before or after what the format says is all
    "appended_data",
    "odd_name",  # a name with path steps, controls, or none that can be read
    "mismatched_name",  # readers would show another name
)


class LimitReached(Exception):
    """A limit ends the look at a file. `code` is one of `PROBLEMS`."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class Look:
    """One file that is being opened: its octets, and where an opener notes what it sees."""

    def __init__(
        self,
        walk: "Walk",
        path: str,
        data: bytes,
        *,
        names: Sequence[str] = (),
        declared_types: Sequence[str] = (),
        charsets: Sequence[str] = (),
        is_attachment: bool = True,
    ) -> None:
        self.path = path
        self.data = data
        self.names = tuple(names)
        self.declared_types = tuple(declared_types)
        self.charsets = tuple(charsets)
        self.found_types: tuple[str, ...] = ()
        self.is_attachment = is_attachment
        self.lock = Lock.NONE
        self.macro = Macro.NONE
        self._walk = walk
        self._active: dict[str, None] = {}
        self._problems: dict[str, None] = {}
        self._members = 0

    @property
    def passwords(self) -> tuple[str, ...]:
        return self._walk.passwords

    @property
    def depth(self) -> int:
        return self.path.count("/")

    # --- What an opener notes -----------------------------------------------------------------------------------------

    def note_active(self, code: str) -> None:
        assert code in ACTIVE, code
        self._active[code] = None

    def note_problem(self, code: str) -> None:
        assert code in PROBLEMS, code
        self._problems[code] = None

    def note_macro(self, grade: Macro) -> None:
        """Note macros; the worst grade stays."""
        grades = list(Macro)
        self.macro = max(self.macro, grade, key=grades.index)

    def note_lock(self, *, is_opened: bool) -> None:
        """Note that the file is encrypted, in whole or in part; `is_opened`: with a password that we know."""
        if self.lock is not Lock.LOCKED:
            self.lock = Lock.OPENED if is_opened else Lock.LOCKED

    def note_link(self, target: str, text: str = "") -> None:
        self._walk.add_link(Link(self.path, target, text))

    def note_text(self, text: str) -> None:
        """Keep text that a reader would be shown, for rules and for passwords that stand in it."""
        self._walk.add_text(text)

    def render(self, text: str) -> None:
        """Give the text that may stand in place of this part. Only that of a MIME leaf is kept."""
        if not self.depth:
            self._walk.renditions.append(Rendition(self.path, text))

    # --- Files within -------------------------------------------------------------------------------------------------

    def open_member(self, data: bytes, *names: str, declared_types: Sequence[str] = ()) -> None:
        """Open a file within this one. `names` are all names under which readers would show it."""
        self._walk.open(Look(self._walk, self._next_path(), data, names=names, declared_types=declared_types))

    def list_member(self, *names: str, size: int = 0, problem: str = "", lock: Lock = Lock.NONE) -> None:
        """Note a file within this one that is not opened: it is locked, or `problem` tells why."""
        problems = (problem,) if problem else ()
        self._walk.add(
            Part(self._next_path(), names=names, size=size, problems=problems, lock=lock, is_attachment=True)
        )

    def take(self, chunks: Iterable[bytes], *, packed: int = 0) -> bytes:
        """Return what an unpacker yields, as long as the limits allow. Raises LimitReached.

        `packed` is the size of what is being unpacked, in octets: by it a bomb is told from a large file.
        """
        return self._walk.take(chunks, packed or len(self.data))

    def check_time(self) -> None:
        """Raise LimitReached when the message has had all its time. Loops without end call it now and then."""
        self._walk.check_time()

    def _next_path(self) -> str:
        self._members += 1
        return f"{self.path}/{self._members}"

    def part(self) -> Part:
        return Part(
            self.path,
            declared_types=self.declared_types,
            found_types=self.found_types,
            names=self.names,
            size=len(self.data),
            sha256=hashlib.sha256(self.data).hexdigest(),
            lock=self.lock,
            macro=self.macro,
            active=tuple(self._active),
            problems=tuple(self._problems),
            is_attachment=self.is_attachment,
        )


class Walk:
    """Opens all files of one message under one budget."""

    def __init__(self, errand: Errand) -> None:
        self.bounds: Bounds = errand.bounds
        self.passwords = errand.passwords
        self.parts: list[Part] = []
        self.links: dict[Link, None] = {}
        self.renditions: list[Rendition] = []
        self.problems: dict[str, None] = {}
        self._texts: list[str] = []
        self._text_left = self.bounds.text_chars
        self._unpacked_left = self.bounds.unpacked_bytes
        self._ends_at = time.process_time() + self.bounds.seconds

    def run(self, raw: bytes | memoryview, tasks: Iterable[Task]) -> Opened:
        """Open every task's part of the message in every reading."""
        for task in tasks:
            self._open_task(raw, task)
        return Opened(
            tuple(self.parts), tuple(self.links), "\n".join(self._texts), tuple(self.renditions), tuple(self.problems)
        )

    def _open_task(self, raw: bytes | memoryview, task: Task) -> None:
        for data, is_odd in decodings(bytes(raw[task.start : task.end]), task.encodings):
            look = Look(
                self,
                task.path,
                data,
                names=task.names,
                declared_types=task.declared_types,
                charsets=task.charsets,
                is_attachment=task.is_attachment,
            )
            if is_odd:
                look.note_problem("bad_encoding")
            try:
                self.open(look)
            except LimitReached as limit:
                self.problems[limit.code] = None

    def open(self, look: Look) -> None:
        """Tell what a file is, open it by all openers that know it, and add it before its members.

        Raises LimitReached when there are too many already: the limit cuts short the file that it lies in.
        """
        place = len(self.parts)
        self.add(Part(look.path))
        try:
            self.check_time()
            look.found_types = found_types(look.data, look.names, look.declared_types)
            self._open_by_all(look)
        except LimitReached as limit:
            look.note_problem(limit.code)
        self.parts[place] = look.part()

    def _open_by_all(self, look: Look) -> None:
        known = openers()
        for kind in look.found_types:
            for opener in known.get(kind, ()):
                if look.depth >= self.bounds.depth:
                    raise LimitReached("too_deep")
                try:
                    opener(look)
                except LimitReached as limit:
                    look.note_problem(limit.code)
                except MemoryError:
                    look.note_problem("too_big")
                except Exception:  # border: one opener and one file, hostile input
                    look.note_problem("opener_failed")

    def add(self, part: Part) -> None:
        if len(self.parts) >= self.bounds.files:
            raise LimitReached("too_many_files")
        self.parts.append(part)

    def add_link(self, link: Link) -> None:
        if len(self.links) < self.bounds.links:
            self.links[link] = None
        else:
            self.problems["too_many_links"] = None

    def add_text(self, text: str) -> None:
        kept = text[: self._text_left]
        self._text_left -= len(kept)
        if kept:
            self._texts.append(kept)

    def take(self, chunks: Iterable[bytes], packed: int) -> bytes:
        taken = bytearray()
        for chunk in chunks:
            taken += chunk
            self._unpacked_left -= len(chunk)
            if self._unpacked_left < 0:
                raise LimitReached("too_much")
            if len(taken) > self.bounds.file_bytes:
                raise LimitReached("too_big")
            if len(taken) > 1 << 20 and len(taken) > packed * self.bounds.ratio:
                raise LimitReached("ratio")
            self.check_time()
        return bytes(taken)

    def check_time(self) -> None:
        if time.process_time() > self._ends_at:
            raise LimitReached("too_long")
