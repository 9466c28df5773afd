"""What a page says: its HTML read as a browser reads it, and what must hold for every page."""

from html.parser import HTMLParser

INLINE = frozenset({"a", "b", "bdi", "code", "time"})  # no gap before and after them
VOID = frozenset({"meta", "link", "input", "img", "br", "path", "circle", "rect", "use"})


class Markup(HTMLParser):
    """The text of each element, what is linked, and whatever breaks the rules for pages."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self.title = ""
        self.texts: list[str] = []
        self.ids: list[str] = []
        self._open: list[str] = []
        self._labelled: set[str] = set()
        self._controls: list[tuple[str, bool]] = []
        self.feed(html)
        self.close()
        if self._open:
            self.problems.append(f"not closed: {self._open}")
        if len(self.headings) != 1:
            self.problems.append(f"{len(self.headings)} <h1>")
        if len(self.ids) != len(set(self.ids)):
            self.problems.append(f"an id twice: {sorted(self.ids)}")
        named = self._labelled
        self.problems += [f"no label: {id}" for id, inside in self._controls if not inside and id not in named]

    @property
    def text(self) -> str:
        """All text that is shown, blanks made one."""
        return " ".join("".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._part(tag)
        if tag in ("script", "style", "iframe", "object", "embed") and not given.get("src", "").startswith("/static/"):  # type: ignore[union-attr]
            self.problems.append(f"<{tag}>")
        self.problems += [f"{name} on <{tag}>" for name in given if name == "style" or name.startswith("on")]
        for name in ("href", "src", "action"):
            where = given.get(name) or ""
            if where.partition(":")[0].lower() in ("javascript", "data", "http", "https") or where.startswith("//"):
                self.problems.append(f"{name} leads to {where[:40]}")
        if tag == "a" and "href" in given:
            self.links.append(given["href"] or "")
        if "id" in given:
            self.ids.append(given["id"] or "")
        if tag == "label" and "for" in given:
            self._labelled.add(given["for"] or "")
        if tag in ("input", "select", "textarea"):
            self._controls.append((given.get("id") or "", "label" in self._open))
        if tag == "h1":
            self.headings.append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def _part(self, tag: str) -> None:
        if tag not in INLINE:
            self.texts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._part(tag)
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["title"]:
            self.title += data
        else:
            self.texts.append(data)
        if "h1" in self._open:
            self.headings[-1] += data


def read(html: str) -> Markup:
    """Read a page and hold it to the rules."""
    markup = Markup(html)
    assert markup.problems == []
    assert html.lower().startswith("<!doctype html>")
    assert markup.title.endswith(" · Gatepost")
    return markup
