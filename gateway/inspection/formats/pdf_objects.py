"""The syntax of PDF (ISO 32000-1, 7.2 to 7.5), read from the octets and not by the cross references.

Cross references are what attacks damage first, and readers rebuild them by looking for objects, as here: whatever
stands anywhere in the file as an object counts, older versions of it as well.
"""

import re
import zlib
from binascii import Error as BadHex
from binascii import unhexlify
from collections.abc import Callable, Container, Iterator

from msgspec import Struct

from gateway.inspection.look import Look

Decrypt = Callable[[bytes], bytes]
BEFORE_OBJ = re.compile(rb"(\d{1,10})[\s\0]{1,8}(\d{1,5})[\s\0]{0,8}$")
OBJ = re.compile(rb"(?<![A-Za-z])obj|trailer")
TRAILER = -1  # stands for the number of a trailer dictionary, which is no object (7.5.5)
# Tokens within an object (7.2.2, 7.3). Strings in which parentheses are nested deeper fall apart into smaller tokens.
_IN_STRING = rb"(?>(?:[^()\\]++|\\.|\((?>(?:[^()\\]++|\\.|\((?>(?:[^()\\]++|\\.)*)\))*)\))*)"
TOKEN = re.compile(
    rb"(?P<comment>%[^\r\n]*)|\((?P<string>" + _IN_STRING + rb")\)|(?P<open><<)|(?P<close>>>)"
    rb"|<(?P<hex>[0-9A-Fa-f\s\0]*)>|/(?P<name>[^\s\0()<>\[\]{}/%]{0,512})"
    rb"|(?P<reference>\d{1,10}[\s\0]{1,8}\d{1,5}[\s\0]{1,8}R(?![A-Za-z]))|(?P<array>[\[\]])"
    rb"|(?P<word>[^\s\0()<>\[\]{}/%]+)",
    re.DOTALL,
)
ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|\r\n|(.))", re.DOTALL)
ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"\n": b"", b"\r": b""}
NAME_ESCAPE = re.compile(rb"#([0-9A-Fa-f]{2})")  # 7.3.5
TRAILER_START = ord("t")
MAX_HEAD = 1 << 20  # octets of an object outside its stream; and of its tokens
MAX_TOKENS = 100_000
INFLATED = 64 * 1024  # octets at a time
ASCII85 = re.compile(rb"[^!-uz]+")


class Token(Struct, frozen=True, array_like=True, gc=False):
    """One token. Kinds: string, name (unescaped), reference (number of the object), open, close, array, word."""

    kind: str
    value: bytes


class PdfObject(Struct):
    """One object: its tokens, and where its stream starts (-1: it has none)."""

    number: int
    generation: int
    tokens: list[Token]
    stream_start: int = -1

    def after(self, name: bytes) -> Iterator[Token]:
        """Yield the token behind each `name`."""
        wanted = Token("name", name)
        for place in range(len(self.tokens) - 1):
            if self.tokens[place] == wanted:
                yield self.tokens[place + 1]

    def values(self, name: bytes) -> list[Token]:
        """Return the tokens of the value behind the first `name`: one, or those of an array or a dictionary."""
        wanted = Token("name", name)
        for place, token in enumerate(self.tokens[:-1]):
            if token == wanted:
                return value_at(self.tokens, place + 1)
        return []

    def number_after(self, name: bytes) -> int | None:
        token = next(self.after(name), None)
        return int(token.value) if token and token.kind == "word" and token.value.isdigit() else None

    def names(self) -> set[bytes]:
        return {token.value for token in self.tokens if token.kind == "name"}


def value_at(tokens: list[Token], place: int) -> list[Token]:
    """Return the tokens of one value."""
    depth = 0
    for end in range(place, len(tokens)):
        token = tokens[end]
        depth += token.kind == "open" or token == Token("array", b"[")
        depth -= token.kind == "close" or token == Token("array", b"]")
        if depth <= 0:
            return tokens[place : end + 1]
    return tokens[place:]


def tokens_of(look: Look, data: bytes, start: int, end: int) -> tuple[list[Token], int]:
    """Return the tokens of an object from `start` on, and where its stream starts, -1 if it has none."""
    look.check_time()
    found: list[Token] = []
    for match in TOKEN.finditer(data, start, min(end, start + MAX_HEAD)):
        kind = match.lastgroup or ""
        value = match[kind]
        if kind == "word" and value.startswith((b"stream", b"endobj")):
            return found, match.start() if value.startswith(b"stream") else -1
        if len(found) >= MAX_TOKENS:
            look.note_problem("too_big")
            return found, -1
        if kind != "comment":
            found.append(token_of(kind, value))
    if end > start + MAX_HEAD:
        look.note_problem("too_big")
    return found, -1


def token_of(kind: str, value: bytes) -> Token:
    if kind == "string":
        return Token("string", unescaped(value))
    if kind == "hex":
        return Token("string", unhexed(value))
    if kind == "name":
        return Token("name", NAME_ESCAPE.sub(lambda found: unhexlify(found[1]), value))
    if kind == "reference":
        return Token("reference", value.split(None, 1)[0].lstrip(b"0") or b"0")
    return Token(kind, value)


def unescaped(value: bytes) -> bytes:
    """Return a literal string's octets (7.3.4.2)."""
    if b"\\" not in value:
        return value
    return ESCAPE.sub(
        lambda found: bytes((int(found[1], 8) & 255,)) if found[1] else ESCAPED.get(found[2] or b"\n", found[2] or b""),
        value,
    )


