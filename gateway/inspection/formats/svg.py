"""SVG: a picture that browsers run like a page (SVG 2, chapters 14 to 16)."""

import re

from gateway.inspection.formats.fields import is_remote
from gateway.inspection.formats.xml_scan import local, scan_xml
from gateway.inspection.look import Look

OPENS = ("image/svg+xml",)
# SVG 2 section 16.2: a script, or HTML within, in which there are scripts.
FRAMES = ("iframe", "object", "embed", "frame")
CONTROLS = re.compile(r"[\x00-\x20]+")  # browsers skip them within a scheme (URL standard, 4.4)
DATA_URL = re.compile(r"data:([^,;]{0,100})[^,]{0,200},", re.IGNORECASE)


class _Picture:
    def __init__(self, look: Look) -> None:
        self._look = look

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = local(tag).lower()
        if name == "script":
            self._look.note_active("script")
        elif name in FRAMES:
            self._look.note_active("frame")
        elif name == "form":
            self._look.note_active("form_submit")
        elif name == "meta" and "refresh" in (value.lower() for value in attributes.values()):
            self._look.note_active("redirect")
        for key, value in attributes.items():
            self._note_attribute(name, local(key).lower(), value)

    def _note_attribute(self, element: str, key: str, value: str) -> None:
        if key.startswith("on"):
            self._look.note_active("script")
            return
        if key not in ("href", "src", "data", "action", "formaction", "to", "values", "from"):
            return
        target = CONTROLS.sub("", value).lower()
        if target.startswith(("javascript:", "vbscript:")) or runs(target):
            self._look.note_active("script")
        elif element == "a":
            self._look.note_link(value.strip())
        elif is_remote(target):
            self._look.note_active("remote_content")

    def end(self, tag: str) -> None: ...

    def data(self, text: str) -> None: ...


def runs(target: str) -> bool:
    """Whether a data URL is a document with scripts of its own."""
    found = DATA_URL.match(target)
    return found is not None and any(kind in found[1] for kind in ("html", "svg", "xml", "javascript", "ecmascript"))


def open_file(look: Look) -> None:
    scan_xml(look, look.data, _Picture(look))
    # A stylesheet is named outside of any element (XML-Stylesheet 1.0); it may be a program that makes the page (XSLT).
    if re.search(rb"<\?xml-stylesheet", look.data[:8192], re.IGNORECASE):
        look.note_active("remote_content")
