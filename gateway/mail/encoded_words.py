"""Text of header fields as encoded words (RFC 2047), for what our own edits write. Plain ASCII stays as it is."""

from base64 import b64encode
from collections.abc import Iterator

MAX_OCTETS = 45  # of one word: with `=?utf-8?B?` and `?=` at most 75 characters (RFC 2047 section 2)


def encoded(text: str) -> str:
    """Return unfolded text so that it may stand in a field. It decodes to the same, blanks at either end included."""
    if text.isascii():
        return text
    # RFC 2047 section 6.2: the blank between two words is not shown.
    return " ".join(f"=?utf-8?B?{b64encode(octets).decode()}?=" for octets in _pieces(text))


def _pieces(text: str) -> Iterator[bytes]:
    """Yield the text in UTF-8, in pieces of whole characters (RFC 2047 section 5)."""
    piece = b""
    for letter in text:
        octets = letter.encode("utf-8", "replace")
        if len(piece) + len(octets) > MAX_OCTETS:
            yield piece
            piece = b""
        piece += octets
    yield piece