def unhexed(value: bytes) -> bytes:
    digits = b"".join(value.replace(b"\0", b"").split())
    return unhexlify(digits + b"0" * (len(digits) % 2))  # 7.3.4.3: a missing last digit is 0


def text_of(value: bytes) -> str:
    """Return a text string (7.9.2.2): UTF-16 or UTF-8 by its mark, else near enough Latin-1."""
    if value.startswith((b"\xfe\xff", b"\xff\xfe")):
        return value.decode("utf-16", "replace")
    return value.removeprefix(b"\xef\xbb\xbf").decode("utf-8" if value.startswith(b"\xef\xbb\xbf") else "latin-1")


def objects(look: Look, wanted: re.Pattern[bytes] | None, numbers: Container[int] | None = None) -> Iterator[PdfObject]:
    """Yield objects and trailers of the file, in order.

    Those that `wanted` matches in their octets outside the stream, or, without it, those of these numbers.
    """
    data = look.data
    places = [(found.start(), found.end()) for found in OBJ.finditer(data)]
    for index, (start, body) in enumerate(places):
        if index % 256 == 0:
            look.check_time()
        head = BEFORE_OBJ.search(data[max(start - 26, 0) : start])
        number = TRAILER if data[start] == TRAILER_START else int(head[1]) if head else None
        end = places[index + 1][0] if index + 1 < len(places) else len(data)
        if number is None or (numbers is not None and number not in numbers):
            continue
        if wanted is None or is_wanted(data, wanted, body, end):
            tokens, stream = tokens_of(look, data, body, end)
            yield PdfObject(number, int(head[2]) if head else 0, tokens, stream)


def is_wanted(data: bytes, wanted: re.Pattern[bytes], start: int, end: int) -> bool:
    """Whether the pattern is found in an object, its stream aside."""
    stream = data.find(b"stream", start, end)
    if wanted.search(data, start, end if stream < 0 else stream):
        return True
    # A string may hold the word "stream" to hide what follows: then only the tokens tell.
    return stream >= 0 and odd_stream(data, stream) and wanted.search(data, start, end) is not None


def odd_stream(data: bytes, place: int) -> bool:
    """Whether the word `stream` stands where no reader takes it for the keyword: not behind a dictionary."""
    return not data[max(place - 16, 0) : place].rstrip().endswith(b">>")


def packed_objects(look: Look, holder: PdfObject, content: bytes) -> Iterator[PdfObject]:
    """Yield the objects in an object stream (7.5.7)."""
    first = holder.number_after(b"First") or 0
    index = re.findall(rb"(\d{1,10})\s+(\d{1,10})", content[:first])
    starts = [(int(number), first + int(offset)) for number, offset in index]
    for place, (number, start) in enumerate(starts):
        if place % 256 == 0:
            look.check_time()
        end = starts[place + 1][1] if place + 1 < len(starts) else len(content)
        tokens, _ = tokens_of(look, content, start, max(end, start))
        yield PdfObject(number, 0, tokens)


def stream_octets(data: bytes, item: PdfObject) -> bytes:
    """Return a stream as it stands in the file (7.3.8.1): by its length if that is true, else to `endstream`."""
    start = item.stream_start + len(b"stream")
    start += 2 if data[start : start + 2] == b"\r\n" else data[start : start + 1] in (b"\n", b"\r")
    size = item.number_after(b"Length")
    if size is not None and data[start + size : start + size + 12].lstrip().startswith(b"endstream"):
        return data[start : start + size]
    end = data.find(b"endstream", start)
    return data[start : end if end >= 0 else len(data)]


def content_of(look: Look, item: PdfObject, decrypt: Decrypt | None = None) -> bytes:
    """Return a stream unpacked. What cannot be is noted. Raises LimitReached like `Look.take`."""
    if item.stream_start < 0:
        return b""
    if (item.number_after(b"Predictor") or 1) > 1:  # 7.4.4.4, of use for pictures only
        look.note_problem("unsupported")
    content = stream_octets(look.data, item)
    if decrypt is not None:
        content = decrypt(content)
    filters = [t.value for name in (b"Filter", b"F") for t in item.values(name) if t.kind == "name"]
    for name in filters[:8]:
        content = look.take(unpacked(look, name, content), packed=len(content))
    return content


def unpacked(look: Look, name: bytes, packed: bytes) -> Iterator[bytes]:
    """Yield what a filter unpacks (7.4)."""
    try:
        if name in (b"FlateDecode", b"Fl"):
            yield from inflated(packed)
        elif name in (b"ASCIIHexDecode", b"AHx"):
            yield unhexed(re.sub(rb"[^0-9A-Fa-f]", b"", packed.split(b">", 1)[0]))
        elif name in (b"ASCII85Decode", b"A85"):
            yield from ascii85(packed)
        elif name != b"Crypt":
            look.note_problem("unsupported")
            yield packed
    except (zlib.error, BadHex):
        look.note_problem("damaged")


def inflated(packed: bytes) -> Iterator[bytes]:
    unpacker = zlib.decompressobj()
    while packed and not unpacker.eof:
        yield unpacker.decompress(packed, INFLATED)
        packed = unpacker.unconsumed_tail


def ascii85(packed: bytes) -> Iterator[bytes]:
    """Yield groups of four octets from five digits (7.4.3)."""
    digits = ASCII85.sub(b"", packed.split(b"~", 1)[0].lstrip(b"<")).replace(b"z", b"!!!!!")
    for place in range(0, len(digits), 5):
        group = digits[place : place + 5]
        value = 0
        for digit in group.ljust(5, b"u"):
            value = value * 85 + digit - 33
        yield (value & 0xFFFFFFFF).to_bytes(4, "big")[: max(len(group) - 1, 0)]
