"""Names of attached files: which extensions they show, and what is odd about them. Pure; no C code.

Mail clients and Windows do not show a name as it stands: trailing dots and blanks vanish, controls that turn the
direction of writing move the extension to where nobody looks, long runs of blanks push it out of sight.
"""

import re
import unicodedata

from gateway.inspection.media_types import EXTENSIONS, TYPES, Kind

MAX_NAME = 4096  # characters of a name that are looked at
MAX_EXTENSION = 24  # characters; longer ends of names are no extensions

ODDITIES = (
    "bidi_override",  # controls that turn the direction of writing (Unicode TR 36, section 3.2)
    "control",  # C0, C1 controls, line and paragraph separators
    "invisible",  # characters that are not shown
    "double_extension",  # a harmless extension before one that runs: invoice.pdf.exe
    "padded",  # many blanks before the last extension
    "trailing_dots_or_blanks",  # Windows cuts them off (Win32 file naming)
    "path_steps",  # ../ or ..\
    "absolute_path",  # from the root, a drive or a share
    "stream_name",  # NTFS alternate data stream: name:stream
    "device_name",  # CON, NUL, COM1, ... (Win32 file naming)
    "look_alike_dot",  # a character that looks like the dot or the slash
    "undecodable",  # holds replacement marks: the charset is not the one that it claims
    "empty",
)

_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200d\u2060-\u2064\u206a-\u206f\ufeff]"
)
_LOOK_ALIKE = re.compile("[\u2024\u2044\u2215\u29f8\u2216\ufe52\uff0e\uff0f\uff3c]")
_PADDED = re.compile(r"\s{8}")
_PATH_STEP = re.compile(r"(?:^|[/\\])\.\.(?:[/\\]|$)")
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]|[A-Za-z]:$|[A-Za-z]:[^/\\]{1,200}\.")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$)(?: *)(?:\.|$)", re.IGNORECASE)
_STREAM = re.compile(r"[^/\\:]:[^/\\:]")
_HIDDEN = re.compile(f"{_BIDI.pattern}|{_CONTROL.pattern}|{_INVISIBLE.pattern}")
_SEPARATORS = re.compile(r"[/\\]")
_RUNS = frozenset({Kind.PROGRAM, Kind.SCRIPT})
# Path steps, controls and the like in the name of an archive's member.
_UNFIT_FOR_MEMBERS = frozenset(
    {"bidi_override", "control", "path_steps", "absolute_path", "stream_name", "device_name", "empty"}
)


def last_step(name: str) -> str:
    """Return the file's own name, as Windows stores it: no folders, hidden characters, dots and blanks at the end."""
    step = _SEPARATORS.split(unicodedata.normalize("NFKC", name[:MAX_NAME]))[-1]
    return _HIDDEN.sub("", step).rstrip(". \t\u00a0\u3000")


def extensions(name: str) -> tuple[str, ...]:
    """Return all extensions of a name, in lower case without dots, the last first: ("exe", "pdf") of "a.pdf.exe".

    What stands before and after the colon of an NTFS stream both count, and a name of one extension alone has it.
    """
    found: dict[str, None] = {}
    for piece in reversed(last_step(name).lower().split(":")):
        for end in reversed(piece.split(".")[1:]):
            extension = end.strip()
            if 0 < len(extension) <= MAX_EXTENSION:
                found[extension] = None
    return tuple(found)


def runs(extension: str) -> bool:
    """Tell whether some system runs a file that has this extension when it is opened."""
    return any(TYPES[kind] in _RUNS for kind in EXTENSIONS.get(extension, ())[:1])


def oddities(name: str) -> tuple[str, ...]:
    """Return what is odd about a name, as codes of `ODDITIES` in their order."""
    name = name[:MAX_NAME]
    step = _SEPARATORS.split(name)[-1]
    found = {
        "bidi_override": _BIDI.search(name),
        "control": _CONTROL.search(name),
        "invisible": _INVISIBLE.search(name),
        "double_extension": _is_double(name),
        "padded": _PADDED.search(step.strip()),
        "trailing_dots_or_blanks": step != step.rstrip(". \t\u00a0\u3000"),
        "path_steps": _PATH_STEP.search(name),
        "absolute_path": _ABSOLUTE.match(name),
        "stream_name": _STREAM.search(name[2:]) or "::" in name,
        "device_name": _DEVICE.match(step),
        "look_alike_dot": _LOOK_ALIKE.search(name),
        "undecodable": "\ufffd" in name,
        "empty": not last_step(name),
    }
    return tuple(code for code in ODDITIES if found[code])


def is_odd_member(name: str) -> bool:
    """Tell whether the name of an archive's member leads elsewhere, or is not what it shows."""
    return not _UNFIT_FOR_MEMBERS.isdisjoint(oddities(name.rstrip("/")))


def _is_double(name: str) -> bool:
    """A known extension that does not run, before one that does. Version numbers and the like are no extensions."""
    ends = extensions(name)
    return len(ends) > 1 and runs(ends[0]) and ends[1] in EXTENSIONS and not runs(ends[1])
