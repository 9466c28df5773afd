"""Outlook messages (MS-OXMSG): attachments, the messages within, and the body as HTML or RTF."""

from collections.abc import Iterator

from gateway.inspection.formats.compound import Compound, Path
from gateway.inspection.formats.rtf_compressed import unpacked
from gateway.inspection.look import Look

PROPERTIES = "__properties_version1.0"  # MS-OXMSG 2.4: in every storage of a message
NAMED = "__nameid_version1.0"  # MS-OXMSG 2.2.3: names of properties, in streams that are called like properties
STREAM = "__substg1.0_"  # then property number and type in hexadecimal, MS-OXMSG 2.1.3
# MS-OXPROPS, names of an attachment in the order of what Outlook shows: long, short, display.
NAMES = ("3707", "3704", "3001")
MIME_TYPE, CONTENT = "370e", "3701"
TEXT, RTF, HTML = "1000", "1009", "1013"
WIDE, NARROW, BINARY = "001f", "001e", "0102"  # MS-OXCDATA 2.11.1


def open_message(look: Look, compound: Compound) -> None:
    """Open all attachments and bodies, those of messages within among them. Raises Damaged."""
    for path in list(compound.paths):
        name = path[-1].removeprefix(STREAM)
        if name == path[-1] or NAMED in path:
            continue
        if name == CONTENT + BINARY:
            open_attachment(look, compound, path)
        elif name == RTF + BINARY:
            open_rtf(look, compound.read(path))
        elif name[:4] == HTML:
            open_html(look, compound, path)
        elif name[:4] == TEXT:
            look.note_text(decoded(compound.read(path), name))


def decoded(data: bytes, name: str) -> str:
    """Decode by the type that ends the stream's name. The code page of narrow strings stands elsewhere: Latin-1."""
    return data.decode("utf-16-le", "replace") if name.endswith(WIDE) else data.decode("latin-1")


def texts(compound: Compound, folder: Path, properties: tuple[str, ...]) -> Iterator[str]:
    for number in properties:
        for kind in (WIDE, NARROW):
            path = (*folder, STREAM + number + kind)
            if path in compound:
                yield decoded(compound.read(path), kind).rstrip("\0")


def open_attachment(look: Look, compound: Compound, path: Path) -> None:
    names = dict.fromkeys(name for name in texts(compound, path[:-1], NAMES) if name)
    types = tuple(kind.lower() for kind in texts(compound, path[:-1], (MIME_TYPE,)) if kind)
    look.open_member(compound.read(path), *names, declared_types=types)


def open_rtf(look: Look, packed: bytes) -> None:
    try:
        text = look.take(unpacked(packed), packed=len(packed))
    except ValueError:
        look.note_problem("damaged")
        return
    if text:
        look.open_member(text, declared_types=("application/rtf",))


def open_html(look: Look, compound: Compound, path: Path) -> None:
    data = compound.read(path)
    if path[-1].endswith(WIDE):
        data = data.decode("utf-16-le", "replace").encode()
    if data:
        look.open_member(data, declared_types=("text/html",))
