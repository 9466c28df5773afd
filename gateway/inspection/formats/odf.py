"""OpenDocument (OASIS ODF 1.3): macros, encryption, what is fetched, and the objects within."""

from gateway.inspection.facts import Macro
from gateway.inspection.formats.fields import is_remote
from gateway.inspection.formats.package import Package, open_package
from gateway.inspection.formats.vba import REACHES, STARTS
from gateway.inspection.formats.xml_scan import local, scan_xml
from gateway.inspection.look import Look

_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
OPENS = tuple(
    _OPEN_DOCUMENT + kind
    for kind in (
        "text",
        "text-template",
        "text-master",
        "text-web",
        "spreadsheet",
        "spreadsheet-template",
        "presentation",
        "presentation-template",
        "graphics",
        "graphics-template",
        "chart",
        "formula",
        "database",
    )
)
MANIFEST = "meta-inf/manifest.xml"
# ODF 1.3 part 2, 3.2: Basic and Scripts are where the writers put macro libraries.
LIBRARIES = ("basic/", "scripts/")
LIBRARY_LISTS = ("script-lc.xml", "script-lb.xml", "dialog-lc.xml", "dialog-lb.xml")
STARTING_EVENTS = ("load", "open", "start-app", "startapp", "new", "close", "view-created", "focus", "print")


class _Content:
    """Reads content.xml and styles.xml: events, links, plug-ins, DDE."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = local(tag)
        values = {local(key): value for key, value in attributes.items()}
        if name == "event-listener":
            self._note_event(values)
        elif name in ("dde-source", "dde-connection-decl", "dde-link"):
            self._look.note_active("dde")
        elif name in ("plugin", "applet", "floating-frame"):
            self._look.note_active("frame" if name == "floating-frame" else "embedded_object")
        elif name == "script" and values.get("language"):
            self._look.note_macro(Macro.PRESENT)
        self._note_target(name, values.get("href", ""))

    def _note_event(self, values: dict[str, str]) -> None:
        """Note a macro that an event calls (ODF 1.3 part 3, 14.4)."""
        event = values.get("event-name", "").rsplit(":", 1)[-1].lower()
        runs = any(event == start or event.startswith("on" + start) for start in STARTING_EVENTS)
        self._look.note_macro(Macro.AUTO_RUN if runs else Macro.PRESENT)

    def _note_target(self, element: str, target: str) -> None:
        if element == "a" and target and not target.startswith("#"):
            self._look.note_link(target)
        elif element == "template" and is_remote(target):
            self._look.note_active("external_template")
        elif target and is_remote(target):
            self._look.note_active("external_relationship")

    def end(self, tag: str) -> None: ...

    def data(self, text: str) -> None: ...


def open_file(look: Look) -> None:
    package = open_package(look)
    if package is None:
        return
    if b"encryption-data" in package.read(MANIFEST):  # ODF 1.3 part 2, 4.5.2
        look.note_lock(is_opened=False)
        return
    note_libraries(look, package)
    for name in list(package.entries):
        if name.rsplit("/", 1)[-1] in ("content.xml", "styles.xml", "meta.xml", "settings.xml"):
            scan_xml(look, package.read(name), _Content(look))
    open_objects(look, package)


def note_libraries(look: Look, package: Package) -> None:
    for name in list(package.entries):
        is_listing = name.endswith(LIBRARY_LISTS)
        if not name.startswith(LIBRARIES) or is_listing or package.entries[name].is_dir():
            continue
        look.note_macro(Macro.PRESENT)
        source = package.read(name).decode("utf-8", "replace")
        if STARTS.search(source) or REACHES.search(source):
            look.note_macro(Macro.SUSPICIOUS)


def open_objects(look: Look, package: Package) -> None:
    """Open OLE objects and files within: they lie beside content.xml, pictures and previews aside."""
    for name in list(package.entries):
        first, _, rest = name.partition("/")
        if first.startswith("object ") and not rest:
            look.note_active("embedded_object")
            package.open_part(name)
