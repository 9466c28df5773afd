"""OneNote sections (MS-ONESTORE): the files that lie in them. Clicking on a picture that covers one opens it."""

import struct
from uuid import UUID

from gateway.inspection.look import Look

OPENS = ("application/onenote",)
FILE = UUID("BDE316E7-2665-4511-A4C4-8D4D0B7A9EAC").bytes_le  # guidHeader of FileDataStoreObject, MS-ONESTORE 2.6.13
# guidFileFormat of sections as OneNote on the web stores them, in another packaging (MS-ONESTORE 2.8.1).
WEB = UUID("638DE92F-A6D4-4BC1-9A36-B3FC2511A5B7").bytes_le
HEAD = 16 + 8 + 4 + 8  # octets before the data: class, size, two unused
PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"\x01\x00\x00\x00l\x00\x00\x00", b"II*\0", b"MM\0*")


def open_file(look: Look) -> None:
    if look.data[48:64] == WEB:
        look.note_problem("unsupported")
    place = look.data.find(FILE)
    while place >= 0:
        (size,) = struct.unpack_from("<Q", look.data.ljust(place + HEAD, b"\0"), place + 16)
        start = place + HEAD
        data = look.data[start : start + size]
        if len(data) < size:
            look.note_problem("truncated")
        # Pictures on the page are stored in the same way.
        if not data.startswith(PICTURES):
            look.note_active("embedded_file")
        look.open_member(data)
        place = look.data.find(FILE, start)
