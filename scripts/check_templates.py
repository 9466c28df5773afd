"""Check that templates are safe to render and that the content security policy will not break them.

They parse, what they include exists, nothing switches escaping off, and there is no inline script, style or handler.
Names that are undefined at rendering are the business of the pages' tests. Prints one line for each finding and ends
with 1 if there are any.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from jinja2 import Environment, StrictUndefined, TemplateSyntaxError, nodes


class Markup(HTMLParser):
    """Collects what the content security policy would block, and what must not be written in a template."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        line = self.getpos()[0]
        if tag == "style" or (tag == "script" and "src" not in names):
            self.problems.append(f"line {line}: inline <{tag}>")
        for name, value in attrs:
            if name == "style" or name.startswith(("on", "hx-on")):
                self.problems.append(f"line {line}: attribute {name}")
            if (value or "").strip().lower().startswith("javascript:"):
                self.problems.append(f"line {line}: {name} runs a script")


def without_jinja(source: str) -> str:
    """Return a template's HTML: comments and statements taken out, expressions replaced by a letter, lines kept."""

    def blank(match: re.Match[str]) -> str:
        return ("x" if match[0].startswith("{{") else "") + "\n" * match[0].count("\n")

    return re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", blank, source, flags=re.DOTALL)


def escape_problems(tree: nodes.Template) -> Iterator[str]:
    """Yield a line for each place that switches escaping off."""
    for used in tree.find_all(nodes.Filter):
        if used.name == "safe":
            yield f"line {used.lineno}: |safe"
    for node in tree.find_all((nodes.MarkSafe, nodes.ScopedEvalContextModifier)):
        yield f"line {node.lineno}: switches escaping off"


def template_problems(folder: Path, file: Path) -> Iterator[str]:
    """Yield everything that is wrong with one template."""
    source = file.read_text(encoding="utf-8")
    environment = Environment(undefined=StrictUndefined, autoescape=True)
    try:
        tree = environment.parse(source)
    except TemplateSyntaxError as error:
        yield f"line {error.lineno}: {error.message}"
        return
    yield from escape_problems(tree)
    for node in tree.find_all((nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)):
        name = getattr(node, "template", None)
        if isinstance(name, nodes.Const) and not (folder / name.value).exists():
            yield f"line {node.lineno}: there is no template {name.value}"
    markup = Markup()
    markup.feed(without_jinja(source))
    yield from markup.problems


def problems(folder: Path) -> list[str]:
    """Return every finding in a folder of templates, one line each."""
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        found += [f"{file.relative_to(folder)}: {problem}" for problem in template_problems(folder, file)]
    return found


def main() -> int:
    """Check the templates of the project that this script belongs to; return the exit status."""
    found = problems(Path(__file__).resolve().parent.parent / "webui/templates")
    print("\n".join(found) if found else "templates: all in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
