"""Small documents for tests, written here octet by octet, and the walk over one of them."""

import io
import struct
import zipfile
from collections.abc import Mapping
from itertools import pairwise

import pytest

from gateway.inspection import look
from gateway.inspection.facts import Part
from gateway.inspection.look import Walk
from gateway.inspection.task import Bounds, Errand, Opened, Task

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
COMPOUND = "application/x-ole-storage"
END, NONE = 0xFFFFFFFE, 0xFFFFFFFF  # of a chain of sectors; no entry (MS-CFB 2.1, 2.6.1)
_STARTS = ((b"\xd0\xcf\x11\xe0", COMPOUND), (b"PK\x03\x04", DOCX), (b"%PDF-", "application/pdf"))


def opened(
    monkeypatch: pytest.MonkeyPatch,
    data: bytes,
    kind: str,
    *,
    passwords: tuple[str, ...] = (),
    bounds: Bounds | None = None,
) -> Opened:
    """Open one attachment as `kind`; what lies within is told by its first octets."""

    def found_types(octets: bytes, names: object, declared_types: object) -> tuple[str, ...]:
        if octets == data:
            return (kind,)
        return tuple(found for start, found in _STARTS if octets.startswith(start))

    monkeypatch.setattr(look, "found_types", found_types)
    task = Task("1", 0, len(data), names=("file",), is_attachment=True)
    errand = Errand((task,), passwords=passwords, bounds=bounds or Bounds())
    return Walk(errand).run(data, errand.tasks)


def first(monkeypatch: pytest.MonkeyPatch, data: bytes, kind: str) -> Part:
    return opened(monkeypatch, data, kind).parts[0]


def zipped(parts: Mapping[str, bytes | str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return out.getvalue()


def ooxml(
    parts: Mapping[str, bytes | str] | None = None,
    types: Mapping[str, str] | None = None,
    relationships: tuple[tuple[str, str, str], ...] = (),
) -> bytes:
    """Return a package. A relationship is the last step of its type, its target, and External or Internal."""
    overrides = "".join(f'<Override PartName="/{name}" ContentType="{kind}"/>' for name, kind in (types or {}).items())
    rels = "".join(
        f'<Relationship Id="r{n}" Type="http://schemas.example/{kind}" Target="{target}" TargetMode="{mode}"/>'
        for n, (kind, target, mode) in enumerate(relationships)
    )
    return zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">{overrides}</Types>',
            "word/_rels/document.xml.rels": f'<Relationships xmlns="urn:r">{rels}</Relationships>',
            **(parts or {}),
        }
    )


def packed_source(source: str) -> bytes:
    """Pack a VBA source, all of it literally (MS-OVBA 2.4.1.3.7)."""
    out = bytearray(b"\x01")
    octets = source.encode("latin-1")
    for start in range(0, len(octets), 3600):
        piece = octets[start : start + 3600]
        body = b"".join(b"\0" + piece[i : i + 8] for i in range(0, len(piece), 8))
        out += struct.pack("<H", 0xB000 | (len(body) - 1)) + body
    return bytes(out)


def vba_streams(source: str, folder: str = "VBA", cache: bytes = b"") -> dict[str, bytes]:
    """Return the streams of a project with one module, its p-code being junk."""
    code = b"\xcc" * 40
    records = (
        struct.pack("<HI", 0x001A, 7) + b"Module1" + struct.pack("<HI", 0x0032, 14) + "Module1".encode("utf-16-le")
    )
    records += struct.pack("<HII", 0x0031, 4, len(code))
    return {
        f"{folder}/dir": packed_source(records.decode("latin-1")),
        f"{folder}/_VBA_PROJECT": b"\xcc\x61" + cache,
        f"{folder}/Module1": code + packed_source(f'Attribute VB_Name = "Module1"\r\n{source}'),
    }


def compound(streams: Mapping[str, bytes], class_id: bytes = bytes(16)) -> bytes:
    """Return a compound file (MS-CFB) in sectors of 512 octets; small streams lie in the mini stream (2.4).

    `class_id` is that of the first storage.
    """
    mini, mini_chain = b"", list[int]()
    sectors, chain = list[bytes](), list[int]()
    starts: dict[str, int] = {}
    for path, data in streams.items():
        if len(data) < 4096:
            starts[path] = _append_chain(mini_chain, (len(data) + 63) // 64)
            mini += data.ljust((len(data) + 63) // 64 * 64, b"\0")
        else:
            starts[path] = _append(sectors, chain, data)
    mini_table = struct.pack(f"<{len(mini_chain)}I", *mini_chain)
    mini_start, table_start = _append(sectors, chain, mini), _append(sectors, chain, mini_table)
    directory = _directory(streams, starts, (mini_start, len(mini)), class_id)
    directory_start = _append(sectors, chain, directory)
    tables = (len(chain) + 1 + 126) // 127
    table = struct.pack(f"<{len(chain)}I", *chain) + struct.pack("<I", 0xFFFFFFFD) * tables
    header = bytes.fromhex("D0CF11E0A1B11AE1") + bytes(16) + struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    header += struct.pack("<IIIII", 0, tables, directory_start, 0, 4096)
    header += struct.pack("<IIII", table_start, (len(mini_table) + 511) // 512, END, 0)
    header += struct.pack(f"<{tables}I", *range(len(sectors), len(sectors) + tables)).ljust(436, b"\xff")
    return header + b"".join(sectors) + table.ljust(tables * 512, b"\xff")


def _append_chain(chain: list[int], count: int) -> int:
    start = len(chain)
    chain += [*range(start + 1, start + count), END][: max(count, 0)]
    return start if count else END


def _append(sectors: list[bytes], chain: list[int], data: bytes) -> int:
    pieces = [data[i : i + 512].ljust(512, b"\0") for i in range(0, len(data), 512)]
    sectors += pieces
    return _append_chain(chain, len(pieces))


def _directory(
    streams: Mapping[str, bytes], starts: Mapping[str, int], mini: tuple[int, int], class_id: bytes
) -> bytes:
    """Return the directory. Storages chain their children as right siblings: a tree that leans, and a tree."""
    paths = [""]
    for path in streams:
        steps = path.split("/")
        paths += [p for n in range(len(steps)) if (p := "/".join(steps[: n + 1])) not in paths]
    children: dict[str, list[int]] = {}
    for number, path in enumerate(paths[1:], 1):
        children.setdefault(path.rpartition("/")[0], []).append(number)
    after = {number: right for numbers in children.values() for number, right in pairwise(numbers)}
    out = b""
    for number, path in enumerate(paths):
        kind = 5 if not number else 2 if path in streams else 1
        start, size = mini if not number else (starts.get(path, 0), len(streams.get(path, b"")))
        encoded = (path.rpartition("/")[2] or "Root Entry").encode("utf-16-le") + b"\0\0"
        out += encoded.ljust(64, b"\0") + struct.pack("<HBB", len(encoded), kind, 1)
        out += struct.pack("<III", NONE, after.get(number, NONE), children.get(path, [NONE])[0])
        out += (class_id if number == 1 else bytes(16)) + bytes(20) + struct.pack("<IQ", start, size)
    return out.ljust((len(out) + 511) // 512 * 512, b"\0")


def package_object(name: str, content: bytes) -> bytes:
    """Return what the Packager writes for a file."""
    path = f"C:\\temp\\{name}".encode()
    out = b"\x02\x00" + name.encode() + b"\0" + path + b"\0" + struct.pack("<HH", 0, 3)
    return out + struct.pack("<I", len(path) + 1) + path + b"\0" + struct.pack("<I", len(content)) + content
