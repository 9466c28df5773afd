"""RTF: objects within, templates and fields that fetch or start something (RTF specification 1.9.1, MS-OLEDS 2.2).

Readers are lenient and attacks live on that: hexadecimal digits broken by groups, controls, spaces and raw octets are
put together as Word does it. Text and layout are not read.
"""

import re
from binascii import unhexlify

from gateway.inspection.formats.fields import is_remote, note_field
from gateway.inspection.formats.ole_package import open_object
from gateway.inspection.look import Look

OPENS = ("application/rtf",)
# Controls whose text is of interest: they cannot be broken by anything, so a file without them needs no reading.
WANTED = re.compile(rb"\\(?:objdata|template|fldinst|htmltag|objocx|objlink|objautlink)(?![a-z])", re.I)
TOKEN = re.compile(
    rb"(?P<text>[^\\{}]+)|(?P<open>\{)|(?P<close>\})"
    rb"|\\(?P<word>[A-Za-z]{1,64})(?P<number>-?[0-9]{1,20})?[ ]?"
    rb"|\\'(?P<octet>[0-9A-Fa-f]{0,2})|\\(?P<symbol>[^A-Za-z'])|\\"
)
NOT_HEX = re.compile(rb"[^0-9A-Fa-f]+")
OCX = re.compile(rb"\\objocx(?![a-z])", re.IGNORECASE)
LINK = re.compile(rb"\\obj(?:aut)?link(?![a-z])", re.IGNORECASE)
URL = re.compile(r"https?://[^\s\"'<>]{1,2048}", re.IGNORECASE)
# Objects, templates, fields, and the HTML that Outlook wraps in RTF (MS-OXRTFEX 2.1.3.1.4).
KEPT = (b"objdata", b"template", b"fldinst", b"htmltag")
MAX_NESTING = 5000  # groups; Word stops long before
# Destinations that stand within kept ones in good files; their text is none of it.
OTHER = (b"objclass", b"objname", b"objtime", b"result", b"datafield", b"fldrslt", b"bkmkstart", b"bkmkend", b"pict")


class Group:
    """What one group collects: for one of `KEPT`, or nothing."""

    __slots__ = ("binary", "fallback", "kind", "skip", "text")

    def __init__(self, kind: bytes = b"") -> None:
        self.kind = kind
        self.text = bytearray()
        self.binary: list[tuple[int, bytes]] = []  # octets of \\bin and where in the text they stand
        self.fallback = 1  # octets that stand for a Unicode character in readers that know none: \\uc
        self.skip = 0  # how many of them come next


def open_file(look: Look) -> None:
    # Word takes {\\rt for the start, whatever the version that follows (RTF 1.9.1 asks for {\\rtf1).
    if not WANTED.search(look.data):
        return
    for group in collected(look):
        take_group(look, group)
    note_controls(look)


def take_group(look: Look, group: Group) -> None:
    octets = contents(group)
    text = octets.decode("latin-1")
    if group.kind == b"objdata":
        open_object(look, octets)
    elif group.kind == b"template":
        if is_remote(text.strip()):
            look.note_active("external_template")
    elif group.kind == b"htmltag":
        for url in URL.findall(text):
            look.note_link(url)
    else:
        note_field(look, text)


def note_controls(look: Look) -> None:
    if OCX.search(look.data):
        look.note_active("activex")
    if LINK.search(look.data):
        look.note_active("external_relationship")


def collected(look: Look) -> list[Group]:
    """Return the groups of interest, in order; those that are not closed as well: they are shown all the same."""
    found: list[Group] = []
    stack = [Group()]
    place = count = 0
    while token := TOKEN.match(look.data, place):
        place = token.end()
        count += 1
        if count % 4096 == 0:
            look.check_time()
        kind = token.lastgroup
        if kind == "open":
            if len(stack) > MAX_NESTING:
                look.note_problem("damaged")
                break
            stack.append(stack[-1])
        elif kind == "close":
            del stack[max(len(stack) - 1, 1) :]
        elif kind in ("word", "number"):
            group = stack[-1]
            place += take_word(stack, token, look.data, place)
            if stack[-1] is not group and stack[-1].kind:
                found.append(stack[-1])
        elif stack[-1].kind:
            stack[-1].text += literal(stack[-1], token)
    return found


def literal(group: Group, token: re.Match[bytes]) -> bytes:
    """Return what a text, an escaped octet or a symbol adds."""
    if token["text"]:
        skip, group.skip = group.skip, 0
        return token["text"][skip:]
    if group.kind == b"objdata":
        return b""  # Word passes over escaped octets among hexadecimal digits
    if token["octet"] is not None and group.skip:
        group.skip -= 1
        return b""
    if token["octet"] is not None:
        return bytes((int(token["octet"], 16),)) if token["octet"] else b""
    return token["symbol"] if token["symbol"] in (b"\\", b"{", b"}") else b""


def take_word(stack: list[Group], token: re.Match[bytes], data: bytes, place: int) -> int:
    """Follow one control word; return how many octets behind it are raw (\\bin)."""
    word = token["word"].lower()
    if word == b"bin":
        size = min(max(int(token["number"] or b"0"), 0), len(data) - place)
        if stack[-1].kind:
            stack[-1].binary.append((len(stack[-1].text), data[place : place + size]))
        return size
    group = stack[-1]
    number = int(token["number"] or b"0")
    if word == b"uc":
        group.fallback = min(max(number, 0), 16)
    elif word == b"u" and group.kind not in (b"", b"objdata"):
        group.text += chr(number & 0xFFFF).encode("latin-1", "replace")
        group.skip = group.fallback
    elif word in KEPT and group.kind != word:
        stack[-1] = Group(word)
    elif word in OTHER and group.kind:
        stack[-1] = Group()
    return 0


def contents(group: Group) -> bytes:
    """Return the octets of a group: decoded digits and raw octets for an object, else the text."""
    if group.kind != b"objdata":
        return bytes(group.text).replace(b"\r", b"").replace(b"\n", b"")
    out = bytearray()
    start = 0
    for place, raw in (*group.binary, (len(group.text), b"")):
        digits = NOT_HEX.sub(b"", bytes(group.text[start:place]))
        out += unhexlify(digits[: len(digits) & ~1]) + raw
        start = place
    return bytes(out)
