"""VBA: sources are unpacked and graded."""

import pytest

from gateway.inspection.facts import Macro
from gateway.inspection.formats.vba import chunks
from tests.inspection.formats.documents import COMPOUND, DOCX, compound, first, ooxml, packed_source, vba_streams


@pytest.mark.parametrize(
    ("packed", "clear"),
    [
        # MS-OVBA 3.2.1 to 3.2.3: no compression, normal compression, maximum compression.
        (
            "01 19 B0 00 61 62 63 64 65 66 67 68 00 69 6A 6B 6C 6D 6E 6F 70 00 71 72 73 74 75 76 2E",
            b"abcdefghijklmnopqrstuv.",
        ),
        (
            "01 2F B0 00 23 61 61 61 62 63 64 65 82 66 00 70 61 67 68 69 6A 01 38 08 61 6B 6C 00 30 6D 6E 6F 70 06 71"
            " 02 70 04 10 72 73 74 75 76 10 77 78 79 7A 00 3C",
            b"#aaabcdefaaaaghijaaaaaklaaamnopqaaaaaaaaaaaarstuvwxyzaaa",
        ),
        ("01 03 B0 02 61 45 00", b"a" * 73),
    ],
)
def test_the_examples_of_the_specification_are_unpacked(packed: str, clear: bytes) -> None:
    assert b"".join(chunks(bytes.fromhex(packed))) == clear


def test_a_long_source_is_unpacked_chunk_by_chunk() -> None:
    source = "' a line of text\r\n" * 900
    assert b"".join(chunks(packed_source(source))).decode() == source


@pytest.mark.parametrize("packed", [b"", b"\x02\x00", b"no source at all"])
def test_what_is_no_container_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="signature"):
        list(chunks(packed))


@pytest.mark.parametrize(
    "packed", [b"\x01\x00\xb0\xff", b"\x01\xff\xbf\x01\x00", b"\x01\x03\xb0\x01\x61\x45", b"\x01\x00"]
)
def test_damaged_chunks_end_quietly(packed: bytes) -> None:
    assert len(b"".join(chunks(packed))) < 8


@pytest.mark.parametrize(
    ("source", "grade"),
    [
        ("Sub Total()\r\nRange(1).Value = 1\r\nEnd Sub", Macro.PRESENT),
        ("Sub AutoOpen()\r\nMsgBox 1\r\nEnd Sub", Macro.AUTO_RUN),
        ("Private Sub Workbook_Open()\r\nEnd Sub", Macro.AUTO_RUN),
        ("Sub Image1_MouseMove(ByVal X)\r\nEnd Sub", Macro.AUTO_RUN),
        ("' Sub AutoOpen()\r\nSub Total()\r\nEnd Sub", Macro.PRESENT),
        ('Sub Total()\r\nx = CreateObject("Scripting.Dictionary")\r\nEnd Sub', Macro.PRESENT),
        ('Sub AutoOpen()\r\nx = CreateObject("Scripting.Dictionary")\r\nEnd Sub', Macro.SUSPICIOUS),
        ('Sub Total()\r\nShell "calc.exe"\r\nEnd Sub', Macro.SUSPICIOUS),
        ('Sub Total()\r\nx = "WScr" & "ipt.Sh" + "ell"\r\nEnd Sub', Macro.SUSPICIOUS),
        ("Sub Total()\r\nx = Shell _\r\n (y)\r\nEnd Sub", Macro.SUSPICIOUS),
        ('Declare PtrSafe Function f Lib "urlmon" Alias "URLDownloadToFileA" ()', Macro.SUSPICIOUS),
    ],
)
def test_macros_are_graded_by_what_they_do(monkeypatch: pytest.MonkeyPatch, source: str, grade: Macro) -> None:
    assert first(monkeypatch, compound(vba_streams(source, "Macros/VBA")), COMPOUND).macro is grade


def test_a_project_whose_source_is_gone_is_suspicious(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = "AutoOpen".encode("utf-16-le")
    assert first(monkeypatch, compound(vba_streams("", cache=cache)), COMPOUND).macro is Macro.SUSPICIOUS
    assert first(monkeypatch, compound(vba_streams("")), COMPOUND).macro is Macro.PRESENT


def test_a_source_is_found_when_the_directory_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = vba_streams("Sub AutoOpen()\r\nEnd Sub") | {"VBA/dir": b"\x00junk"}
    assert first(monkeypatch, compound(streams), COMPOUND).macro is Macro.AUTO_RUN


@pytest.mark.parametrize(
    ("name", "types", "relationships"),
    [
        ("word/vbaProject.bin", {}, ()),
        ("word/picture.jpg", {"word/picture.jpg": "application/vnd.ms-office.vbaProject"}, ()),
        ("word/media/x.dat", {}, (("vbaProject", "media/x.dat", "Internal"),)),
        ("x.dat", {}, (("vbaProject", "/x.dat", "Internal"),)),
        ("word/X.DAT", {}, (("VBAPROJECT", "./y/../x.dat", "Internal"),)),
    ],
)
def test_a_macro_part_is_found_whatever_it_is_called(
    monkeypatch: pytest.MonkeyPatch, name: str, types: dict[str, str], relationships: tuple[tuple[str, str, str], ...]
) -> None:
    project = compound(vba_streams("Sub AutoOpen()\r\nEnd Sub"))
    assert first(monkeypatch, ooxml({name: project}, types, relationships), DOCX).macro is Macro.AUTO_RUN


def test_a_macro_part_that_cannot_be_read_is_a_macro_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    part = first(monkeypatch, ooxml({"word/vbaProject.bin": b"junk"}), DOCX)
    assert (part.macro, part.problems) == (Macro.PRESENT, ("damaged",))
