"""Names of attached files: extensions as systems see them, and what is odd about a name."""

import pytest

from gateway.inspection.file_names import ODDITIES, extensions, is_odd_member, oddities
from gateway.inspection.media_types import EXTENSIONS, TYPES


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("report.pdf", ("pdf",)),
        ("REPORT.PDF", ("pdf",)),
        ("invoice.pdf.exe", ("exe", "pdf")),
        ("backup.tar.gz", ("gz", "tar")),
        (".htaccess", ("htaccess",)),
        ("README", ()),
        ("a.exe. . .", ("exe",)),
        ("a.exe\u00a0", ("exe",)),
        ("folder.d/file", ()),
        ("C:\\Users\\x\\a.doc", ("doc",)),
        ("invoice\u202efdp.exe", ("exe",)),  # is shown as invoiceexe.pdf
        ("a.e\u200bxe", ("exe",)),
        ("a\uff0eexe", ("exe",)),
        ("a.txt:b.exe", ("exe", "txt")),
        ("a.exe::$DATA", ("exe",)),
        ("sentence. And another that is far too long to be an extension", ()),
    ],
)
def test_extensions_are_those_that_a_system_goes_by(name: str, found: tuple[str, ...]) -> None:
    assert extensions(name) == found


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("report 2024-01.v2.pdf", ()),
        ("archive.tar.gz", ()),
        ("meeting 10.30.docx", ()),
        ("invoice.pdf.exe", ("double_extension",)),
        ("photo.jpg.js", ("double_extension",)),
        ("setup.exe.zip", ()),
        ("invoice\u202efdp.exe", ("bidi_override",)),
        ("a\x00b.txt", ("control",)),
        ("a\u200b.txt", ("invisible",)),
        ("a.pdf" + " " * 60 + ".exe", ("double_extension", "padded")),
        ("a.exe.", ("trailing_dots_or_blanks",)),
        ("../../etc/passwd", ("path_steps",)),
        ("..\\x.txt", ("path_steps",)),
        ("/etc/passwd", ("absolute_path",)),
        ("\\\\server.example\\share\\x.txt", ("absolute_path",)),
        ("C:\\x.txt", ("absolute_path",)),
        ("a.txt:b.exe", ("double_extension", "stream_name")),
        ("CON.txt", ("device_name",)),
        ("lpt1", ("device_name",)),
        ("console.txt", ()),
        ("a\uff0eexe", ("look_alike_dot",)),
        ("a\ufffd.txt", ("undecodable",)),
        ("", ("empty",)),
    ],
)
def test_what_is_odd_about_a_name_is_told(name: str, codes: tuple[str, ...]) -> None:
    assert oddities(name) == codes
    assert set(codes) <= set(ODDITIES)


@pytest.mark.parametrize(
    ("name", "is_odd"),
    [
        ("folder/file.txt", False),
        ("folder/", False),
        ("a.pdf.exe", False),
        ("../file.txt", True),
        ("/file.txt", True),
        ("a\u202etxt.exe", True),
        ("", True),
    ],
)
def test_a_member_that_leads_elsewhere_is_odd(name: str, is_odd: bool) -> None:
    assert is_odd_member(name) is is_odd


def test_a_name_without_end_is_looked_at_in_bounded_time() -> None:
    assert oddities("a" + " " * 1_000_000 + ".exe") == ("trailing_dots_or_blanks",)  # the end is not looked at
    assert extensions("." * 1_000_000) == ()


def test_extensions_lead_to_types_of_the_table() -> None:
    assert {kind for kinds in EXTENSIONS.values() for kind in kinds} == set(TYPES)
    assert all(kind == kind.lower() for kind in TYPES)
    assert all(extension == extension.lower() and "." not in extension for extension in EXTENSIONS)
