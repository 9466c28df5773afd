"""OLE packages and OLE 1.0 objects: files that lie in documents under a picture (MS-OLEDS 2.2 and 2.3.6)."""

import struct

from gateway.inspection.formats.compound import MAGIC, counted_string
from gateway.inspection.look import Look


def open_native(look: Look, stream: bytes) -> None:
    """Open what an `\\1Ole10Native` stream holds: 32-bit size, then a package or an object's own data."""
    look.note_active("embedded_object")
    open_package(look, stream[4:])


def open_package(look: Look, data: bytes) -> None:
    """Open the file in the data of the Packager: a label, the name on the writer's disk, the name in between, the file.

    The layout is not in MS-OLEDS (2.3.6 leaves the data to its application); it is what packager.dll writes.
    """
    try:
        names, content = package_parts(data)
    except ValueError:
        open_raw(look, data)
        return
    look.open_member(content, *dict.fromkeys(name for name in names if name))


def package_parts(data: bytes) -> tuple[list[str], bytes]:
    """Return the names (the shown one first) and the file. Raises ValueError if it is no package."""
    if data[:2] != b"\x02\x00":
        raise ValueError("no package")
    label, place = text_at(data, 2)
    source, place = text_at(data, place)
    place += 4  # two flag words; 3 stands for a file within
    temporary, place = counted_string(data, place)
    if place + 4 > len(data):
        raise ValueError("cut short")
    (size,) = struct.unpack_from("<I", data, place)
    content = data[place + 4 : place + 4 + size]
    names = [last_step(name) for name in (label, source, temporary.decode("latin-1"))]
    return names + wide_names(data, place + 4 + size), content


def text_at(data: bytes, place: int) -> tuple[str, int]:
    end = data.index(b"\0", place)
    return data[place:end].decode("latin-1"), end + 1


def wide_names(data: bytes, place: int) -> list[str]:
    """Return the names as UTF-16 that newer writers add behind the file; each has its length in characters."""
    names = []
    for _ in range(3):
        if place + 4 > len(data):
            break
        (chars,) = struct.unpack_from("<I", data, place)
        end = place + 4 + 2 * chars
        if chars > 1024 or end > len(data):
            break
        names.append(last_step(data[place + 4 : end].decode("utf-16-le", "replace").rstrip("\0")))
        place = end
    return names


def last_step(path: str) -> str:
    return path.replace("/", "\\").rsplit("\\", 1)[-1]


def open_raw(look: Look, data: bytes) -> None:
    """Open an object's own data, or the compound file that starts somewhere in it."""
    start = data.find(MAGIC)
    content = data[start:] if start >= 0 else data
    if content:
        look.open_member(content)


def open_object(look: Look, data: bytes) -> None:
    """Open an OLE 1.0 object as it stands in RTF (MS-OLEDS 2.2.4 and 2.2.5); what is damaged, as raw data."""
    look.note_active("embedded_object")
    try:
        kind, class_name, topic, native = object_parts(data)
    except ValueError:
        look.note_problem("damaged")
        open_raw(look, data)
        return
    if kind == 1:
        # MS-OLEDS 2.2.6: a linked object, the topic is the file that is fetched.
        look.note_active("external_relationship")
        look.note_link(topic.decode("latin-1"))
    elif class_name.lower() == b"package":
        open_package(look, native)
    else:
        open_raw(look, native)


def object_parts(data: bytes) -> tuple[int, bytes, bytes, bytes]:
    """Return the format (1 linked, 2 embedded), class, topic and native data. Raises ValueError."""
    if len(data) < 8:
        raise ValueError("cut short")
    # The version, first, is read by nobody and often garbage in attacks.
    (kind,) = struct.unpack_from("<I", data, 4)
    class_name, place = counted_string(data, 8)
    topic, place = counted_string(data, place)
    _, place = counted_string(data, place)
    if kind == 1:
        return kind, class_name, topic, b""
    if place + 4 > len(data):
        raise ValueError("cut short")
    (size,) = struct.unpack_from("<I", data, place)
    return kind, class_name, topic, data[place + 4 : place + 4 + size]
