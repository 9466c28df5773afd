"""Office Open XML (ECMA-376): macros, what is fetched or started on opening, and the files within.

Parts are found by what the package says of them (content types and relationships), whatever they are called: Office
goes by that, too. Text and layout are not read.
"""

from collections.abc import Iterator

from msgspec import Struct

from gateway.inspection.facts import Macro
from gateway.inspection.formats import xlm
from gateway.inspection.formats.compound import Compound, Damaged
from gateway.inspection.formats.fields import is_remote, note_field, result_of
from gateway.inspection.formats.package import Package, open_package
from gateway.inspection.formats.vba_storage import grade_projects
from gateway.inspection.formats.xml_scan import local, plain, scan_xml
from gateway.inspection.look import Look

_DOCUMENTS = "application/vnd.openxmlformats-officedocument."
OPENS = (
    *(
        _DOCUMENTS + kind
        for kind in (
            "wordprocessingml.document",
            "wordprocessingml.template",
            "spreadsheetml.sheet",
            "spreadsheetml.template",
            "presentationml.presentation",
            "presentationml.slideshow",
            "presentationml.template",
            "presentationml.slide",
        )
    ),
    "application/vnd.ms-word.document.macroenabled.12",
    "application/vnd.ms-word.template.macroenabled.12",
    "application/vnd.ms-excel.sheet.macroenabled.12",
    "application/vnd.ms-excel.template.macroenabled.12",
    "application/vnd.ms-excel.addin.macroenabled.12",
    "application/vnd.ms-excel.sheet.binary.macroenabled.12",
    "application/vnd.ms-powerpoint.presentation.macroenabled.12",
    "application/vnd.ms-powerpoint.slideshow.macroenabled.12",
    "application/vnd.ms-powerpoint.template.macroenabled.12",
    "application/vnd.ms-powerpoint.addin.macroenabled.12",
    "application/vnd.ms-powerpoint.slide.macroenabled.12",
    "application/vnd.ms-visio.drawing",
    "application/vnd.ms-visio.template",
    "application/vnd.ms-visio.stencil",
    "application/vnd.ms-visio.drawing.macroenabled.12",
    "application/vnd.ms-visio.template.macroenabled.12",
    "application/vnd.ms-visio.stencil.macroenabled.12",
)
CONTENT_TYPES = "[content_types].xml"
NO_FIELDS = ("styles", "settings", "fonttable", "numbering", "theme")
PROGRAM = b"ppaction://program"  # ECMA-376 part 1, 21.1.2.3.5: an action that starts a program


class Relationship(Struct, frozen=True):
    """What a part says of another one, or of something elsewhere (ECMA-376 part 2, 6.5.3)."""

    kind: str  # last step of its type, lower case
    target: str  # name of the part, or as written when it is elsewhere
    is_external: bool


class _Relationships:
    """Reads a part of relationships. `folder` is that of the part that they are of."""

    def __init__(self, folder: str) -> None:
        self.found: list[Relationship] = []
        self._folder = folder

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if local(tag) != "Relationship":
            return
        kind = attributes.get("Type", "").rsplit("/", 1)[-1].lower()
        is_external = attributes.get("TargetMode", "").lower() == "external"
        target = attributes.get("Target", "")
        self.found.append(Relationship(kind, target if is_external else resolved(self._folder, target), is_external))

    def end(self, tag: str) -> None: ...

    def data(self, text: str) -> None: ...


class _ContentTypes:
    """Reads the types of parts (ECMA-376 part 2, 7.2.3)."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self.extensions: dict[str, str] = {}

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        kind = attributes.get("ContentType", "").lower()
        if local(tag) == "Override":
            self.parts[attributes.get("PartName", "").strip("/").lower()] = kind
        elif local(tag) == "Default":
            self.extensions[attributes.get("Extension", "").lower()] = kind

    def end(self, tag: str) -> None: ...

    def data(self, text: str) -> None: ...

    def of(self, name: str) -> str:
        return self.parts.get(name) or self.extensions.get(name.rsplit(".", 1)[-1], "")


class _Fields:
    """Reads field instructions, which may be split over any number of runs (ECMA-376 part 1, 17.16.18 and 17.16.23)."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._open: list[tuple[list[str], list[str]]] = []  # of each open field: text so far, text before `separate`
        self._is_instruction = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = local(tag)
        self._is_instruction = name == "instrText"
        if name == "fldSimple":
            note_field(self._look, attribute(attributes, "instr"))
        elif name == "fldChar":
            self._mark(attribute(attributes, "fldCharType"))

    def _mark(self, kind: str) -> None:
        if kind == "begin":
            self._open.append(([], []))
        elif self._open and kind == "separate":
            # What follows is what the field gave last time: text, or instructions of the field it lies in.
            instruction, before = self._open.pop()
            self._open.append(([], before or instruction))
        elif self._open and kind == "end":
            given, instruction = self._open.pop()
            text = "".join(instruction or given)
            note_field(self._look, text)
            if self._open:
                self._open[-1][0].append("".join(given) if instruction and given else result_of(text))

    def data(self, text: str) -> None:
        if self._is_instruction and self._open:
            self._open[-1][0].append(text)

    def end(self, tag: str) -> None:
        self._is_instruction = False


def attribute(attributes: dict[str, str], name: str) -> str:
    return next((value for key, value in attributes.items() if local(key) == name), "")


def resolved(folder: str, target: str) -> str:
    """Return the name of the part that `target` leads to from a part in `folder` (RFC 3986 section 5.2.4)."""
    steps: list[str] = [] if target.startswith("/") else folder.split("/")
    for step in target.replace("\\", "/").split("/"):
        if step == "..":
            del steps[-1:]
        elif step not in ("", "."):
            steps.append(step)
    return "/".join(step for step in steps if step).lower()


