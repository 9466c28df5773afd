"""Files that are compressed as a whole: one layer is undone here, what it holds is a file of its own."""

from collections.abc import Callable, Iterator

from gateway.inspection.file_names import is_odd_member, last_step
from gateway.inspection.look import Look
from gateway.inspection.unpacking.libarchive_reading import unpack_stream
from gateway.inspection.unpacking.streams import bunzip2, gunzip, until_broken, unxz
from gateway.octets import find

_UNPACK: dict[str, tuple[bytes, Callable[[bytes], Iterator[bytes]]]] = {
    "application/gzip": (b"\x1f\x8b", gunzip),
    "application/x-bzip2": (b"BZh", bunzip2),
    "application/x-xz": (b"\xfd7zXZ\0", unxz),
    "application/x-lzma": (b"", unxz),
    "application/zstd": (b"\x28\xb5\x2f\xfd", lambda data: unpack_stream(data, "zstd")),
    "application/x-lzip": (b"LZIP", lambda data: unpack_stream(data, "lzip")),
    "application/x-lz4": (b"\x04\x22\x4d\x18", lambda data: unpack_stream(data, "lz4")),
    "application/x-compress": (b"\x1f\x9d", lambda data: unpack_stream(data, "compress")),
}
OPENS = tuple(_UNPACK)

# What is left of a name when the layer is undone: .tgz holds a .tar.
_TARS = frozenset({"tgz", "tbz", "tbz2", "txz", "tlz", "taz", "tzst"})
_PICTURES = {"svgz": "svg", "emz": "emf", "wmz": "wmf", "adz": "adf", "cpgz": "cpio"}
_LAYERS = frozenset({"gz", "gzip", "bz2", "bz", "xz", "lzma", "lz", "zst", "zstd", "lz4", "z"})


def open_file(look: Look) -> None:
    for kind in look.found_types:
        if kind in _UNPACK:
            _open_layer(look, kind)
            return


def _open_layer(look: Look, kind: str) -> None:
    signature, unpack = _UNPACK[kind]
    start = max(0, find(look.data, signature)) if signature and not look.data.startswith(signature) else 0
    packed = look.data[start:]
    problems: list[str] = []
    data = look.take(until_broken(unpack(packed), problems), packed=len(packed))
    for problem in problems:
        look.note_problem(problem)
    names = inner_names(look.names)
    if kind == "application/gzip":
        stored = stored_name(packed)
        if is_odd_member(stored or "x"):
            look.note_problem("odd_name")
        names = tuple(dict.fromkeys([*names, *([stored] if stored else [])]))
    if data or not problems:
        look.open_member(data, *names)
    else:
        look.list_member(*names, problem=problems[0])


def inner_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that programs give the file within, by the names of the compressed one."""
    found: dict[str, None] = {}
    for name in names:
        stem, dot, extension = last_step(name).rpartition(".")
        extension = extension.lower()
        if not dot:
            found[name] = None
        elif extension in _TARS:
            found[f"{stem}.tar"] = None
        elif extension in _PICTURES:
            found[f"{stem}.{_PICTURES[extension]}"] = None
        else:
            found[stem if extension in _LAYERS else name] = None
    return tuple(found)


def stored_name(data: bytes) -> str:
    """Return the name that a gzip file holds (RFC 1952 section 2.3: Latin-1, ended by a zero), "" for none."""
    if len(data) < 10 or not data[3] & 8:
        return ""
    place = 10
    if data[3] & 4:
        place += 2 + int.from_bytes(data[10:12], "little")
    end = data.find(b"\0", place, place + 1024)
    raw = data[place : end if end >= 0 else place + 1024]
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
