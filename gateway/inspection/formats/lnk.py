"""Shortcuts of Windows (MS-SHLLINK): all they do is start something. Addresses in their arguments are links."""

import re
import struct

from gateway.inspection.look import Look

OPENS = ("application/x-ms-shortcut",)
HEADER = 0x4C  # octets, MS-SHLLINK 2.1
HAS_ID_LIST, HAS_LINK_INFO, IS_UNICODE = 0x01, 0x02, 0x80  # MS-SHLLINK 2.1.1
# The strings that follow, in order, and their flags (MS-SHLLINK 2.4).
STRINGS = ((0x04, "name"), (0x08, "relative path"), (0x10, "folder"), (0x20, "arguments"), (0x40, "icon"))
URL = re.compile(r"(?:https?|ftp)://[^\s\"'<>|^]{1,2048}|\\\\[\w.@-]{1,255}\\[^\s\"'<>|]{1,1024}", re.IGNORECASE)


def open_file(look: Look) -> None:
    look.note_active("launch")
    try:
        found = strings(look.data)
    except struct.error:
        look.note_problem("damaged")
        return
    # Behind 260 characters the dialog of Windows shows no arguments: where they go on is where attacks hide them.
    for text in found.values():
        for url in URL.findall(text):
            look.note_link(url)


def strings(data: bytes) -> dict[str, str]:
    """Return the strings by what they are. Raises struct.error when the file is cut short."""
    (flags,) = struct.unpack_from("<I", data, 20)
    place = HEADER
    if flags & HAS_ID_LIST:
        place += 2 + struct.unpack_from("<H", data, place)[0]
    if flags & HAS_LINK_INFO:
        place += struct.unpack_from("<I", data, place)[0]
    found = {}
    for flag, what in STRINGS:
        if flags & flag:
            (chars,) = struct.unpack_from("<H", data, place)
            size = chars * 2 if flags & IS_UNICODE else chars
            body = data[place + 2 : place + 2 + size]
            found[what] = body.decode("utf-16-le", "replace") if flags & IS_UNICODE else body.decode("latin-1")
            place += 2 + size
    return found
