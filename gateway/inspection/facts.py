"""What is known of a message after one look, without any policy. No bytes are kept here: spans point into them."""

from msgspec import Struct

from gateway.mail.address import Address

# Defects under which another author may show than the one that was found.
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


class Part(Struct, frozen=True):
    """One MIME part; what the box and the type filters fill."""

    path: str
    declared_type: str = ""
    found_type: str = ""
    name: str = ""
    size: int = 0
    sha256: str = ""
    encrypted: bool = False
    macro: str = ""
    active: bool = False
    members: tuple[str, ...] = ()


class Facts(Struct, frozen=True):
    """The facts of one message.

    `authors` are the mailboxes of all From fields in every reading; `from_count` says how many From fields there are.
    `hops` counts Received fields. `markers` are the values of our own hop marker as text, verified or not (see
    `marker.passes`). `reply_ids` are the Message-IDs that In-Reply-To and References name, `dsn_message_ids` those of
    the returned header in a notification; like `message_id` they stand in their angle brackets. `defects` are closed
    codes (`scan.DEFECTS`).
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
    links: tuple[str, ...] = ()
    text: str = ""
    defects: tuple[str, ...] = ()
    schema: int = 1
    markers: tuple[str, ...] = ()
    reply_ids: tuple[str, ...] = ()
    dsn_message_ids: tuple[str, ...] = ()

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
