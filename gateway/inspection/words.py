"""Encoded words in header fields (RFC 2047): decoded for matching and display in linear time, and written.

The standard library's decoder needs seconds for one long hostile Subject. What cannot be decoded stays as it is.
"""

import binascii
import codecs
import re
from collections.abc import Iterator
from encodings.aliases import aliases
from functools import lru_cache
from itertools import islice

MAX_CHUNK = 45  # octets of one encoded word: 60 characters, and 12 around them
MAX_WORDS = 500  # encoded words of one value that are decoded; more stay encoded
CHARSETS = re.compile(
    r"utf_(?:7|8|16|16_be|16_le|32|32_be|32_le)|ascii|latin_1|iso8859_\d{1,2}|cp\d{3,4}|koi8_[rtu]|ptcp154|kz1048|tis_620"
    r"|gb2312|gbk|gb18030|hz|big5(?:hkscs)?|shift_jis(?:x0213|_2004)?|euc_(?:jp|kr|jis_2004|jisx0213)|johab"
    r"|iso2022_(?:jp|kr|jp_[123]|jp_2004|jp_ext)|mac_(?:roman|cyrillic|greek|latin2|turkish|iceland)|hp_roman8"
)
# RFC 2047 section 2, without its limit of 75 characters, which real mail ignores.
_WORD = re.compile(r"=\?([!-)+->@-~]{1,40})(?:\*[!->@-~]{0,40})?\?([bBqQ])\?([!->@-~ ]*+)\?=")


_UNFIT = dict.fromkeys([*range(32), 127], " ")


@lru_cache(maxsize=512)
def codec_of(charset: str) -> str:
    """Return Python's name of a charset, "" for one that no mail has: some codecs are no charsets, or slow."""
    name = charset.lower().replace("-", "_")
    name = aliases.get(name, name)
    if not CHARSETS.fullmatch(name):
        return ""
    try:
        return codecs.lookup(name).name
    except LookupError:
        return ""


def decode_words(value: str) -> str:
    """Return an unfolded value with its encoded words decoded; blanks between two of them go (RFC 2047 section 6.2).

    Decoded controls become blanks, and what is no character a replacement mark.
    """
    if "=?" not in value:
        return value
    text = "".join(_parts(value)).translate(_UNFIT)
    return text.encode("utf-8", "replace").decode()  # UTF-7 can yield half of a surrogate pair


def encode_words(text: str) -> str:
    """Return text as encoded words in UTF-8 with blanks between, at most 75 characters each (RFC 2047 section 2).

    A character is never split between two of them (section 5). Plain ASCII text stays as it is.
    """
    if text.isascii() and "=?" not in text:
        return text
    words: list[str] = []
    chunk = b""
    for char in text:
        octets = char.encode("utf-8", "replace")
        if len(chunk) + len(octets) > MAX_CHUNK:
            words.append(_encoded(chunk))
            chunk = b""
        chunk += octets
    return " ".join([*words, _encoded(chunk)])


def _encoded(octets: bytes) -> str:
    return f"=?utf-8?b?{binascii.b2a_base64(octets, newline=False).decode()}?="


def _parts(value: str) -> Iterator[str]:
    waiting: list[bytes] = []  # adjacent words of one charset: writers split characters between them
    charset = ""
    at = 0
    for word in islice(_WORD.finditer(value), MAX_WORDS):
        between = value[at : word.start()]
        codec = codec_of(word[1])
        octets = _octets(word[2], word[3]) if codec else None
        is_adjacent = bool(waiting) and octets is not None and not between.strip(" \t")
        if waiting and not (is_adjacent and codec == charset):
            yield b"".join(waiting).decode(charset, "replace")
            waiting = []
        if not is_adjacent:
            yield between
        if octets is None:
            yield word[0]
        else:
            charset = codec
            waiting.append(octets)
        at = word.end()
    if waiting:
        yield b"".join(waiting).decode(charset, "replace")
    yield value[at:]


def _octets(encoding: str, text: str) -> bytes | None:
    try:
        if encoding in "qQ":
            return binascii.a2b_qp(text.encode("ascii"), header=True)
        return binascii.a2b_base64(text.encode("ascii") + b"==")
    except ValueError:  # also binascii.Error
        return None
