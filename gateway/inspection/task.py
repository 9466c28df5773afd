"""What the box is asked to open, and what it answers. Both cross a pipe as MessagePack.

The octets of the message themselves go by a descriptor that both sides can read.
"""

from msgspec import Struct

from gateway.inspection.facts import Link, Part


class Task(Struct, frozen=True, array_like=True):
    """One MIME leaf. It lies at `start` to `end` in the message, encoded.

    `encodings` are the content transfer encodings in every plausible reading, in lower case, the first being that of
    most readers; the same goes for `charsets`, `declared_types` and `names`.
    """

    path: str
    start: int
    end: int
    encodings: tuple[str, ...] = ("7bit",)
    declared_types: tuple[str, ...] = ()
    charsets: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    is_attachment: bool = False


class Bounds(Struct, frozen=True, array_like=True):
    """How much of a message is opened. A limit that is reached is a problem of the file at hand, never silence."""

    depth: int = 8  # files within files
    files: int = 2000  # in all
    unpacked_bytes: int = 256 << 20  # in all
    file_bytes: int = 128 << 20  # of one file
    ratio: int = 200  # unpacked to packed, above a megabyte
    seconds: float = 5.0  # CPU time of the whole
    text_chars: int = 256 * 1024  # of text that is kept, in all
    links: int = 2000


class Errand(Struct, frozen=True, array_like=True):
    """All that is opened of one message. Passwords are tried in their order on what is locked."""

    tasks: tuple[Task, ...]
    passwords: tuple[str, ...] = ()
    bounds: Bounds = Bounds()


class Rendition(Struct, frozen=True, array_like=True):
    """The text that stands in place of a part whose links must not work. `path` is the MIME leaf's."""

    path: str
    text: str


class Opened(Struct, frozen=True, array_like=True):
    """What was found: the files in the order in which they were met, links, text for rules, texts with inert links."""

    parts: tuple[Part, ...] = ()
    links: tuple[Link, ...] = ()
    text: str = ""
    renditions: tuple[Rendition, ...] = ()
    problems: tuple[str, ...] = ()  # limits that cut short the whole, codes of `look.PROBLEMS`
