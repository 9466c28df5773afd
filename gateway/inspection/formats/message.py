"""A message that lies in an attachment, an archive or under a transfer encoding: its parts are files of this one.

The same scanner that reads the message itself reads it, with line ends as they are.
"""

from gateway.inspection.look import Look
from gateway.inspection.structure import structure_of
from gateway.inspection.transfer import decodings

OPENS = ("message/rfc822",)
DAMAGES = {
    "too_deep": "too_deep",
    "too_many_parts": "too_many_files",
    "too_complex": "too_much",
    "no_message": "damaged",
}
UNSUPPORTED = frozenset({"partial_message", "external_body"})


def open_file(look: Look) -> None:
    """Open the leaves of a message, each in every reading."""
    raw = look.data
    if b"\n" not in raw:
        raw = raw.replace(b"\r", b"\n")  # line ends of an old Mac
    found = structure_of(raw)
    for defect in found.defects:
        if defect in DAMAGES:
            look.note_problem(DAMAGES[defect])
        elif defect in UNSUPPORTED:
            look.note_problem("unsupported")
    for task in found.tasks:
        for data, is_odd in decodings(raw[task.start : task.end], task.encodings):
            if is_odd:
                look.note_problem("bad_encoding")
            look.open_member(data, *task.names, declared_types=task.declared_types)
