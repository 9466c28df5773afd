"""PDF: what runs, starts, sends or is brought along (ISO 32000-1, 12.6 and 7.11). Pages and fonts are not read."""

import re
from collections.abc import Iterator
from functools import partial

from gateway.inspection.formats.pdf_crypto import Encryption, Unsupported, decrypt, file_key, read_encryption
from gateway.inspection.formats.pdf_objects import (
    PdfObject,
    Token,
    content_of,
    objects,
    packed_objects,
    text_of,
    tokens_of,
)
from gateway.inspection.look import Look

OPENS = ("application/pdf",)
# What a name stands for, as it is noted. 12.6.4: actions; 12.6.4.16: JavaScript; 13.6: pictures in three dimensions.
MEANS = {
    b"JS": "script",
    b"JavaScript": "script",
    b"Launch": "launch",
    b"SubmitForm": "form_submit",
    b"ImportData": "form_submit",
    b"EmbeddedFile": "embedded_file",
    b"EmbeddedFiles": "embedded_file",
    b"RichMedia": "embedded_object",
    b"3D": "embedded_object",
}
# Objects in which one of these names stands are read; so is whatever writes names in hexadecimal (7.3.5).
WANTED = re.compile(
    rb"/(?:JS|JavaScript|Launch|SubmitForm|ImportData|EmbeddedFiles?|EF|RichMedia|3D|URI|XFA|ObjStm|Encrypt|Filespec"
    rb"|GoToR|GoToE|Standard)(?![A-Za-z0-9])|/[^\s/<>()\[\]]{0,64}#[0-9A-Fa-f]{2}"
)
ENCRYPT = re.compile(rb"/Encrypt[\s\0]{0,8}(?:(\d{1,10})[\s\0]{1,8}\d{1,5}[\s\0]{1,8}R|<<)")
FILE_ID = re.compile(rb"/ID[\s\0]{0,8}\[[\s\0]{0,8}(<[0-9A-Fa-f\s]{0,128}>|\((?:[^()\\]|\\.){0,128}\))", re.DOTALL)
SCRIPT = re.compile(rb"<(?:\w{1,32}:)?script|<(?:\w{1,32}:)?submit", re.IGNORECASE)
MAX_REST = 1024  # octets behind the end mark; annex H, note 18: readers look for it that far back
MAX_HOLDERS = 20_000  # object streams
NAMES = (b"UF", b"F", b"Unix", b"Mac", b"DOS")  # 7.11.3, table 44


