"""Delivery status notifications: written for our own people (RFC 3464, 3461, 6522, 6533), read from anybody.

Reading takes the many bounces that follow no standard as well: what matters is which of our messages it speaks of.
Nothing here says whether a notification may be sent or believed.
"""

import binascii
import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from msgspec import Struct

from gateway.mail.address import Address
from gateway.mail.date import format_date, parse_date
from gateway.mail.envelope import Ret
from gateway.mail.errors import Malformed
from gateway.mail.fields import fold, scan_header, unfold
from gateway.mail.parts import MimePart, content_type, leaf_parts
from gateway.mail.xtext import decode_utf8_address, encode_utf8_address

MAX_RETURNED = 1024 * 1024  # octets: of a bigger message only the header is returned
MAX_RETURNED_HEADER = 128 * 1024  # octets
MAX_READ = 1024 * 1024  # octets of a notification that are read
MAX_PART = 256 * 1024  # octets of one part that are read
MAX_RECIPIENTS = 1000
MAX_MESSAGE_IDS = 20
MAX_DIAGNOSTIC = 2000  # characters

_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")  # RFC 3463 section 2
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,995}>")
_BARE_MESSAGE_ID = re.compile(r"[^<>\s,;:\"'()@]{1,500}@[^<>\s,;:\"'()@]{1,300}")
_BEFORE_NAME = re.compile(rb"(?>(?:[>|*\s]++|(?:x-)?original-)*)")
_DAEMON = re.compile(r"\b(?:mailer-daemon|mail-daemon|post_?master|mail delivery|daemon)\b", re.IGNORECASE)
_UNSTANDARD_LINE_END = re.compile(rb"(?<!\r)\n")


class DsnRecipient(Struct, frozen=True):
    """What became of one recipient. `action` is failed, delayed, delivered, relayed or expanded (RFC 3464, 2.3.3).

    `original` is ORCPT decoded with its type (`rfc822;user@corp.example`) or "". `diagnostic` is the next hop's reply
    as text, `remote_mta` its name; both may be "". `will_retry_until` is for delayed ones.
    """

    original: str
    final: Address
    action: str
    status: str
    diagnostic: str = ""
    remote_mta: str = ""
    last_attempt_at: datetime | None = None
    will_retry_until: datetime | None = None


class DsnStatus(Struct, frozen=True):
    """One recipient as another host reports it. Addresses are text without type, decoded; what is missing is ""."""

    original: str = ""
    final: str = ""
    action: str = ""
    status: str = ""
    diagnostic: str = ""
    remote_mta: str = ""


class Dsn(Struct, frozen=True):
    """A notification as read.

    `report_type` is in lower case: `delivery-status`, `disposition-notification`, `feedback-report`, or "" for one
    that follows no standard. `original_message_ids` have their angle brackets: those of the returned header and those
    that the notification answers to.
    """

    report_type: str
    reporting_mta: str = ""
    envid: str = ""
    arrival: datetime | None = None
    recipients: tuple[DsnStatus, ...] = ()
    original_message_ids: tuple[str, ...] = ()


# --- Writing ----------------------------------------------------------------------------------------------------------

_SUBJECTS = {
    "failed": "Undelivered mail returned to sender",
    "delayed": "Delayed mail, still being tried",
    "delivered": "Mail delivered",
    "relayed": "Mail relayed",
    "expanded": "Mail expanded",
}
_WORDS = {
    "failed": "could not be delivered",
    "delayed": "could not be delivered yet. We go on trying; you need not send it again",
    "delivered": "was delivered",
    "relayed": "was handed to a mail server that sends no confirmation of delivery",
    "expanded": "was delivered to a list of addresses",
}
_DEFAULT_STATUS = {"failed": "5.0.0", "delayed": "4.0.0"}


