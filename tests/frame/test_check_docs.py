"""The docs' check: what it finds in a small project, and that it leaves right words alone."""

from pathlib import Path

import click
import pytest

from scripts import check_docs


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a README, one guide and a Makefile."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway/log.py").write_text('"""Log."""\n')
    (tmp_path / "Makefile").write_text("run: setup ## Start\nsetup:\n")
    (tmp_path / "docs/guide.md").write_text("# Guide\n\n## First day, `run` it\n")
    return tmp_path


def found(project: Path, text: str) -> list[str]:
    document = project / "README.md"
    document.write_text(text)
    return list(check_docs.document_problems(project, document))


@click.group()
def program() -> None: ...


@program.group()
def policy() -> None: ...


@policy.command()
@click.option("--json", "as_json", is_flag=True)
def export(as_json: bool) -> None: ...


@policy.command(name="import")
def import_() -> None: ...


@pytest.mark.parametrize(
    "text",
    [
        "[Guide](docs/guide.md), [day](docs/guide.md#first-day-run-it), [far](https://www.example/x)",
        "[here](#top)\n\n# Top",
        "See `gateway/log.py`, `gateway/*.py`, `docs/`, `gateway/log.py::configure` and `docs/guide.md`.",
        "`make run` sets `GATEPOST_DATA_DIR`; `make -j2 setup` too.",
        "```\n[not a link](nowhere.md)\nmake run  # here\n```",
    ],
)
def test_what_is_there_is_not_reported(project: Path, text: str) -> None:
    assert found(project, text) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[Guide](docs/gude.md)", "links to docs/gude.md: no such file"),
        ("[Guide](docs/guide.md#second-day)", "links to docs/guide.md#second-day: no such heading"),
        ("See `gateway/logs.py`.", "names gateway/logs.py: no such file"),
        ("See `guides.md`.", "names guides.md: no such file"),
        ("`make rnu`", "names `make rnu`: no such target"),
        ("```\nmake rnu\n```", "names `make rnu`: no such target"),
        ("Set `GATEPOST_DATADIR`.", "names GATEPOST_DATADIR: no such setting"),
    ],
)
def test_what_is_not_there_is_reported(project: Path, text: str, problem: str) -> None:
    assert found(project, text) == [problem]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("gatepost policy export --json > policy.json", ["policy", "export", "--json"]),
        ("$ sudo -u gatepost /opt/gatepost/venv/bin/gatepost check; echo", ["check"]),
        ("GATEPOST_WORKERS=4 .venv/bin/gatepost run", ["run"]),
        (r"gatepost policy export\|import", ["policy", "export|import"]),
        ("systemctl stop gatepost", None),
        ("the operator's gatepost", None),
    ],
)
def test_a_call_is_found_behind_whatever_stands_before_it(line: str, words: list[str] | None) -> None:
    assert check_docs.words_after("gatepost", line) == words


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["policy", "export", "--json"], ""),
        (["policy", "export|import"], ""),
        (["policy", "export", "--help"], ""),
        (["policy"], ""),
        (["polcy"], "no command 'polcy' in `program`"),
        (["policy", "export|publish"], "no command 'export|publish' in `policy`"),
        (["policy", "export", "--yaml"], "`export` has no option --yaml"),
        (["policy", "export", "--json=yes", "FILE"], ""),
    ],
)
def test_commands_and_options_are_looked_up(words: list[str], problem: str) -> None:
    assert check_docs.command_problem(program, words) == problem


def test_a_command_that_goes_on_after_a_backslash_is_one_line() -> None:
    assert list(check_docs.code_lines("```\ngatepost policy \\\n  export\n```\ntext\n")) == [
        "gatepost policy    export"
    ]
