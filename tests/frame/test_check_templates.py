"""The templates' check: everything that would let hostile text through or break the content security policy."""

from pathlib import Path

import pytest

from scripts.check_templates import problems


def found(folder: Path, source: str) -> list[str]:
    (folder / "frame.html").write_text("<!doctype html>{% block main %}{% endblock %}")
    (folder / "page.html").write_text(source)
    return problems(folder)


@pytest.mark.parametrize(
    "source",
    [
        '{% extends "frame.html" %}{% block main %}<p class="{% if x %}on{% endif %}">{{ x|e }}</p>{% endblock %}',
        '<script src="/static/app.js" defer></script>',
        "{# |safe, <style> and onclick= are spoken of here #}<p>{{ 'style=' }}</p>",
        '<a href="{{ link }}" data-onclick="x">{% raw %}{{ x }}{% endraw %}</a>',
    ],
)
def test_a_sound_template_is_not_reported(tmp_path: Path, source: str) -> None:
    assert found(tmp_path, source) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{% if x %}", "line 1: Unexpected end of template"),
        ("<p>\n{{ x | safe }}</p>", "line 2: |safe"),
        ("{{ x|upper|safe }}", "line 1: |safe"),
        ("{% autoescape false %}{{ x }}{% endautoescape %}", "line 1: switches escaping off"),
        ('{% include "parts/gone.html" %}', "line 1: there is no template parts/gone.html"),
        ("<p>\n<script>go()</script>", "line 2: inline <script>"),
        ("<style>p { color: red }</style>", "line 1: inline <style>"),
        ('<p style="color: red">', "line 1: attribute style"),
        ('<p\n onclick="go()">', "line 1: attribute onclick"),
        ('<p {% if x %}ONCLICK="{{ x }}"{% endif %}>', "line 1: attribute onclick"),
        ('<p hx-on:click="go()">', "line 1: attribute hx-on:click"),
        ('<a href=" JavaScript:go()">', "line 1: href runs a script"),
    ],
)
def test_an_unsafe_template_is_reported_with_its_line(tmp_path: Path, source: str, problem: str) -> None:
    assert len(lines := found(tmp_path, source)) == 1
    assert lines[0].startswith(f"page.html: {problem}")
