"""The sizes' check: long functions, long files, names without a noun, files that do not say what they are for."""

from pathlib import Path

import pytest

from scripts.check_sizes import problems


def function(name: str, lines: int) -> str:
    return f"def {name}():\n" + "    x = 1\n" * (lines - 1)


def found(root: Path, file: str, text: str) -> list[str]:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).parent.joinpath("__init__.py").touch()
    (root / file).write_text(text)
    return problems(root)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("gateway/log.py", '"""Log."""\n' + function("f", 40)),
        ("gateway/empty/__init__.py", ""),
        ("bench/load.py", function("f", 200)),
        ("webui/app.py", '"""App."""\n' + function("long", 80) + "".join(function(f"f{n}", 5) for n in range(19))),
    ],
)
def test_what_is_small_enough_is_not_reported(tmp_path: Path, file: str, text: str) -> None:
    assert found(tmp_path, file, text) == []


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("gateway/log.py", "x = 1\n", "gateway/log.py: does not open with a docstring"),
        ("gateway/utils.py", '"""Things."""\n', "gateway/utils.py: the name says nothing"),
        ("migrations/env.py", '"""Env."""\n' + "x = 1\n" * 500, "migrations/env.py: 501 lines, at most 500"),
        (
            "webui/app.py",
            '"""App."""\n' + "".join(function(f"f{n}", 5) for n in range(30)) + "@cache\n" + function("long", 80),
            "webui/app.py:153: long has 81 lines, at most 80",
        ),
        ("webui/app.py", '"""App."""\n' + function("f", 41), "0 of 1 functions have at most 40 lines, under 95%"),
    ],
)
def test_what_is_too_large_or_silent_is_reported(tmp_path: Path, file: str, text: str, problem: str) -> None:
    assert len(lines := found(tmp_path, file, text)) == 1
    assert lines[0].startswith(problem)


def test_a_folder_of_modules_that_is_no_package_is_reported(tmp_path: Path) -> None:
    assert found(tmp_path, "gateway/engines/dns.py", '"""DNS."""\n') == []
    (tmp_path / "gateway/engines/__init__.py").unlink()
    assert problems(tmp_path) == ["gateway/engines: has no __init__.py"]
