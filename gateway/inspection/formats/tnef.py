"""TNEF (winmail.dat, MS-OXTNEF): what Outlook sends as one file: attachments, messages within, and the body."""

import struct
from collections.abc import Iterator

from msgspec import Struct

from gateway.inspection.formats.rtf_compressed import unpacked
from gateway.inspection.look import Look

OPENS = ("application/vnd.ms-tnef",)
SIGNATURE = b"\x78\x9f\x3e\x22"  # MS-OXTNEF 2.1.3.1
# Attributes, MS-OXTNEF 2.1.3.2, without their types: those are sometimes wrong, and readers pass over them.
RENDERING, TITLE, DATA, PROPERTIES, MESSAGE, BODY = 0x9002, 0x8010, 0x800F, 0x9005, 0x9003, 0x800C
# Properties, MS-OXPROPS.
CONTENT, LONG_NAME, SHORT_NAME, DISPLAY_NAME, MIME_TYPE = 0x3701, 0x3707, 0x3704, 0x3001, 0x370E
RTF, HTML, TEXT = 0x1009, 0x1013, 0x1000
# Sizes of values by type, MS-OXCDATA 2.11.1; those of less than four octets are padded (MS-OXTNEF 2.1.3.3.2).
FIXED = {2: 4, 3: 4, 4: 4, 10: 4, 11: 4, 5: 8, 6: 8, 7: 8, 0x14: 8, 0x40: 8, 0x48: 16}
NARROW, WIDE, OBJECT, BINARY = 0x1E, 0x1F, 0x0D, 0x102
MAX_VALUES = 10_000  # of one property


class Attachment(Struct):
    """One attachment while its attributes are read."""

    title: str = ""
    data: bytes = b""
    properties: bytes = b""


def open_file(look: Look) -> None:
    attachments: list[Attachment] = []
    for kind, body in attributes(look):
        if kind == RENDERING:
            attachments.append(Attachment())
        elif kind == MESSAGE:
            open_body(look, body)
        elif kind == BODY:
            look.note_text(body.decode("latin-1").rstrip("\0"))
        elif kind in (TITLE, DATA, PROPERTIES):
            if not attachments:
                attachments.append(Attachment())
            note_attribute(attachments[-1], kind, body)
    for attachment in attachments:
        open_attachment(look, attachment)


def note_attribute(attachment: Attachment, kind: int, body: bytes) -> None:
    if kind == TITLE:
        attachment.title = body.decode("latin-1").rstrip("\0")
    elif kind == DATA:
        attachment.data = body
    else:
        attachment.properties = body


def attributes(look: Look) -> Iterator[tuple[int, bytes]]:
    """Yield the attributes with their numbers (MS-OXTNEF 2.1.3.1); what is cut short is noted."""
    data = look.data
    if not data.startswith(SIGNATURE):
        look.note_problem("damaged")
        return
    place = 6
    while place + 9 <= len(data):
        level, kind, size = struct.unpack_from("<BII", data, place)
        if level not in (1, 2):
            look.note_problem("damaged")
            return
        body = data[place + 9 : place + 9 + size]
        if len(body) < size:
            look.note_problem("truncated")
        yield kind & 0xFFFF, body
        place += 9 + size + 2


def properties(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the number, the type and each value of all properties (MS-OXTNEF 2.1.3.3). Raises struct.error."""
    (count,) = struct.unpack_from("<I", data)
    place = 4
    for _ in range(count):
        kind, number = struct.unpack_from("<HH", data, place)
        place += 4
        if number >= 0x8000:
            place = after_name(data, place)
        is_variable = kind & 0xFFF in (NARROW, WIDE, OBJECT, BINARY)
        values = 1
        if is_variable or kind & 0x1000:
            (values,) = struct.unpack_from("<I", data, place)
            place += 4
        for _ in range(min(values, MAX_VALUES)):
            size = FIXED.get(kind & 0xFFF, 4)
            if is_variable:
                (size,) = struct.unpack_from("<I", data, place)
                place += 4
            if place + size > len(data):
                raise struct.error("cut short")
            yield number, kind & 0xFFF, data[place : place + size]
            place += size + -size % 4


def after_name(data: bytes, place: int) -> int:
    """Return the place behind the name of a named property: class, kind, then a number or a string."""
    (is_string, size) = struct.unpack_from("<II", data, place + 16)
    return place + 24 + (size + -size % 4 if is_string else 0)


def decoded(kind: int, value: bytes) -> str:
    return (value.decode("utf-16-le", "replace") if kind == WIDE else value.decode("latin-1")).rstrip("\0")


def open_body(look: Look, data: bytes) -> None:
    """Open the body that stands among the properties of the message."""
    try:
        for number, kind, value in properties(data):
            if number == RTF and value:
                look.open_member(look.take(unpacked(value), packed=len(value)), declared_types=("application/rtf",))
            elif number == HTML and value:
                look.open_member(value, declared_types=("text/html",))
            elif number == TEXT:
                look.note_text(decoded(kind, value))
    except (struct.error, ValueError):
        look.note_problem("damaged")


def open_attachment(look: Look, attachment: Attachment) -> None:
    names: dict[int, str] = {}
    data, types = attachment.data, []
    try:
        for number, kind, value in properties(attachment.properties) if attachment.properties else ():
            if number in (LONG_NAME, SHORT_NAME, DISPLAY_NAME):
                names[number] = decoded(kind, value)
            elif number == MIME_TYPE:
                types.append(decoded(kind, value).lower())
            elif number == CONTENT and value:
                # MS-OXTNEF 2.1.3.3.15: an object has its interface's class before it; a message's data is TNEF.
                data = value[16:] if kind == OBJECT else value
    except struct.error:
        look.note_problem("damaged")
    found = [names.get(number, "") for number in (LONG_NAME, SHORT_NAME, DISPLAY_NAME)] + [attachment.title]
    look.open_member(data, *dict.fromkeys(name for name in found if name), declared_types=types)
