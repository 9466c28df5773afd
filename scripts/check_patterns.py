"""Check that no regular expression repeats a group possessively.

Python before 3.11.5 reads `(?:ab)*+` wrongly (CPython gh-106052): a repetition that fails half way keeps what it has
read, and Debian 12 has 3.11.2. An atomic group, `(?>(?:ab)*)`, means the same and is read well. What an f-string puts
in is not looked into. Prints one line for each finding and ends with 1 if there are any.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("gateway", "webui")
POSSESSIVE_GROUP = re.compile(r"(?<!\\)\)(?:[*+?]|\{\d*,?\d*\})\+")


def texts(tree: ast.AST) -> list[tuple[int, str]]:
    """Return the strings of a module with their lines, those of bytes as text."""
    return [
        (node.lineno, node.value if isinstance(node.value, str) else node.value.decode("latin-1"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    ]


def main() -> int:
    """Look at every module; return 1 if one has such a pattern."""
    findings = [
        f"{path.relative_to(ROOT)}:{line}: a possessive group, write (?>...) around it: {text.strip()[:80]}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in texts(ast.parse(path.read_text()))
        if POSSESSIVE_GROUP.search(text)
    ]
    print("\n".join(findings) if findings else "patterns: all in order")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