class Pdf:
    """One file while it is read."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._encryption: Encryption | None = None
        self._key = b""
        self.objects: dict[int, list[PdfObject]] = {}
        self.file_names: dict[int, list[str]] = {}
        self.forms: set[int] = set()

    def read(self) -> None:
        found = list(objects(self._look, WANTED))
        if self._unlock(found):
            for item in found:
                self._take(item, is_packed=False)
            for item in self._packed(found):
                self._take(item, is_packed=True)
            self._read_files(found)
            self._read_forms()

    # --- Encryption ---------------------------------------------------------------------------------------------------

    def _unlock(self, found: list[PdfObject]) -> bool:
        """Note a lock; return whether there is anything to read, which is so without one and with one that opens."""
        trailer = ENCRYPT.search(self._look.data)
        if trailer is None:
            return True
        number = int(trailer[1]) if trailer[1] else -1
        try:
            self._find_key(found, number)
        except Unsupported:
            self._look.note_problem("unsupported")
        self._look.note_lock(is_opened=bool(self._key))
        # Names and numbers are never encrypted: what they tell is told even so.
        if not self._key:
            for item in found:
                self._note_names(item)
        return bool(self._key)

    def _find_key(self, found: list[PdfObject], number: int) -> None:
        item = next((item for item in reversed(found) if item.number == number), None)
        if item is None:
            raise Unsupported
        encryption = read_encryption(item, self._file_id())
        self._encryption = encryption
        for password in dict.fromkeys(("", *self._look.passwords)):
            self._look.check_time()
            self._key = file_key(encryption, password)
            if self._key:
                return

    def _file_id(self) -> bytes:
        """Return the first half of the file's identifier (14.4)."""
        found = FILE_ID.search(self._look.data)
        if found is None:
            return b""
        tokens, _ = tokens_of(self._look, found[1], 0, len(found[1]))
        return tokens[0].value if tokens else b""

    def _content(self, item: PdfObject) -> bytes:
        # 7.5.8.2: cross-reference streams are never encrypted, and nothing here reads them.
        if self._encryption is None:
            return content_of(self._look, item)
        clear = partial(decrypt, self._encryption, self._key, item.number, item.generation)
        return content_of(self._look, item, clear)

    def _text(self, item: PdfObject, token: Token, is_packed: bool) -> str:
        """Return a string; those in object streams are encrypted with their stream alone (7.5.7)."""
        if self._encryption is None or is_packed:
            return text_of(token.value)
        return text_of(decrypt(self._encryption, self._key, item.number, item.generation, token.value))

    # --- Objects ------------------------------------------------------------------------------------------------------

    def _packed(self, found: list[PdfObject]) -> Iterator[PdfObject]:
        holders = [item for item in found if item.stream_start >= 0 and b"ObjStm" in item.names()]
        for holder in holders[:MAX_HOLDERS]:
            content = self._content(holder)
            if WANTED.search(content):
                yield from packed_objects(self._look, holder, content)

    def _take(self, item: PdfObject, *, is_packed: bool) -> None:
        self._look.check_time()
        self.objects.setdefault(item.number, []).append(item)
        self._note_names(item)
        for token in item.after(b"URI"):
            if token.kind == "string":
                self._look.note_link(self._text(item, token, is_packed).strip("\0 "))
        names = item.names()
        if b"EF" in names:
            self._take_names(item, is_packed)
        if names & {b"GoToR", b"GoToE"}:
            self._note_remote(item, is_packed)
        self.forms |= {int(token.value) for token in item.values(b"XFA") if token.kind == "reference"}

    def _note_names(self, item: PdfObject) -> None:
        for name in item.names() & MEANS.keys():
            self._look.note_active(MEANS[name])

    def _note_remote(self, item: PdfObject, is_packed: bool) -> None:
        """A jump into a file on another host gives that host the reader's credentials (12.6.4.3)."""
        targets = [self._text(item, token, is_packed) for token in item.after(b"F") if token.kind == "string"]
        if any(target.startswith(("\\\\", "//")) or "://" in target for target in targets):
            self._look.note_active("external_relationship")

    def _take_names(self, item: PdfObject, is_packed: bool) -> None:
        """Keep the names that a file specification gives to the files that it leads to (7.11.3)."""
        names = [
            self._text(item, token, is_packed) for key in NAMES for token in item.after(key) if token.kind == "string"
        ]
        for token in item.values(b"EF"):
            if token.kind == "reference":
                self.file_names[int(token.value)] = list(dict.fromkeys(names))

    # --- What lies within ---------------------------------------------------------------------------------------------

    def _read_files(self, found: list[PdfObject]) -> None:
        wanted = {item.number: item for item in found if is_file(item)}
        missing = self.file_names.keys() - wanted.keys()
        if missing:  # /Type /EmbeddedFile may be left out (7.11.4, table 45)
            wanted.update(self._by_numbers(missing))
        for number in sorted(wanted.keys() - self.forms):  # LiveCycle calls the parts of a form embedded files
            data = self._content(wanted[number])
            self._look.note_active("embedded_file")
            self._look.open_member(data, *self.file_names.get(number, ()))

    def _read_forms(self) -> None:
        """Look for scripts in the parts of an XFA form (12.7.8)."""
        for item in self._by_numbers(self.forms).values():
            content = self._content(item)
            if SCRIPT.search(content):
                self._look.note_active("script")

    def _by_numbers(self, numbers: set[int]) -> dict[int, PdfObject]:
        if not numbers:
            return {}
        return {item.number: item for item in objects(self._look, None, numbers)}


def is_file(item: PdfObject) -> bool:
    return item.stream_start >= 0 and b"EmbeddedFile" in item.names()


def open_file(look: Look) -> None:
    start = look.data.find(b"%PDF-", 0, 1024)
    # ISO 32000-1 annex H, note 13: readers accept the header anywhere in the first 1024 octets.
    if start > 0 and look.data[:start].strip(b"\xef\xbb\xbf\r\n\t \0"):
        look.note_problem("prepended_data")
    end = look.data.rfind(b"%%EOF")
    if end >= 0 and len(look.data[end + 5 :].strip()) > MAX_REST:
        look.note_problem("appended_data")
    Pdf(look).read()
