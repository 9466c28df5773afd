"""One look at a received message: its facts, from the header and a glance at the body. No policy, no C parsers.

It takes any bytes and never raises; its time is linear in the header's length, and the body is searched for two things
only, without walking its lines. Line ends are CRLF: bare ones were refused at the door.
"""

import re

from gateway.inspection.facts import Facts, FieldFact
from gateway.inspection.words import decode_words
from gateway.mail import fields
from gateway.mail.address import Address, AuthorList, parse_author_list
from gateway.mail.dsn import read_dsn
from gateway.mail.envelope import Envelope
from gateway.mail.fields import BLANKS, FieldSpan, plain_fields, scan_header, text_of_value

MAX_HEADER = 8 << 20  # octets; the policy's limit can be no higher, and the listener refuses above it
MAX_FIELDS = 2000  # fields kept as facts
MAX_VALUE = 4096  # characters of one field's value
MAX_TEXT = 256 * 1024  # characters of all values; later ones are cut to nothing
MAX_SUBJECT = 2000  # characters, decoded
MAX_IDS = 50  # Message-IDs of References: the last ones, which are the nearest
MAX_MARKERS = 10
MAX_AUTHORS = 100
MAX_LINE = 1000  # octets with CRLF, RFC 5322 section 2.1.1
BOUNCE_TEXT = 64 * 1024  # octets of a bounce without any structure that are searched for the returned Message-ID

DEFECTS = (
    *fields.DEFECTS,
    "ambiguous_author",  # readers disagree on who the author is
    "repeated_field",  # a field that may stand once stands twice (RFC 5322 section 3.6)
    "no_author",  # no From field, or one without any mailbox
)
SINGLE = frozenset(
    {"date", "from", "sender", "reply-to", "to", "cc", "bcc", "message-id", "in-reply-to", "references", "subject"}
)
NOTED = SINGLE | {"x-gatepost-hop", "content-type"}
REPLIES = frozenset({"in-reply-to", "references"})
# With these there are lines in the header that belong to no field.
STRAY = frozenset({"not_a_field", "mbox_line", "leading_continuation"})
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,990}>")
_RETURNED_ID = re.compile(rb"message-id:[ \t]*(?:\r\n[ \t]+)?(<[^<>\s]{1,990}>)")


class _Header:
    """What is gathered while the fields go by. Values are whole here, in the facts they are cut."""

    __slots__ = ("facts", "firsts", "hops", "later", "replies")

    def __init__(self) -> None:
        self.facts: list[FieldFact] = []
        self.firsts: dict[str, str] = {}  # of the fields in `NOTED`, by key
        self.hops = 0
        self.later: list[tuple[str, str]] = []  # key and value of all but the first of a name
        self.replies: list[str] = []  # values that name the messages that this one answers

    def take(self, fields: list[tuple[str, str, str]]) -> None:
        """Note fields as `plain_fields` returns them: without a gap, from the first octet on."""
        facts, firsts, at = self.facts, self.firsts, 0
        for whole, name, raw_value in fields:
            value = raw_value.strip(BLANKS)
            if "\n" in value or not value.isascii():
                value = text_of_value(value)
            key = name.lower()
            if key in NOTED:
                if key in firsts:
                    self.later.append((key, value))
                else:
                    firsts[key] = value
                if key in REPLIES:
                    self.replies.append(value)
            elif key == "received":
                self.hops += 1
            end = at + len(whole)
            facts.append(FieldFact(name, value, at, end))
            at = end

    def all(self, key: str) -> list[str]:
        """Return the values of all fields named `key`, one of `NOTED`."""
        if key not in self.firsts:
            return []
        return [self.firsts[key], *[value for name, value in self.later if name == key]]

    @property
    def is_repeated(self) -> bool:
        """Whether a field stands twice that may stand once (RFC 5322 section 3.6)."""
        return any(key in SINGLE for key, _ in self.later)


def scan(raw: bytes, *, envelope: Envelope | None = None) -> Facts:
    """Return the facts of a whole message with CRLF line ends. The envelope says whether it may be a bounce."""
    fields, body_start = plain_fields(raw)
    defects: list[str] = []
    if not fields or len(fields) > MAX_FIELDS:
        fields, body_start, defects = _odd_fields(raw)
    header = _Header()
    header.take(fields)
    firsts = header.firsts
    from_values = header.all("from")
    authors = parse_author_list(from_values[0]) if len(from_values) == 1 else _authors(from_values)
    if authors.ambiguous:
        defects.append("ambiguous_author")
    if not authors.addresses:
        defects.append("no_author")
    if header.later and header.is_repeated:
        defects.append("repeated_field")
    is_ascii = raw.isascii()
    message_id = firsts.get("message-id", "")
    return Facts(
        # In a header no longer than one value may be there is nothing to cut.
        fields=tuple(header.facts if body_start <= MAX_VALUE else _cut(header.facts)),
        body_start=body_start,
        size=len(raw),
        authors=authors.addresses,
        from_count=len(from_values),
        subject=decode_words(firsts.get("subject", "")[: 4 * MAX_SUBJECT])[:MAX_SUBJECT],
        message_id=first_id(message_id) if message_id else "",
        hops=header.hops,
        eight_bit_header=not is_ascii and not raw[:body_start].isascii(),
        eight_bit_body=not is_ascii and not raw[body_start:].isascii(),
        defects=tuple(defects),
        markers=tuple([value[:MAX_VALUE] for value in header.all("x-gatepost-hop")[:MAX_MARKERS]]),
        reply_ids=_reply_ids(header.replies) if header.replies else (),
        dsn_message_ids=_returned_ids(raw, body_start, header, envelope),
    )