class Document:
    """One package with what it says of its parts."""

    def __init__(self, look: Look, package: Package) -> None:
        self.look = look
        self.package = package
        self.types = _ContentTypes()
        scan_xml(look, package.read(CONTENT_TYPES), self.types)
        self.relationships = [found for name in package.entries for found in self._relationships(name)]

    def _relationships(self, name: str) -> list[Relationship]:
        if not name.endswith(".rels"):
            return []
        reader = _Relationships(name.rpartition("_rels/")[0].strip("/"))
        scan_xml(self.look, self.package.read(name), reader)
        return reader.found

    def related(self, *kinds: str) -> set[str]:
        """Return the parts that a relationship of one of `kinds` leads to."""
        return {r.target for r in self.relationships if r.kind in kinds and not r.is_external}

    def typed(self, *words: str) -> set[str]:
        """Return the parts in whose content type one of `words` stands."""
        return {name for name in self.package.entries if any(word in self.types.of(name) for word in words)}


def open_file(look: Look) -> None:
    package = open_package(look)
    if package is None:
        return
    if CONTENT_TYPES not in package.entries:
        look.note_problem("damaged")
        return
    document = Document(look, package)
    note_external(document)
    note_vba(document)
    note_macro_sheets(document)
    note_actions(document)
    open_embedded(document)


def note_external(document: Document) -> None:
    """Grade what lies elsewhere: links, templates, and what is fetched when the document is opened."""
    look = document.look
    for relationship in document.relationships:
        if not relationship.is_external:
            continue
        if relationship.kind == "hyperlink":
            look.note_link(relationship.target)
        elif relationship.kind == "attachedtemplate":
            # Word writes the path of a template on the writer's own disk into every document made of it.
            if is_remote(relationship.target):
                look.note_active("external_template")
        elif relationship.kind == "oleobject" or is_remote(relationship.target):
            look.note_active("external_relationship")


def note_vba(document: Document) -> None:
    parts = document.related("vbaproject") | document.typed("vbaproject")
    parts |= {name for name in document.package.entries if name.endswith("vbaproject.bin")}
    parts -= {name for name in parts if "signature" in name and name not in document.related("vbaproject")}
    for name in sorted(parts & document.package.entries.keys()):
        document.look.note_macro(Macro.PRESENT)
        try:
            grade_projects(document.look, Compound(document.look, document.package.read(name)))
        except Damaged:
            document.look.note_problem("damaged")
    if document.look.macro is not Macro.NONE:
        note_callbacks(document)


def note_callbacks(document: Document) -> None:
    """A ribbon that calls macros when it is loaded (MS-CUSTOMUI 2.2.9, onLoad) runs them by itself."""
    for name in document.related("extensibility"):
        if b"onload" in plain(document.package.read(name)).lower():
            document.look.note_macro(Macro.AUTO_RUN)


def note_macro_sheets(document: Document) -> None:
    """Note Excel 4.0 macros, in XML (MS-OFFMACRO2 2.2.1) and binary workbooks (MS-XLSB 2.1.7.33)."""
    sheets = document.related("xlmacrosheet", "xlintlmacrosheet") | document.typed("macrosheet")
    sheets |= {name for name in document.package.entries if "/macrosheets/" in name and not name.endswith(".rels")}
    if not sheets:
        return
    document.look.note_macro(Macro.PRESENT)
    workbooks = document.related("officedocument")
    if any(xlm.names_auto_run(document.package.read(name)) for name in workbooks):
        document.look.note_macro(Macro.AUTO_RUN)
    if any(xlm.reaches_out(document.package.read(name)) for name in sheets):
        document.look.note_macro(Macro.SUSPICIOUS)


def note_actions(document: Document) -> None:
    """Note fields of Word, DDE links of Excel, programs that slides start, and controls."""
    look = document.look
    for data in texts_of_word(document):
        words = plain(data)
        if b"instrText" in words or b"fldSimple" in words:
            scan_xml(look, data, _Fields(look))
    for name in document.related("externallink") | document.typed("externallink"):
        data = document.package.read(name)
        if b"ddeLink" in plain(data) or is_binary_dde(data):
            look.note_active("dde")
    for name in document.typed("presentationml.slide+xml"):
        if PROGRAM in plain(document.package.read(name)):
            look.note_active("launch")
    if document.related("control", "activexcontrolbinary") or document.typed("activex"):
        look.note_active("activex")


def texts_of_word(document: Document) -> Iterator[bytes]:
    for name in document.typed("wordprocessingml", "ms-word."):
        kind = document.types.of(name)
        if kind.endswith("+xml") and not any(word in kind for word in NO_FIELDS):
            yield document.package.read(name)


def is_binary_dde(data: bytes) -> bool:
    """Whether a binary link part starts as a DDE link (MS-XLSB 2.4.213, BrtBeginSupBook with sbt 1)."""
    if data[:2] != b"\xe8\x02":
        return False
    start = 3 if data[2:3] < b"\x80" else 4  # MS-XLSB 2.1.4: seven bits of the size in each octet
    return data[start : start + 2] == b"\x01\x00"


def open_embedded(document: Document) -> None:
    """Open what lies within: OLE objects, packages, and chunks of other formats that Word takes in (17.17.2.1)."""
    objects = document.related("oleobject") | document.typed("oleobject")
    files = document.related("package", "afchunk")
    if objects:
        document.look.note_active("embedded_object")
    if files:
        document.look.note_active("embedded_file")
    controls = document.related("activexcontrolbinary")
    for name in sorted((objects | files | controls) & document.package.entries.keys()):
        document.package.open_part(name)
