"""Field instructions of Word (ECMA-376 part 1, 17.16.5), as they stand in documents of all its formats."""

import re

from gateway.inspection.look import Look

TARGET = re.compile(r'"([^"]{1,4096})"|(\S{1,4096})')
REMOTE = re.compile(r"/\w|[a-z][a-z0-9+.-]{1,30}:/\w|(?:mhtml|script|search-ms|ms-\w{1,30}):|\w+@")
LOCAL_FILE = re.compile(r"file:/{0,3}(?:[a-z]:|[a-z]\||$|[^/:]*$)")
FETCHES = ("INCLUDEPICTURE", "INCLUDETEXT", "IMPORT", "INCLUDE", "LINK")


def note_field(look: Look, instruction: str) -> None:
    """Note what one field does when it is updated."""
    words = instruction.lstrip(" \t\r\n\"'").split(None, 1)
    if not words:
        return
    kind, rest = words[0].upper(), words[1] if len(words) > 1 else ""
    if kind in ("DDE", "DDEAUTO"):
        look.note_active("dde")
    elif kind == "HYPERLINK" and (found := TARGET.search(rest)):
        target = found.group(1) or found.group(2)
        if not target.startswith("\\l"):  # a place in the document itself
            look.note_link(target)
    elif kind in FETCHES and is_remote(rest):
        look.note_active("external_relationship")


def is_remote(target: str) -> bool:
    """Whether a target lies on another host: a URL or a UNC path, not a file beside the document or on a local disk."""
    lowered = target.lower().lstrip("\"' \t").replace("\\", "/").replace("//", "/")
    if lowered.startswith("file:"):
        return not LOCAL_FILE.match(lowered)
    return bool(REMOTE.match(lowered))


def result_of(instruction: str) -> str:
    """Return what a field gives to the one it lies in: QUOTE with numbers is the plainest way to hide a word."""
    words = instruction.split()
    if words[:1] and words[0].upper() == "QUOTE":
        return "".join(chr(int(word)) if re.fullmatch("[0-9]{1,4}", word) else f" {word} " for word in words[1:])
    return f" {instruction} "
