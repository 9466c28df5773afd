"""The leaf parts of a MIME message, found without decoding more than is asked for (RFC 2045, RFC 2046).

For reading notifications, which are small and simple: bounded in depth, number and size, and forgiving. What filters
must know of hostile attachments is `inspection`'s to find out.
"""

import binascii
import re
from collections.abc import Iterator

from msgspec import Struct

from gateway.mail.fields import scan_header, unfold

MAX_DEPTH = 5
MAX_PARTS = 50
MAX_PART_HEADER = 32 * 1024  # octets

_TYPE = re.compile(r"\s*([!-.0-~]{1,100}/[!-.0-~]{1,100}?)\s*(?:;|\Z)")
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)


class MimePart(Struct, frozen=True):
    """One leaf: its type in lower case, its transfer encoding, and where its header and body lie in the message."""

    content_type: str
    encoding: str
    start: int
    body_start: int
    end: int

    def decode(self, raw: bytes, max_bytes: int) -> bytes:
        """Return the body of at most `max_bytes` octets with its encoding undone. Damage is skipped."""
        body = raw[self.body_start : min(self.end, self.body_start + max_bytes)]
        if self.encoding == "base64":
            return _from_base64(body)
        if self.encoding == "quoted-printable":
            return binascii.a2b_qp(body)
        return body


def leaf_parts(raw: bytes) -> list[MimePart]:
    """Return the leaves of a message in order, at most 50; an attached message is one, as is one without parts."""
    parts: list[MimePart] = []
    _walk(raw, 0, len(raw), 0, parts)
    return parts


def content_type(value: str) -> str:
    """Return the type of a Content-Type value in lower case, `text/plain` for nonsense (RFC 2045 section 5.2)."""
    found = _TYPE.match(value)
    return found[1].lower() if found else "text/plain"


def _walk(raw: bytes, start: int, end: int, depth: int, parts: list[MimePart]) -> None:
    header = raw[start : min(end, start + MAX_PART_HEADER)]
    spans, body_at, _ = scan_header(header, MAX_PART_HEADER)
    values = {span.name.lower(): unfold(header[span.value_start : span.end]) for span in reversed(spans)}
    declared = values.get("content-type", "")
    kind = content_type(declared)
    body_start = start + body_at
    boundary = _BOUNDARY.search(declared)
    if kind.startswith("multipart/") and boundary and depth < MAX_DEPTH:
        delimiter = b"--" + (boundary[1] or boundary[2]).encode("latin-1", "replace")
        for part_start, part_end in _between(raw, delimiter, body_start, end):
            if len(parts) < MAX_PARTS:
                _walk(raw, part_start, part_end, depth + 1, parts)
        return
    encoding = values.get("content-transfer-encoding", "").strip().lower()
    parts.append(MimePart(kind, encoding, start, body_start, end))


def _between(raw: bytes, delimiter: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges between delimiter lines; the last part may lack its end (RFC 2046 section 5.1.1)."""
    part_start = -1
    at = start
    for _ in range(4 * MAX_PARTS):
        at = raw.find(delimiter, at, end)
        if at < 0:
            break
        if at > start and raw[at - 1] != 0x0A:
            at += len(delimiter)
            continue
        if part_start >= 0:
            yield part_start, max(part_start, at - 2)  # the CRLF before a delimiter belongs to it
        line_end = raw.find(b"\n", at, end)
        is_last = raw.startswith(b"--", at + len(delimiter))
        part_start = -1 if is_last or line_end < 0 else line_end + 1
        if part_start < 0:
            return
        at = part_start
    if part_start >= 0:
        yield part_start, end


def _from_base64(body: bytes) -> bytes:
    try:
        return binascii.a2b_base64(body)
    except binascii.Error:
        letters = re.sub(rb"[^A-Za-z0-9+/]", b"", body)
        return binascii.a2b_base64(letters[: len(letters) // 4 * 4])
