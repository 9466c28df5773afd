"""Re-encode a message for a host that takes 7 bits only (RFC 6152 section 3, RFC 2045 section 6).

Leaves with octets over 127 become quoted-printable (text) or base64 (all else); what is 7-bit already stays as it is.
Header fields are not touched, raw UTF-8 in them neither: such mail is older than the standards for it and passes as it
came.
"""

import base64
import binascii
import re

from gateway.mail.fields import FieldSpan, scan_header, unfold

MAX_HEADER = 1 << 20  # octets of one part's header
MAX_DEPTH = 30
MAX_PARTS = 5_000
MAX_DELIMITER = 200  # octets after a boundary that are looked at for the line's end

_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"\\]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_TO_ASCII = bytes(octet if octet < 128 else ord("?") for octet in range(256))
# RFC 2045 section 6.4: composite types have no encoding of their own; what is signed must not be changed at all.
_SEALED = ("multipart/signed", "multipart/encrypted")


class CannotConvert(Exception):
    """The message cannot be said in 7 bits without changing what it is; the text says why."""


def seven_bit(raw: bytes) -> bytes:
    """Return the message (CRLF line ends) with a body of 7 bits. Raises CannotConvert."""
    return b"".join(_Converter().part(raw, "text/plain", depth=0))


class _Converter:
    """One conversion; counts parts against the limit."""

    def __init__(self) -> None:
        self._parts = 0

    def part(self, raw: bytes, default_type: str, *, depth: int) -> list[bytes]:
        """Return one part, header and body, in pieces."""
        self._parts += 1
        if depth > MAX_DEPTH or self._parts > MAX_PARTS:
            raise CannotConvert("too many parts in parts")
        fields, body_start, _ = scan_header(raw, MAX_HEADER)
        body = raw[body_start:]
        if body.isascii():
            return [raw]
        content_type = _value(raw, fields, "content-type")
        encoding = _value(raw, fields, "content-transfer-encoding").lower() or "7bit"
        kind = content_type.partition(";")[0].strip().lower() or default_type
        if encoding not in ("7bit", "8bit", "binary"):
            raise CannotConvert(f"8-bit octets under the encoding {encoding[:40]!r}")
        if kind.startswith("multipart/"):
            pieces = self._multipart(kind, content_type, body, depth)
            encoding = "7bit"
        elif kind in ("message/rfc822", "message/news"):
            pieces = self.part(body, "text/plain", depth=depth + 1)
            encoding = "7bit"
        elif kind.startswith("text/"):
            pieces = [_quoted_printable(body)]
            encoding = "quoted-printable"
        elif kind.startswith("message/") and kind != "message/global":
            raise CannotConvert(f"{kind} must not be encoded")  # RFC 2046 section 5.2
        else:
            pieces = [_base64(body)]
            encoding = "base64"
        return [*_header(raw, fields, body_start, encoding, is_top=depth == 0), *pieces]

    def _multipart(self, kind: str, content_type: str, body: bytes, depth: int) -> list[bytes]:
        if kind in _SEALED:
            raise CannotConvert(f"{kind} must not be changed")
        found = _BOUNDARY.search(content_type)
        boundary = (found[1] or found[2]) if found else ""
        if not boundary or not boundary.isascii():
            raise CannotConvert("multipart without a usable boundary")
        default_type = "message/rfc822" if kind == "multipart/digest" else "text/plain"  # RFC 2046 section 5.1.5
        pieces: list[bytes] = []
        at = 0
        for start, end in _part_spans(body, boundary.encode()):
            pieces.append(body[at:start].translate(_TO_ASCII))  # preamble and delimiters: nobody reads them
            pieces += self.part(body[start:end], default_type, depth=depth + 1)
            at = end
        pieces.append(body[at:].translate(_TO_ASCII))
        return pieces


def _value(raw: bytes, fields: tuple[FieldSpan, ...], name: str) -> str:
    """Return the first field's value without comments being understood; "" when there is none."""
    for field in fields:
        if field.name.lower() == name:
            return unfold(raw[field.value_start : field.end])
    return ""


def _header(raw: bytes, fields: tuple[FieldSpan, ...], body_start: int, encoding: str, *, is_top: bool) -> list[bytes]:
    """Return a part's header with its empty line, saying `encoding` in place of what it said."""
    pieces = []
    at = 0
    for field in fields:
        if field.name.lower() == "content-transfer-encoding":
            pieces.append(raw[at : field.start])
            at = field.end
    end = fields[-1].end if fields else 0
    pieces.append(raw[at:end])
    names = {field.name.lower() for field in fields}
    if is_top and "mime-version" not in names:
        pieces.append(b"MIME-Version: 1.0\r\n")
    if is_top and "content-type" not in names:
        # RFC 1428 section 3: the character set is not known here.
        pieces.append(b"Content-Type: text/plain; charset=unknown-8bit\r\n")
    pieces.append(f"Content-Transfer-Encoding: {encoding}\r\n".encode())
    pieces.append(raw[end:body_start] or b"\r\n")
    return pieces


def _quoted_printable(body: bytes) -> bytes:
    # The codec breaks long lines with the body's first kind of line end, or LF where it has none.
    return binascii.b2a_qp(body, istext=True).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _base64(body: bytes) -> bytes:
    return base64.encodebytes(body).replace(b"\n", b"\r\n")


def _part_spans(body: bytes, boundary: bytes) -> list[tuple[int, int]]:
    """Return start and end of each part between delimiter lines; a missing last delimiter ends with the body."""
    mark = b"--" + boundary
    spans = []
    start = -1
    at = body.find(mark)
    while at >= 0:
        after = at + len(mark)
        if at == 0 or body[at - 2 : at] == b"\r\n":
            line_end = body.find(b"\r\n", after, after + MAX_DELIMITER)
            line = body[after : line_end if line_end >= 0 else after + MAX_DELIMITER]
            is_last = line.startswith(b"--")
            if not line[2 if is_last else 0 :].strip(b" \t"):
                if start >= 0:
                    spans.append((start, max(start, at - 2)))
                start = -1 if is_last else after + len(line) + 2
                if is_last:
                    break
        at = body.find(mark, after)
    if 0 <= start < len(body):
        spans.append((start, len(body)))
    return spans
