"""Compound files (MS-CFB): their storages and streams, as olefile reads them, under the limits of the look."""

import io
import struct
from collections.abc import Iterator

import olefile  # type: ignore[import-untyped]

from gateway.inspection.look import Look

MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # MS-CFB 2.2
Path = tuple[str, ...]


class Damaged(Exception):
    """The file is no compound file that can be read."""


class Compound:
    """One compound file. Names are compared in lower case (MS-CFB 2.6.4); a path is the names from the root."""

    def __init__(self, look: Look, data: bytes) -> None:
        self._look = look
        try:
            self._ole = olefile.OleFileIO(io.BytesIO(data))
            self.paths: dict[Path, Path] = {
                tuple(name.lower() for name in path): tuple(path) for path in self._ole.listdir()
            }
            self.classes = {
                str(entry.clsid).upper() for entry in self._ole.direntries if entry is not None and entry.clsid
            }
        except Exception as error:  # border: olefile raises anything on damaged files
            raise Damaged from error

    def __contains__(self, path: Path) -> bool:
        return path in self.paths

    def read(self, path: Path) -> bytes:
        """Return a stream's octets; b"" if there is none. Raises Damaged, and LimitReached like `Look.take`."""
        if path not in self.paths:
            return b""
        try:
            stream = self._ole.openstream(list(self.paths[path])).read()
        except Exception as error:  # border: olefile raises anything on damaged files
            raise Damaged from error
        return self._look.take((stream,), packed=len(stream))

    def ending_with(self, name: str) -> Iterator[Path]:
        """Yield the paths of all streams called `name` (lower case), in any storage."""
        return (path for path in self.paths if path[-1] == name)

    def original(self, path: Path) -> Path:
        return self.paths[path]


def counted_string(data: bytes, place: int) -> tuple[bytes, int]:
    """Return the octets with a 32-bit length before them, without the final NUL, and where they end (MS-OLEDS 2.1.4).

    Raises ValueError when they do not fit.
    """
    if place + 4 > len(data):
        raise ValueError("cut short")
    (size,) = struct.unpack_from("<I", data, place)
    end = place + 4 + size
    if end > len(data):
        raise ValueError("cut short")
    return data[place + 4 : end].split(b"\0", 1)[0], end