def _odd_fields(raw: bytes) -> tuple[list[tuple[str, str, str]], int, list[str]]:
    """Return what `plain_fields` returns of any other header, and its defects."""
    spans, body_start, found = scan_header(raw, MAX_HEADER)
    defects = list(found)
    if not STRAY.isdisjoint(found):
        spans = _with_strays(raw, spans, body_start)
    if len(spans) > MAX_FIELDS:
        spans = spans[:MAX_FIELDS]
        defects.append("too_many_fields")
    fields = [
        (raw[span.start : span.end].decode("latin-1"), span.name, raw[span.value_start : span.end].decode("latin-1"))
        for span in spans
    ]
    return fields, body_start, defects


def _cut(facts: list[FieldFact]) -> list[FieldFact]:
    """Return the fields with their values cut, one by one and in all."""
    cut: list[FieldFact] = []
    left = MAX_TEXT
    for field in facts:
        size = min(len(field.value), MAX_VALUE, left)
        left -= size
        is_whole = size == len(field.value)
        cut.append(field if is_whole else FieldFact(field.name, field.value[:size], field.start, field.end))
    return cut


def _authors(from_values: list[str]) -> AuthorList:
    """Return the mailboxes of several From fields, each once."""
    authors: list[Address] = []
    is_ambiguous = False
    for value in from_values:
        found = parse_author_list(value)
        is_ambiguous = is_ambiguous or found.ambiguous
        authors += [address for address in found.addresses if address not in authors]
        if len(authors) > MAX_AUTHORS:
            is_ambiguous = True
            del authors[MAX_AUTHORS:]
    return AuthorList(tuple(authors), is_ambiguous)


def _reply_ids(values: list[str]) -> tuple[str, ...]:
    found = [one for value in values for one in message_ids(value)]
    return tuple(dict.fromkeys(found[-MAX_IDS:]))


def _with_strays(raw: bytes, spans: tuple[FieldSpan, ...], body_start: int) -> tuple[FieldSpan, ...]:
    """Return the spans with one, without a name, for what stands between fields: it leaves with the header."""
    header_end = body_start - 2 if raw.endswith(b"\r\n\r\n", 0, body_start) else body_start
    whole: list[FieldSpan] = []
    at = 0
    for span in (*spans, FieldSpan("", header_end, header_end, header_end)):
        if at < span.start:
            whole.append(FieldSpan("", at, span.start, at))
        if span.start < span.end:
            whole.append(span)
        at = span.end
    return tuple(whole)


def message_ids(value: str) -> list[str]:
    """Return the Message-IDs in a value, in their angle brackets, at most the last 50."""
    return _MESSAGE_ID.findall(value[-MAX_IDS * MAX_LINE :])[-MAX_IDS:]


def first_id(value: str) -> str:
    """Return the Message-ID of a value in its angle brackets; what is no such thing stays as it is, cut at 998."""
    found = _MESSAGE_ID.search(value[:MAX_VALUE])
    return found[0] if found else value[:998]


def _returned_ids(raw: bytes, body_start: int, header: _Header, envelope: Envelope | None) -> tuple[str, ...]:
    """Return the Message-IDs of the returned header in a notification.

    Looked for in reports (RFC 3462), and in whatever came with the null reverse-path: old servers return the header as
    plain text.
    """
    is_report = header.firsts.get("content-type", "")[:20].lower().startswith("multipart/report")
    is_bounce = envelope is not None and envelope.mail_from.is_null
    if not is_report and not is_bounce:
        return ()
    dsn = read_dsn(raw)
    if dsn is not None and dsn.original_message_ids:
        return tuple([first_id(one) for one in dsn.original_message_ids][:MAX_IDS])
    if not is_bounce:
        return ()
    text = raw[body_start : body_start + BOUNCE_TEXT]
    found = [
        raw[body_start + match.start(1) : body_start + match.end(1)] for match in _RETURNED_ID.finditer(text.lower())
    ]
    return tuple(dict.fromkeys([one.decode("utf-8", "replace") for one in found]))[:MAX_IDS]
