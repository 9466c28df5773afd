"""Check that functions and files stay small enough to be read, and that files and folders are what they should be.

Looks at the product's own Python: gateway, webui, migrations. Prints one line for each finding and ends with 1 if
there are any.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDERS = ("gateway", "webui", "migrations")
PACKAGES = ("gateway", "webui")
MAX_FUNCTION_LINES = 80
USUAL_FUNCTION_LINES = 40
USUAL_SHARE = 0.95  # so many of all functions have at most USUAL_FUNCTION_LINES
MAX_FILE_LINES = 500
NAMELESS = {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}


class Function(NamedTuple):
    """One function or method with its length in lines, docstring and decorators included."""

    place: str
    name: str
    lines: int


def python_files(root: Path) -> list[Path]:
    """Return the product's modules below `root`, sorted."""
    return sorted(file for folder in FOLDERS for file in (root / folder).rglob("*.py"))


def functions(tree: ast.Module, file: str) -> Iterator[Function]:
    """Yield every function of a module, nested ones too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield Function(f"{file}:{node.lineno}", node.name, (node.end_lineno or node.lineno) - first + 1)


def file_problems(file: str, text: str, tree: ast.Module) -> Iterator[str]:
    """Yield what is wrong with a file as a whole."""
    lines = len(text.splitlines())
    if lines > MAX_FILE_LINES:
        yield f"{file}: {lines} lines, at most {MAX_FILE_LINES}: what are the two things in it?"
    if Path(file).stem in NAMELESS:
        yield f"{file}: the name says nothing: what does it hold?"
    if text.strip() and not ast.get_docstring(tree):
        yield f"{file}: does not open with a docstring"


def package_problems(root: Path) -> Iterator[str]:
    """Yield the folders that Python would import all the same, but that the check of layers would not see."""
    for folder in sorted({file.parent for package in PACKAGES for file in (root / package).rglob("*.py")}):
        if not (folder / "__init__.py").exists():
            yield f"{folder.relative_to(root)}: has no __init__.py"


def share_problem(found: list[Function]) -> Iterator[str]:
    """Yield a line if too many functions are long, naming the longest."""
    usual = sum(function.lines <= USUAL_FUNCTION_LINES for function in found)
    if found and usual < USUAL_SHARE * len(found):
        longest = sorted(found, key=lambda function: -function.lines)[:10]
        names = ", ".join(f"{function.place} {function.name} ({function.lines})" for function in longest)
        share = f"{usual} of {len(found)} functions have at most {USUAL_FUNCTION_LINES} lines"
        yield f"{share}, under {USUAL_SHARE:.0%}. Longest: {names}"


def problems(root: Path) -> list[str]:
    """Return every finding below `root`, one line each."""
    found: list[str] = []
    every: list[Function] = []
    for path in python_files(root):
        file = str(path.relative_to(root))
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, filename=file)
        found += file_problems(file, text, tree)
        own = list(functions(tree, file))
        found += [
            f"{function.place}: {function.name} has {function.lines} lines, at most {MAX_FUNCTION_LINES}"
            for function in own
            if function.lines > MAX_FUNCTION_LINES
        ]
        every += own
    return [*found, *package_problems(root), *share_problem(every)]


def main() -> int:
    """Check the project that this script belongs to; return the exit status."""
    found = problems(Path(__file__).resolve().parent.parent)
    print("\n".join(found) if found else "sizes: all in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
