"""One look at a received message: its facts, from the header and a glance at the body. No policy, no C parsers.

It takes any bytes and never raises; its time is linear in the header's length, and the body is searched for two things
only, without walking its lines. Line ends are CRLF: bare ones were refused at the door.
"""

import re

from gateway.inspection.facts import Facts, FieldFact
from gateway.inspection.words import decode_words
from gateway.mail import fields
from gateway.mail.address import Address, parse_author_list
from gateway.mail.dsn import read_dsn
from gateway.mail.envelope import Envelope
from gateway.mail.fields import FieldSpan, scan_header, unfold

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
NOTED = SINGLE | {"received", "x-gatepost-hop"}
# With these there are lines in the header that belong to no field.
STRAY = frozenset({"not_a_field", "mbox_line", "leading_continuation"})
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,990}>")
_RETURNED_ID = re.compile(rb"message-id:[ \t]*(?:\r\n[ \t]+)?(<[^<>\s]{1,990}>)")


class _Header:
    """What is gathered while the fields go by."""

    __slots__ = ("authors", "from_count", "hops", "is_ambiguous", "markers", "reply_ids", "values")

    def __init__(self) -> None:
        self.authors: list[Address] = []
        self.from_count = 0
        self.hops = 0
        self.is_ambiguous = False
        self.markers: list[str] = []
        self.reply_ids: list[str] = []
        self.values: dict[str, str] = {}  # of single fields, the first

    def take(self, key: str, value: str) -> bool:
        """Note one field of those in `NOTED`; return True if it repeats one that may stand once."""
        if key == "received":
            self.hops += 1
            return False
        if key == "x-gatepost-hop":
            if len(self.markers) < MAX_MARKERS:
                self.markers.append(value[:MAX_VALUE])
            return False
        if key == "from":
            self._take_from(value)
        elif key in ("in-reply-to", "references"):
            self.reply_ids += message_ids(value)
        if key in self.values:
            return True
        self.values[key] = value
        return False

    def _take_from(self, value: str) -> None:
        self.from_count += 1
        found = parse_author_list(value)
        self.is_ambiguous = self.is_ambiguous or found.ambiguous
        self.authors += [address for address in found.addresses if address not in self.authors]
        if len(self.authors) > MAX_AUTHORS:
            self.is_ambiguous = True
            del self.authors[MAX_AUTHORS:]


def scan(raw: bytes, *, envelope: Envelope | None = None) -> Facts:
    """Return the facts of a whole message with CRLF line ends. The envelope says whether it may be a bounce."""
    spans, body_start, found = scan_header(raw, MAX_HEADER)
    defects = list(found)
    if not STRAY.isdisjoint(found):
        spans = _with_strays(raw, spans, body_start)
    if len(spans) > MAX_FIELDS:
        spans = spans[:MAX_FIELDS]
        defects.append("too_many_fields")
    header = _Header()
    facts, is_repeated = _fields(raw, spans, header)
    if header.is_ambiguous:
        defects.append("ambiguous_author")
    if not header.authors:
        defects.append("no_author")
    if is_repeated:
        defects.append("repeated_field")
    is_ascii = raw.isascii()
    values = header.values
    message_id = values.get("message-id", "")
    return Facts(
        fields=facts,
        body_start=body_start,
        size=len(raw),
        authors=tuple(header.authors),
        from_count=header.from_count,
        subject=decode_words(values.get("subject", "")[: 4 * MAX_SUBJECT])[:MAX_SUBJECT],
        message_id=first_id(message_id) if message_id else "",
        hops=header.hops,
        eight_bit_header=not is_ascii and not raw[:body_start].isascii(),
        eight_bit_body=not is_ascii and not raw[body_start:].isascii(),
        long_lines=_has_long_lines(raw),
        defects=tuple(defects),
        markers=tuple(header.markers),
        reply_ids=tuple(dict.fromkeys(header.reply_ids[-MAX_IDS:])),
        dsn_message_ids=_returned_ids(raw, body_start, facts, envelope),
    )


def _fields(raw: bytes, spans: tuple[FieldSpan, ...], header: _Header) -> tuple[tuple[FieldFact, ...], bool]:
    facts: list[FieldFact] = []
    is_repeated = False
    left = MAX_TEXT
    for span in spans:
        name = span.name
        value = unfold(raw[span.value_start : span.end])
        key = name.lower()
        if key in NOTED and header.take(key, value):
            is_repeated = True
        if len(value) > MAX_VALUE or left < MAX_VALUE:
            value = value[: min(MAX_VALUE, left)]
        left -= len(value)
        facts.append(FieldFact(name, value, span.start, span.end))
    return tuple(facts), is_repeated


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


def _has_long_lines(raw: bytes) -> bool:
    """Tell whether any line is over 998 octets: from line end to the last line end within reach, never line by line."""
    at, size = 0, len(raw)
    while size - at > MAX_LINE - 2:
        end = raw.rfind(b"\n", at, at + MAX_LINE)
        if end < 0:
            return True
        at = end + 1
    return False


def _returned_ids(
    raw: bytes, body_start: int, facts: tuple[FieldFact, ...], envelope: Envelope | None
) -> tuple[str, ...]:
    """Return the Message-IDs of the returned header in a notification.

    Looked for in reports (RFC 3462), and in whatever came with the null reverse-path: old servers return the header as
    plain text.
    """
    declared = next((field.value for field in facts if field.name.lower() == "content-type"), "")
    is_report = declared[:20].lower().startswith("multipart/report")
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
