"""The check of regular expressions finds the one form that older releases of Python 3.11 read wrongly."""

import ast

import pytest

from scripts.check_patterns import POSSESSIVE_GROUP, main, texts


@pytest.mark.parametrize(
    "pattern", [r"(?:ab)*+", r"a(b)++c", r"(?:a)?+", r"(?:ab){2,3}+", r"(?:ab){2}+", r"[a\]](?:b)*+"]
)
def test_a_group_that_is_repeated_possessively_is_found(pattern: str) -> None:
    assert POSSESSIVE_GROUP.search(pattern)


@pytest.mark.parametrize("pattern", [r"[ab]*+", r"a++", r"(?>(?:ab)*)", r"(ab)+", r"\)*+", r"(?:ab)*c+"])
def test_what_is_read_well_everywhere_is_not(pattern: str) -> None:
    assert not POSSESSIVE_GROUP.search(pattern)


def test_strings_of_every_kind_are_looked_at() -> None:
    tree = ast.parse("a = 'one'\nb = rb'two'\nc = f'three {a} four'\n")
    assert {text for _, text in texts(tree)} == {"one", "two", "three ", " four"}


def test_the_product_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0, capsys.readouterr().out