def write_dsn(
    *,
    from_address: Address,
    to: Address,
    reporting_mta: str,
    arrival: datetime,
    now: datetime,
    recipients: Sequence[DsnRecipient],
    original: bytes,
    message_id: str,
    envid: str = "",
    ret: Ret | None = None,
    subject: str = "",
) -> bytes:
    """Write a notification, header and body with CRLF, to be sent with the null reverse-path.

    `recipients` are one or more, the worst action gives the subject. `original` is the whole message or its header;
    `envid` is decoded, "" for none; `message_id` has its angle brackets; `subject` is that of the original, decoded.
    The whole message is returned only for failures with RET=FULL and up to 1 MiB (RFC 3461 section 4.3), else its
    header. The result needs SMTPUTF8 only if `to` or `from_address` does, and 8BITMIME only if it is not ASCII.
    """
    actions = [recipient.action for recipient in recipients]
    worst = next((action for action in _SUBJECTS if action in actions), "")
    if not worst:
        raise Malformed("a notification is about at least one recipient and a known action")
    is_global = not (to.is_ascii and from_address.is_ascii)
    header, is_whole = _returned(original, ret if worst == "failed" else Ret.HDRS)
    parts = [
        _text_part(_explain(recipients, reporting_mta, subject)),
        _status_part(_status_fields(recipients, reporting_mta, arrival, envid, is_global), is_global),
        _returned_part(original if is_whole else header, header, is_whole),
    ]
    boundary = _boundary(message_id, parts)
    opening = [
        fold("From", f"Mail Delivery System <{from_address}>"),
        fold("To", f"<{to}>"),
        fold("Subject", _SUBJECTS[worst]),
        fold("Date", format_date(now)),
        fold("Message-ID", message_id),
        *[fold("In-Reply-To", found) for found in _own_message_ids(header)[:1]],
        fold("Auto-Submitted", "auto-replied"),  # RFC 3834 section 5
        fold("MIME-Version", "1.0"),
        fold("Content-Type", f'multipart/report; report-type=delivery-status; boundary="{boundary}"'),
        fold("Content-Transfer-Encoding", "7bit" if all(map(bytes.isascii, parts)) else "8bit"),
    ]
    delimiter = b"\r\n--" + boundary.encode("ascii")
    body = [piece for part in parts for piece in (delimiter, b"\r\n", part)]
    return b"".join([*opening, *body, delimiter, b"--\r\n"])


def _returned(original: bytes, ret: Ret | None) -> tuple[bytes, bool]:
    """Return the header that goes back, and whether the whole message does."""
    header_end = original.find(b"\r\n\r\n")
    body_start = header_end + 4 if header_end >= 0 else len(original)
    header = original[: min(body_start, MAX_RETURNED_HEADER)]
    header = header[: header.rfind(b"\r\n") + 2] if b"\r\n" in header else header + b"\r\n"
    return header, ret is Ret.FULL and len(original) <= MAX_RETURNED and body_start < len(original)


def _explain(recipients: Sequence[DsnRecipient], reporting_mta: str, subject: str) -> str:
    lines = [f"This is the mail system of {reporting_mta}.", ""]
    if subject:
        lines += [f"Your message: {_CONTROLS.sub(' ', subject)[:200]}", ""]
    for action, words in _WORDS.items():
        concerned = [recipient for recipient in recipients if recipient.action == action]
        if not concerned:
            continue
        lines += [f"Your message {words}:", ""]
        for recipient in concerned[:MAX_RECIPIENTS]:
            lines.append(f"  <{recipient.final}>")
            if recipient.diagnostic:
                said = _CONTROLS.sub(" ", recipient.diagnostic)[:MAX_DIAGNOSTIC]
                lines.append(f"    {recipient.remote_mta or 'The next mail server'} said: {said}")
            if recipient.will_retry_until and action == "delayed":
                lines.append(f"    We try until {format_date(recipient.will_retry_until)}.")
        lines.append("")
    lines.append("What the mail servers need to know, and the header of your message, follow.")
    return "\r\n".join(lines) + "\r\n"


def _text_part(text: str) -> bytes:
    head = fold("Content-Type", "text/plain; charset=utf-8") + fold("Content-Description", "Notification")
    body = text.encode("utf-8", "replace")
    if body.isascii() and max(map(len, body.split(b"\r\n"))) <= 900:
        return head + b"\r\n" + body
    coded = binascii.b2a_base64(body, newline=False)
    lines = [coded[at : at + 76] for at in range(0, len(coded), 76)]
    return head + fold("Content-Transfer-Encoding", "base64") + b"\r\n" + b"\r\n".join(lines) + b"\r\n"


def _status_part(fields: bytes, is_global: bool) -> bytes:
    kind = "message/global-delivery-status" if is_global else "message/delivery-status"
    head = fold("Content-Type", kind) + fold("Content-Description", "Delivery report")
    return head + (b"" if fields.isascii() else fold("Content-Transfer-Encoding", "8bit")) + b"\r\n" + fields


def _status_fields(
    recipients: Sequence[DsnRecipient], reporting_mta: str, arrival: datetime, envid: str, is_global: bool
) -> bytes:
    """Return the fields of RFC 3464 sections 2.2 and 2.3: one block for the message, one for each recipient."""
    lines = [fold("Original-Envelope-Id", _field_text(envid, is_global))] if envid else []
    lines += [fold("Reporting-MTA", f"dns; {reporting_mta}"), fold("Arrival-Date", format_date(arrival))]
    for recipient in recipients[:MAX_RECIPIENTS]:
        lines.append(b"\r\n")
        lines += [fold(name, value) for name, value in _recipient_fields(recipient, is_global) if value]
    return b"".join(lines)


