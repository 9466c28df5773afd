"""Check that what the docs name is there: links, files, `make` targets, `gatepost` commands and options, settings.

Does not judge what the docs say. Prints one line for each finding and ends with 1 if there are any.
"""

import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

FOLDERS = (
    "gateway/", "webui/", "migrations/", "tests/", "deploy/", "docs/", "bench/", "scripts/", "requirements/", ".ci/",
)  # fmt: skip
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~)")
SPAN = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
PATH = re.compile(r"[\w./*-]+")
SHELL_ENDS = {"|", "||", "&&", "&", ";", ">", ">>", "<"}
SETTING = re.compile(r"\bGATEPOST_[A-Z_]+\b")
NAMED_FILES = re.compile(r"[A-Za-z][\w-]*\.(?:md|toml|yaml|txt|service|target)")
# Not the project's: what an operator writes, and a lock format that is named because it is not used.
MADE_ELSEWHERE = {"gatepost.toml", "policy.yaml", "pylock.toml"}


def documents(root: Path) -> list[Path]:
    """Return the Markdown files that people read."""
    return sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "deploy").rglob("*.md")])


# Links and file names


def slug(heading: str) -> str:
    """Return the anchor that a heading gets: lower case, punctuation dropped, spaces as hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """Return the anchors of all headings outside code."""
    return {slug(match[1]) for line in prose(text) if (match := HEADING.match(line))}


def prose(text: str) -> Iterator[str]:
    """Yield the lines outside code blocks."""
    inside = False
    for line in text.splitlines():
        if FENCE.match(line.strip()):
            inside = not inside
        elif not inside:
            yield line


def code_lines(text: str) -> Iterator[str]:
    """Yield the lines inside code blocks, those that end in a backslash joined with the next."""
    inside, begun = False, ""
    for line in text.splitlines():
        if FENCE.match(line.strip()):
            inside, begun = not inside, ""
        elif inside and line.endswith("\\"):
            begun += line[:-1] + " "
        elif inside:
            yield begun + line
            begun = ""


def link_problems(document: Path, text: str) -> Iterator[str]:
    """Yield a line for each relative link whose file or heading is not there."""
    for target in LINK.findall("\n".join(prose(text))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = document if not name else (document.parent / name).resolve()
        if not file.exists():
            yield f"links to {target}: no such file"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
            yield f"links to {target}: no such heading"


def path_problems(root: Path, document: Path, span: str) -> Iterator[str]:
    """Yield a line if a code span names a file of the project that is not there."""
    name = span.split("::")[0].split(" ")[0]
    if not PATH.fullmatch(name):
        return
    if name.startswith(FOLDERS):
        if not any(True for _ in root.glob(name.rstrip("/"))):
            yield f"names {name}: no such file"
    elif NAMED_FILES.fullmatch(name) and name not in MADE_ELSEWHERE:
        places = (root, root / "docs", root / "deploy", root / "deploy/systemd", document.parent)
        if not any((place / name).exists() for place in places):
            yield f"names {name}: no such file"


# Commands, targets, settings


@cache
def targets(root: Path) -> frozenset[str]:
    """Return the Makefile's targets."""
    return frozenset(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@cache
def settings_names() -> frozenset[str]:
    """Return the environment variables that Gatepost reads."""
    from gateway.settings import Settings

    return frozenset(f"GATEPOST_{name.upper()}" for name in Settings.model_fields) | {"GATEPOST_CONFIG"}


@cache
def program() -> click.Command:
    """Return the `gatepost` command with everything below it."""
    from gateway.commands import cli

    return cli


def command_problem(command: click.Command, words: list[str]) -> str:
    """Return what is wrong with the words after `gatepost`, "" if they could be typed.

    Words follow groups down to a command; then only options are looked at. `a|b` stands for either.
    """
    context = click.Context(command)
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        choices = words.pop(0).split("|")
        found = [command.get_command(context, choice) for choice in choices]
        if None in found:
            return f"no command {'|'.join(choices)!r} in `{command.name}`"
        command = found[0] or command
        context = click.Context(command, parent=context)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    named = {word.split("=")[0] for word in words if word.startswith("--")}
    wrong = sorted(named - known - {"--help"})
    return f"`{command.name}` has no option {wrong[0]}" if wrong else ""


def words_after(name: str, line: str) -> list[str] | None:
    """Return the words after the program `name` in a line of shell, None if the line does not call it.

    What stands before it (a prompt, sudo with a user, variables, a folder) is dropped, as is everything from a pipe,
    `;`, `&` or `>` on.
    """
    lexer = shlex.shlex(line.replace("\\|", "|").removeprefix("$ "), posix=True, punctuation_chars=";&<>")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # prose with an apostrophe
        return None
    while words and words[0].rpartition("/")[2] != name:
        if words[0] == "-u":
            del words[0]
        elif not re.fullmatch(r"sudo|env|exec|[A-Z_]+=\S*", words[0]):
            return None
        del words[:1]
    if not words:
        return None
    rest = words[1:]
    end = next((at for at, word in enumerate(rest) if word in SHELL_ENDS), len(rest))
    return [word.rstrip(",.") for word in rest[:end]]


def call_problems(root: Path, line: str) -> Iterator[str]:
    """Yield a line for a command or target that is named and not there."""
    for target in words_after("make", line) or []:
        if re.fullmatch(r"[a-z-]+", target) and target not in targets(root):
            yield f"names `make {target}`: no such target"
    words = words_after("gatepost", line)
    if words and (problem := command_problem(program(), words)):
        yield f"names `{line.strip()}`: {problem}"


def document_problems(root: Path, document: Path) -> Iterator[str]:
    """Yield everything that a document names and that is not there."""
    text = document.read_text(encoding="utf-8")
    yield from link_problems(document, text)
    spans = [span for line in prose(text) for span in SPAN.findall(line)]
    for span in spans:
        yield from path_problems(root, document, span)
    for line in [*spans, *code_lines(text)]:
        yield from call_problems(root, line)
    for name in sorted(set(SETTING.findall(text)) - settings_names()):
        yield f"names {name}: no such setting"


def problems(root: Path) -> list[str]:
    """Return every finding below `root`, one line each."""
    found = []
    for document in documents(root):
        found += [f"{document.relative_to(root)}: {problem}" for problem in document_problems(root, document)]
    return found


def main() -> int:
    """Check the project that this script belongs to; return the exit status."""
    found = problems(ROOT)
    print("\n".join(found) if found else "docs: all in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
