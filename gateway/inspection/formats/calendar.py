"""Calendar files (RFC 5545): what they bring along, where they lead, and what an alarm would start."""

import re
from binascii import Error as BadBase64
from binascii import a2b_base64

from gateway.inspection.look import Look

OPENS = ("text/calendar",)
FOLD = re.compile(rb"\r?\n[ \t]")  # RFC 5545 section 3.1
LINE = re.compile(rb"^([A-Za-z0-9-]{1,64})((?:;[^:\r\n\"]*(?:\"[^\"\r\n]*\"[^:\r\n\"]*)*)?):(.*)$")
URL = re.compile(r"https?://[^\s<>\"\\]{1,2048}", re.IGNORECASE)
NAME = re.compile(r";(?:X-)?(?:APPLE-)?FILENAME=\"?([^\";:]{1,255})", re.IGNORECASE)  # RFC 8607 section 4.2, and before
TYPE = re.compile(r";FMTTYPE=\"?([^\";:]{1,127})", re.IGNORECASE)
TEXTS = ("DESCRIPTION", "SUMMARY", "LOCATION", "COMMENT", "URL", "CONFERENCE")


def open_file(look: Look) -> None:
    for number, raw in enumerate(FOLD.sub(b"", look.data).splitlines()):
        if number % 1024 == 0:
            look.check_time()
        if found := LINE.match(raw):
            parameters, value = found[2].decode("utf-8", "replace"), found[3]
            take_line(look, found[1].decode("ascii").upper(), parameters, value)


def take_line(look: Look, name: str, parameters: str, value: bytes) -> None:
    """Follow one line."""
    if name == "ATTACH":
        open_attachment(look, parameters, value)
    elif name == "ACTION" and value.strip().upper() == b"PROCEDURE":
        look.note_active("launch")  # RFC 2445 section 4.8.6.1, withdrawn by RFC 5545; some still obey
    elif name == "X-ALT-DESC":
        look.open_member(unescaped(value).encode(), declared_types=("text/html",))
    elif name in TEXTS:
        text = unescaped(value)
        look.note_text(text)
        for url in URL.findall(text):
            look.note_link(url)


def unescaped(value: bytes) -> str:
    """Return a text value (RFC 5545 section 3.3.11)."""
    text = value.decode("utf-8", "replace")
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] in "nN" else found[1], text)


def open_attachment(look: Look, parameters: str, value: bytes) -> None:
    """Open a file within, or note where it lies (RFC 5545 section 3.8.1.1)."""
    if "BASE64" not in parameters.upper():
        look.note_link(value.decode("utf-8", "replace").strip())
        return
    try:
        data = a2b_base64(value)
    except BadBase64:
        look.note_problem("bad_encoding")
        return
    look.note_active("embedded_file")
    look.open_member(data, *NAME.findall(parameters)[:1], declared_types=TYPE.findall(parameters.lower())[:1])