def _recipient_fields(recipient: DsnRecipient, is_global: bool) -> Iterator[tuple[str, str]]:
    status = recipient.status if _STATUS.fullmatch(recipient.status) else ""
    yield "Original-Recipient", _typed_address(recipient.original, is_global) if recipient.original else ""
    yield "Final-Recipient", _typed_address(f"rfc822;{recipient.final}", is_global)
    yield "Action", recipient.action
    yield "Status", status or _DEFAULT_STATUS.get(recipient.action, "2.0.0")
    yield "Remote-MTA", f"dns; {_field_text(recipient.remote_mta, False)}" if recipient.remote_mta else ""
    diagnostic = _field_text(recipient.diagnostic, is_global)
    yield "Diagnostic-Code", f"smtp; {diagnostic}" if diagnostic else ""
    yield "Last-Attempt-Date", format_date(recipient.last_attempt_at) if recipient.last_attempt_at else ""
    until = recipient.will_retry_until if recipient.action == "delayed" else None
    yield "Will-Retry-Until", format_date(until) if until else ""


def _typed_address(typed: str, is_global: bool) -> str:
    """Return `type; address`; outside of ASCII of type utf-8, coded unless the part is a global one (RFC 6533)."""
    kind, _, address = _CONTROLS.sub(" ", typed).partition(";")
    address = address.strip()
    if kind.strip().lower() == "utf-8" or not address.isascii():
        return f"utf-8; {address if is_global else encode_utf8_address(address)}"
    return f"{kind.strip()}; {address}"


def _field_text(text: str, is_global: bool) -> str:
    clean = _CONTROLS.sub(" ", text)[:MAX_DIAGNOSTIC].strip()
    return clean if is_global else clean.encode("ascii", "replace").decode("ascii")


def _returned_part(returned: bytes, header: bytes, is_whole: bool) -> bytes:
    if is_whole:
        kind = "message/rfc822" if header.isascii() else "message/global"  # RFC 6532 section 3.7
    else:
        kind = "text/rfc822-headers" if header.isascii() else "message/global-headers"
    head = fold("Content-Type", kind) + fold("Content-Description", "Your message" if is_whole else "Its header")
    return head + (b"" if returned.isascii() else fold("Content-Transfer-Encoding", "8bit")) + b"\r\n" + returned


def _boundary(message_id: str, parts: Sequence[bytes]) -> str:
    """Return a boundary that stands nowhere in the parts."""
    seed = message_id.encode("utf-8", "replace")
    while True:
        seed = hashlib.sha256(seed).digest()
        boundary = f"=_{seed.hex()[:40]}"
        if not any(boundary.encode("ascii") in part for part in parts):
            return boundary


# --- Reading ----------------------------------------------------------------------------------------------------------


def read_dsn(raw: bytes) -> Dsn | None:
    """Read a message with CRLF line ends as a notification; None if it is none.

    One is a multipart/report, a message with a delivery-status part, or one that bears the marks of an automatic
    answer. At most 1 MiB is read, in linear time. Nothing in it is verified.
    """
    raw = raw[:MAX_READ]
    spans, body_start, _ = scan_header(raw, MAX_READ)
    header = {span.name.lower(): unfold(raw[span.value_start : span.end]) for span in reversed(spans)}
    parts = leaf_parts(raw)
    status = next((part for part in parts if part.content_type in _STATUS_TYPES), None)
    report_type = _report_type(header.get("content-type", ""))
    if status is None and not report_type and not _is_automatic(header):
        return None
    blocks = _blocks(status.decode(raw, MAX_PART)) if status else []
    message = next((block for block in blocks if "final-recipient" not in block), {})
    recipients = [_read_recipient(block) for block in blocks if "final-recipient" in block][:MAX_RECIPIENTS]
    if not recipients:
        failed = header.get("x-failed-recipients", "").split(",")[:MAX_RECIPIENTS]
        recipients = [DsnStatus(final=found.strip(), action="failed") for found in failed if found.strip()]
    return Dsn(
        report_type="delivery-status" if status and not report_type else report_type,
        reporting_mta=_untyped(message.get("reporting-mta", "")),
        envid=message.get("original-envelope-id", ""),
        arrival=parse_date(message["arrival-date"]) if "arrival-date" in message else None,
        recipients=tuple(recipients),
        original_message_ids=_original_ids(raw, body_start, parts, header),
    )


