"""Compound files: Excel's records, fields of Word, objects within, locks, Outlook messages."""

import struct

import pytest

from gateway.inspection.facts import Lock, Macro
from tests.inspection.formats.documents import COMPOUND, compound, first, opened, package_object

BOF = (0x809, struct.pack("<HHI", 0x600, 5, 0))
MACRO_SHEET = (0x809, struct.pack("<HHI", 0x600, 0x40, 0))
EQUATION = bytes.fromhex("02CE020000000000C000000000000046")


def workbook(*records: tuple[int, bytes]) -> bytes:
    return compound({"Workbook": b"".join(struct.pack("<HH", kind, len(body)) + body for kind, body in records)})


def name(flags: int, text: bytes) -> tuple[int, bytes]:
    return 0x18, struct.pack("<HBBHHHI", flags, 0, len(text), 0, 0, 1, 0) + b"\0" + text


@pytest.mark.parametrize(
    ("records", "grade"),
    [
        ((BOF,), Macro.NONE),
        ((BOF, (0x85, b"\0\0\0\0\x02\x00\x05\0Sheet")), Macro.NONE),
        ((BOF, (0x85, b"\0\0\0\0\x02\x01\x05\0Macro")), Macro.PRESENT),
        ((BOF, MACRO_SHEET), Macro.PRESENT),
        ((BOF, name(0x20, b"\x01")), Macro.AUTO_RUN),
        ((BOF, name(0x00, b"Auto_Open1")), Macro.AUTO_RUN),
        ((BOF, name(0x20, b"\x06")), Macro.NONE),  # Print_Area
        ((BOF, MACRO_SHEET, (0x06, bytes(20) + b"\x17\x01\0a\x42\x01\x6e\x00")), Macro.SUSPICIOUS),
        ((BOF, (0x06, bytes(20) + b"\x17\x01\0a\x42\x01\x6e\x00")), Macro.NONE),
    ],
)
def test_excel_4_macros_are_graded(
    monkeypatch: pytest.MonkeyPatch, records: tuple[tuple[int, bytes], ...], grade: Macro
) -> None:
    assert first(monkeypatch, workbook(*records), COMPOUND).macro is grade


@pytest.mark.parametrize(
    ("flags", "active"),
    [(0x0000, ("dde",)), (0x0002, ("dde",)), (0x0010, ())],
)
def test_dde_is_told_from_ole_links(monkeypatch: pytest.MonkeyPatch, flags: int, active: tuple[str, ...]) -> None:
    book = struct.pack("<HH", 0, 6) + b"\0cmd\x03/c"
    data = workbook(BOF, (0x1AE, book), (0x23, struct.pack("<HI", flags, 0) + b"\x01\0x"))
    assert first(monkeypatch, data, COMPOUND).active == active


@pytest.mark.parametrize(
    ("text", "active", "links"),
    [
        (b"\x13 DDEAUTO c:\\\\cmd.exe\x14x\x15", ("dde",), []),
        ("\x13 DDE excel\x15".encode("utf-16-le"), ("dde",), []),
        (b'\x13 HYPERLINK "https://shop.example/" \x14x\x15', (), ["https://shop.example/"]),
        (b'\x13 HYPERLINK \\l "chapter" \x15', (), []),
        (b"\x13 PAGE \x15", (), []),
    ],
)
def test_fields_of_word_are_read(
    monkeypatch: pytest.MonkeyPatch, text: bytes, active: tuple[str, ...], links: list[str]
) -> None:
    found = opened(monkeypatch, compound({"WordDocument": bytes(32) + text}), COMPOUND)
    assert (found.parts[0].active, [link.target for link in found.links]) == (active, links)


@pytest.mark.parametrize(
    "streams",
    [
        {"WordDocument": bytes(10) + b"\x00\x01" + bytes(50)},
        {"Workbook": struct.pack("<HHIIHHH", 0x809, 8, 0x50600, 0, 0x2F, 2, 0)},
        {"PowerPoint Document": bytes(8), "Current User": bytes(12) + b"\xdf\xc4\xd1\xf3"},
    ],
)
def test_a_password_is_a_lock(monkeypatch: pytest.MonkeyPatch, streams: dict[str, bytes]) -> None:
    assert first(monkeypatch, compound(streams), COMPOUND).lock is Lock.LOCKED


def test_packages_are_opened_with_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    native = b"\0\0\0\0" + package_object("invoice.js", b"run()")
    outer, inner = opened(monkeypatch, compound({"ObjectPool/_1/\x01Ole10Native": native}), COMPOUND).parts
    assert (outer.active, inner.names, inner.size) == (("embedded_object",), ("invoice.js",), 5)


def test_an_equation_is_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first(monkeypatch, compound({"_1/x": b"y"}, EQUATION), COMPOUND).active == ("embedded_object",)


def test_an_object_that_is_fetched_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://evil.example/a.hta\0".encode("utf-16-le")
    stream = bytes(8) + bytes.fromhex("E0C9EA79F9BACE118C8200AA004BA90B") + struct.pack("<I", len(url)) + url
    found = opened(monkeypatch, compound({"ObjectPool/_1/\x01Ole": stream}), COMPOUND)
    assert found.parts[0].active == ("external_relationship",)
    assert [link.target for link in found.links] == ["https://evil.example/a.hta"]


def test_an_outlook_message_gives_its_attachments_and_its_body(monkeypatch: pytest.MonkeyPatch) -> None:
    data = compound(
        {
            "__properties_version1.0": bytes(32),
            "__nameid_version1.0/__substg1.0_10130102": bytes(16),
            "__substg1.0_10130102": b"<p>Hello</p>",
            "__attach_version1.0_#00000000/__substg1.0_37010102": b"MZ program",
            "__attach_version1.0_#00000000/__substg1.0_3707001F": "invoice.pdf.exe".encode("utf-16-le"),
            "__attach_version1.0_#00000000/__substg1.0_3704001F": "INVOIC~1.EXE".encode("utf-16-le"),
        }
    )
    parts = opened(monkeypatch, data, COMPOUND).parts
    assert {(part.names, part.size) for part in parts[1:]} == {((), 12), (("invoice.pdf.exe", "INVOIC~1.EXE"), 10)}


@pytest.mark.parametrize("cut", [8, 100, 600, 1500])
def test_a_damaged_file_is_said_to_be(monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    data = compound({"Workbook": bytes(4000)})
    assert first(monkeypatch, data[:cut], COMPOUND).problems == ("damaged",)
