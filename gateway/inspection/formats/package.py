"""Documents that are zip files (OOXML, OpenDocument): their parts, read one by one under the limits of the look."""

import io
import zipfile
import zlib
from collections.abc import Iterator

from gateway.inspection.look import LimitReached, Look

READ = 64 * 1024  # octets at a time
MAX_ENTRIES = 10_000  # real documents have some hundred parts; 60,000 empty entries cost a second


class Package:
    """The parts of one document, by their names in lower case with / (ECMA-376 part 2, 6.2.2.3: case is ignored).

    Raises zipfile.BadZipFile when there is no directory.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        if look.data.count(b"PK\x01\x02") > MAX_ENTRIES:
            raise LimitReached("too_many_files")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(look.data))
        except (ValueError, NotImplementedError, OSError, UnicodeDecodeError, IndexError) as error:
            raise zipfile.BadZipFile from error
        self.entries = {entry.filename.replace("\\", "/").strip("/").lower(): entry for entry in self._zip.infolist()}

    def read(self, name: str) -> bytes:
        """Return a part, b"" if there is none or it cannot be read, which is noted. Raises LimitReached."""
        entry = self.entries.get(name.strip("/").lower())
        if entry is None:
            return b""
        if entry.flag_bits & 1:  # APPNOTE 4.4.4, bit 0: encrypted
            self._look.note_lock(is_opened=False)
            return b""
        try:
            return self._look.take(self._chunks(entry), packed=entry.compress_size)
        except NotImplementedError:
            self._look.note_problem("unsupported")
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError):
            self._look.note_problem("damaged")
        return b""

    def _chunks(self, entry: zipfile.ZipInfo) -> Iterator[bytes]:
        with self._zip.open(entry) as part:
            while chunk := part.read(READ):
                yield chunk

    def open_part(self, name: str) -> None:
        """Open a part as a file of its own."""
        data = self.read(name)
        if data:
            self._look.open_member(data, name.rsplit("/", 1)[-1])


def open_package(look: Look) -> Package | None:
    """Return the document's parts, or None when it is no zip file that can be read, which is noted."""
    try:
        return Package(look)
    except zipfile.BadZipFile:
        look.note_problem("damaged")
        return None