_STATUS_TYPES = ("message/delivery-status", "message/global-delivery-status")
_REPORT_TYPE = re.compile(r';\s*report-type\s*=\s*"?([\w-]{1,50})', re.IGNORECASE)


def _report_type(value: str) -> str:
    if content_type(value) != "multipart/report":
        return ""
    found = _REPORT_TYPE.search(value)
    return found[1].lower() if found else "delivery-status"


def _is_automatic(header: dict[str, str]) -> bool:
    """Tell whether a header has the marks of a bounce that follows no standard, or of another automatic answer."""
    return (
        "x-failed-recipients" in header
        or header.get("return-path", "").replace(" ", "") == "<>"
        or header.get("auto-submitted", "no").lower()[:2] != "no"  # RFC 3834 section 5
        or _DAEMON.search(header.get("from", "")[:500]) is not None
    )


def _blocks(body: bytes) -> list[dict[str, str]]:
    """Return the blocks of fields in a delivery-status part, names in lower case; the first of a name counts."""
    blocks: list[dict[str, str]] = []
    for text in _crlf(body).split(b"\r\n\r\n", MAX_RECIPIENTS + 1)[: MAX_RECIPIENTS + 1]:
        block = text.lstrip(b"\r\n") + b"\r\n"
        spans, _, _ = scan_header(block, MAX_PART)
        if spans:
            blocks.append({span.name.lower(): unfold(block[span.value_start : span.end]) for span in reversed(spans)})
    return blocks


def _read_recipient(block: dict[str, str]) -> DsnStatus:
    return DsnStatus(
        original=_read_address(block.get("original-recipient", "")),
        final=_read_address(block["final-recipient"]),
        action=block.get("action", "").partition(" ")[0].lower(),
        status=block.get("status", "").partition(" ")[0],
        diagnostic=_untyped(block.get("diagnostic-code", ""))[:MAX_DIAGNOSTIC],
        remote_mta=_untyped(block.get("remote-mta", "")),
    )


def _untyped(value: str) -> str:
    kind, semicolon, rest = value.partition(";")
    return (rest if semicolon else kind).strip()


def _read_address(value: str) -> str:
    kind, _, _ = value.partition(";")
    address = _untyped(value)
    if kind.strip().lower() == "utf-8":
        try:
            return decode_utf8_address(address)
        except Malformed:
            return address
    return address.removeprefix("<").removesuffix(">")


def _original_ids(raw: bytes, body_start: int, parts: Sequence[MimePart], header: dict[str, str]) -> tuple[str, ...]:
    """Gather the Message-IDs of what came back, returned messages and headers first, then other text, then answers."""
    found: dict[str, None] = {}
    for part in sorted(parts, key=lambda part: part.content_type in ("text/plain", "text/html")):
        if part.content_type.startswith(("text/", "message/")) and len(found) < MAX_MESSAGE_IDS:
            found.update(dict.fromkeys(_quoted_ids(part.decode(raw, MAX_PART))))
    if not found:
        # Boundaries that do not match, or the returned header in the place of a part's own.
        found.update(dict.fromkeys(_quoted_ids(raw[body_start : body_start + MAX_PART])))
    for name in ("in-reply-to", "references"):
        found.update(dict.fromkeys(_MESSAGE_ID.findall(header.get(name, "")[:MAX_PART])))
    return tuple(found)[:MAX_MESSAGE_IDS]


def _quoted_ids(text: bytes) -> Iterator[str]:
    """Yield the values of lines `Message-ID:` in a text, also where they are quoted or called Original-Message-ID."""
    folded = text.lower()
    at = folded.find(b"message-id:")
    for _ in range(10 * MAX_MESSAGE_IDS):
        if at < 0:
            return
        line_start = folded.rfind(b"\n", max(0, at - 100), at) + 1
        value = unfold(text[at + 11 : at + 1100].lstrip().partition(b"\n")[0])
        if _BEFORE_NAME.fullmatch(folded, max(line_start, at - 100), at):
            match = _MESSAGE_ID.search(value) or _BARE_MESSAGE_ID.match(value)
            if match:
                yield match[0] if match[0].startswith("<") else f"<{match[0]}>"
        at = folded.find(b"message-id:", at + 11)


def _own_message_ids(header: bytes) -> list[str]:
    spans, _, _ = scan_header(header, MAX_RETURNED_HEADER)
    values = [unfold(header[span.value_start : span.end]) for span in spans if span.name.lower() == "message-id"]
    return [match[0] for value in values if (match := _MESSAGE_ID.search(value))]


def _crlf(text: bytes) -> bytes:
    return _UNSTANDARD_LINE_END.sub(b"\r\n", text)
