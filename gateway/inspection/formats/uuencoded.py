"""Files in uuencode, as old mail programs put them into texts (POSIX.1-2017, uuencode; and its base64 form)."""

import binascii
import re
from collections.abc import Iterator

from gateway.inspection.file_names import is_odd_member
from gateway.inspection.look import Look

OPENS = ("application/x-uuencode",)

_BEGIN = re.compile(rb"^begin(-base64)? [0-7]{3,4} ([^\r\n]{1,500})\r?$", re.MULTILINE)
_END = re.compile(rb"^(?:end|====)\r?$", re.MULTILINE)


def open_file(look: Look) -> None:
    place = 0
    while (begin := _BEGIN.search(look.data, place)) is not None:
        end = _END.search(look.data, begin.end())
        place = end.start() if end else len(look.data)
        lines = look.data[begin.end() : place].splitlines()
        if end is None:
            look.note_problem("truncated")
        name = begin[2].decode("utf-8", "replace").strip()
        if is_odd_member(name):
            look.note_problem("odd_name")
        look.open_member(look.take(_decoded(look, lines, is_base64=bool(begin[1]))), name)


def _decoded(look: Look, lines: list[bytes], *, is_base64: bool) -> Iterator[bytes]:
    for line in filter(None, lines):  # the standard library makes 32 zeros of an empty line
        try:
            yield binascii.a2b_base64(line) if is_base64 else binascii.a2b_uu(line)
        except binascii.Error:
            look.note_problem("damaged")
