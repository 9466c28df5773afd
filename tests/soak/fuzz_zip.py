"""ZIP and tar archives and the types of files: bounded, and nothing is raised but a limit."""

import io
import zipfile

from tests.soak import fuzzing

with fuzzing.instrumented():
    from gateway.inspection.file_names import extensions, oddities
    from gateway.inspection.formats import tar_archive, zip_archive
    from gateway.inspection.look import LimitReached, Look, Walk
    from gateway.inspection.media_types import TYPES
    from gateway.inspection.rar_headers import read_headers
    from gateway.inspection.signatures import found_types
    from gateway.inspection.task import Bounds, Errand
    from gateway.inspection.zip_directory import MAX_ENTRIES, read_directory

BOUNDS = Bounds(depth=3, files=50, unpacked_bytes=8 << 20, file_bytes=4 << 20, seconds=3.0)


def archive(name: str, data: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr(name, data)
    return buffer.getvalue()


SEEDS = (
    b"",
    b"PK\x05\x06" + bytes(18),
    archive("a.txt", b"some text " * 20),
    archive("b.bin", b"x", zipfile.ZIP_STORED) + archive("c.txt", b"y" * 50, zipfile.ZIP_BZIP2),
    archive("in.zip", archive("[Content_Types].xml", b"<Types/>"), zipfile.ZIP_LZMA),
    b"GIF89a" + archive("../x\u202e.js", b"x"),
    b"Rar!\x1a\x07\x01\0" + bytes(range(64)),
)


def look(data: bytes) -> None:
    directory = read_directory(data)
    assert len(directory.entries) <= 4 * MAX_ENTRIES
    for entry in directory.entries:
        assert 0 <= entry.header < entry.start
        assert entry.names
        for name in entry.names:
            extensions(name)
            oddities(name)
    kinds = found_types(data, ("a.zip",), ())
    assert kinds
    assert set(kinds) <= set(TYPES)
    read_headers(data)
    open_by(zip_archive.open_file, data)
    open_by(tar_archive.open_file, data)


def open_by(opener: object, data: bytes) -> None:
    """Open by one opener of ours: whatever it raises besides a limit is a fault."""
    assert callable(opener)
    walk = Walk(Errand((), passwords=("infected",), bounds=BOUNDS))
    try:
        opener(Look(walk, "1", data, names=("a.zip",)))
    except LimitReached:
        return
    assert len(walk.parts) <= BOUNDS.files
    assert sum(part.size for part in walk.parts if part.sha256) <= BOUNDS.unpacked_bytes + len(data) * BOUNDS.files


if __name__ == "__main__":
    fuzzing.main(look, SEEDS)
