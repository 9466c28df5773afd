"""What is known of a message after one look, without any policy. No bytes are kept here: spans point into them."""

from enum import StrEnum

from msgspec import Struct

from gateway.mail.address import Address

# Defects under which another author may show than the one that was found.
NOT_INSPECTED = "not_inspected"  # in `Facts.problems`: the box is away, and nothing is known of the files
HIDING = frozenset({"ambiguous_author", "header_too_long", "too_many_fields"})


class FieldFact(Struct, frozen=True, array_like=True, gc=False):
    """One header field, or, without a name, lines of the header that are none. The span covers name to CRLF.

    `value` is unfolded, decoded with replacement and cut at `scan.MAX_VALUE` characters; encoded words stay encoded.
    """

    name: str  # as written
    value: str
    start: int
    end: int

    @property
    def key(self) -> str:
        """The name in lower case: how fields are compared (RFC 5322 section 1.2.2)."""
        return self.name.lower()


class Macro(StrEnum):
    """How dangerous the macros of a file are, from none to what only malware does."""

    NONE = ""
    PRESENT = "present"
    AUTO_RUN = "auto_run"  # runs when the file is opened or closed
    SUSPICIOUS = "suspicious"  # and starts programs, fetches, writes files, or hides what it does


class Lock(StrEnum):
    """Whether a file is encrypted, and whether a password that we know opened it."""

    NONE = ""
    OPENED = "opened"
    LOCKED = "locked"


class Part(Struct, frozen=True, omit_defaults=True):
    """One file of the message: a MIME leaf, or a file within one at any depth.

    `path` is the place in the MIME tree ("1", "2.1"), and for what lies within a file its path, a slash and a number
    ("2.1/3"). The same path stands twice when readers could decode the part differently. The first of the names and
    declared types is the one of most readers; `found_types` tells what the octets are, several for a polyglot, never
    what somebody says that they are. `size` is in octets, decoded; `sha256` is theirs, "" for a file that is only
    listed. `active` and `problems` are closed codes (`look.ACTIVE`, `look.PROBLEMS`).
    """

    path: str
    declared_types: tuple[str, ...] = ()  # in lower case
    found_types: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    size: int = 0
    sha256: str = ""
    lock: Lock = Lock.NONE
    macro: Macro = Macro.NONE
    active: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    is_attachment: bool = False  # by its disposition or a name; what lies within a file always is

    @property
    def depth(self) -> int:
        """How many files this one lies within."""
        return self.path.count("/")

    @property
    def name(self) -> str:
        """The name that most readers show, "" without one."""
        return self.names[0] if self.names else ""

    @property
    def shown(self) -> str:
        """What an operator reads of it: its name, else its place."""
        return f'"{self.name}"' if self.name else f"part {self.path}"


class Link(Struct, frozen=True, omit_defaults=True):
    """A link as a reader is shown it: the text and where it leads. `text` is "" where the target itself is shown."""

    part: str  # path
    target: str
    text: str = ""


class Secret(Struct, frozen=True, array_like=True):
    """Where something stands in a header field that must not be stored: characters of the field's decoded value.

    `digest` is its keyed hash as hexadecimal digits, "" where a person chose it: a short one could be guessed from it.
    """

    field: int  # position in `Facts.fields`
    start: int
    end: int
    name: str  # what it is, in a word
    digest: str = ""

    @property
    def marker(self) -> str:
        """What stands in its place."""
        return f"[{self.name} {self.digest[:4]}]" if self.digest else f"[{self.name}]"


class Facts(Struct, frozen=True):
    """The facts of one message.

    `authors` are the mailboxes of all From fields in every reading; `from_count` says how many From fields there are.
    `hops` counts Received fields. `markers` are the values of our own hop marker as text, verified or not (see
    `marker.passes`). `reply_ids` are the Message-IDs that In-Reply-To and References name, `dsn_message_ids` those of
    the returned header in a notification; like `message_id` they stand in their angle brackets. `defects` are closed
    codes (`scan.DEFECTS`). `secrets` tell where `judge.redact` has put markers into stored facts; a scan yields none.
    """

    fields: tuple[FieldFact, ...]
    body_start: int
    size: int
    authors: tuple[Address, ...] = ()
    from_count: int = 0
    subject: str = ""
    message_id: str = ""
    hops: int = 0
    eight_bit_header: bool = False
    eight_bit_body: bool = False
    parts: tuple[Part, ...] = ()
    links: tuple[Link, ...] = ()
    text: str = ""
    defects: tuple[str, ...] = ()
    schema: int = 1
    markers: tuple[str, ...] = ()
    reply_ids: tuple[str, ...] = ()
    dsn_message_ids: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()  # limits that cut short the look into all files, codes of `look.PROBLEMS`
    secrets: tuple[Secret, ...] = ()

    @property
    def author(self) -> Address | None:
        """The mailbox that every reader shows. None unless there is one From field, with one mailbox in any reading."""
        if self.from_count != 1 or len(self.authors) != 1 or not HIDING.isdisjoint(self.defects):
            return None
        return self.authors[0]

    def values(self, key: str) -> list[str]:
        """Return the values of all fields named `key` (lower case), in order."""
        return [field.value for field in self.fields if field.key == key]


class Content:
    """The bytes of one message with their facts: what engines and transforms are given."""

    __slots__ = ("facts", "raw")

    def __init__(self, raw: bytes, facts: Facts) -> None:
        self.raw = raw
        self.facts = facts
