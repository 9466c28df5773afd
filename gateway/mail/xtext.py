"""xtext, the coding of ENVID and ORCPT in SMTP parameters (RFC 3461 section 4), and its UTF-8 kin (RFC 6533)."""

import re

from gateway.mail.errors import Malformed

# RFC 3461 section 4: xchar is "!" to "~" but "+" and "="; anything else is "+" and two upper-case hexadecimal digits.
_XTEXT = re.compile(r"(?>(?:[!-*,-<>-~]++|\+[0-9A-F]{2})*)")
_TO_ENCODE = re.compile(rb"[^!-*,-<>-~]")
_HEX = re.compile(rb"\+([0-9A-F]{2})")
# RFC 6533 section 3: EmbeddedUnicodeChar is \x{HEX}, with the fewest digits.
_EMBEDDED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_TO_EMBED = re.compile(r"[^!-*,-<>-\[\]-~]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


def encode_xtext(text: str) -> str:
    """Return `text` (as UTF-8 octets) in xtext."""
    return _TO_ENCODE.sub(_hex, text.encode()).decode("ascii")


def decode_xtext(text: str) -> str:
    """Return what xtext stands for. Raises Malformed for anything but xtext of printable text in UTF-8.

    Controls are refused though xtext could carry them: what is decoded is written into header fields.
    """
    if not _XTEXT.fullmatch(text):
        raise Malformed("not xtext")
    try:
        decoded = _HEX.sub(_octet, text.encode("ascii")).decode()
    except UnicodeDecodeError:
        raise Malformed("xtext that is not UTF-8") from None
    return _printable(decoded)


def encode_utf8_address(text: str) -> str:
    """Return an address of type utf-8 in ASCII (RFC 6533 section 3, utf-8-addr-xtext)."""
    return _TO_EMBED.sub(_embedded, text)


def decode_utf8_address(text: str) -> str:
    """Return the address that utf-8-addr-xtext or utf-8-addr-unitext stands for. Raises Malformed."""
    if "\\" in _EMBEDDED.sub("", text) or re.search(r"[\s+=]", text):
        raise Malformed("not an address of type utf-8")
    return _printable(_EMBEDDED.sub(_character, text))


def _hex(octet: re.Match[bytes]) -> bytes:
    return b"+%02X" % octet[0][0]


def _octet(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 16)])


def _embedded(letter: re.Match[str]) -> str:
    return f"\\x{{{ord(letter[0]):02X}}}"


def _character(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    if number > 0x10FFFF or 0xD800 <= number < 0xE000:
        raise Malformed("no such character")
    return chr(number)


def _printable(text: str) -> str:
    if _UNPRINTABLE.search(text):
        raise Malformed("a control in xtext")
    return text
