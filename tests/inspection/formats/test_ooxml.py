"""OOXML: what is fetched, started and brought along."""

import io
from random import Random

import msoffcrypto
import pytest

from gateway.inspection.facts import Lock, Macro
from gateway.inspection.task import Bounds
from tests.inspection.formats.documents import COMPOUND, DOCX, compound, first, ooxml, opened, package_object, zipped

MAIN = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
BEGIN, END = '<w:r><w:fldChar w:fldCharType="begin"/></w:r>', '<w:r><w:fldChar w:fldCharType="end"/></w:r>'


def run(text: str) -> str:
    return f"<w:r><w:instrText>{text}</w:instrText></w:r>"


def document(body: str, encoding: str = "utf-8") -> bytes:
    text = f'<?xml version="1.0" encoding="{encoding}"?><w:document xmlns:w="urn:w"><w:p>{body}</w:p></w:document>'
    return ooxml({"word/document.xml": text.encode(encoding)}, {"word/document.xml": MAIN})


@pytest.mark.parametrize(
    ("kind", "target", "active"),
    [
        ("attachedTemplate", "https://evil.example/a.dotm", ("external_template",)),
        ("attachedTemplate", "file://evil.example/share/a.dotm", ("external_template",)),
        ("attachedTemplate", "\\\\evil.example\\share\\a.dotm", ("external_template",)),
        ("attachedTemplate", "file:///C:\\Users\\me\\Normal.dotm", ()),
        ("attachedTemplate", "Normal.dotm", ()),
        ("oleObject", "file:///C:\\a.docx", ("external_relationship",)),
        (
            "oleObject",
            "mhtml:https://evil.example/a.html!x-usc:https://evil.example/a.html",
            ("external_relationship",),
        ),
        ("frame", "https://evil.example/a.html", ("external_relationship",)),
        ("image", "https://evil.example/a.png", ("external_relationship",)),
        ("externalLinkPath", "Book2.xlsx", ()),
        ("hyperlink", "https://shop.example/", ()),
    ],
)
def test_external_targets_are_graded(
    monkeypatch: pytest.MonkeyPatch, kind: str, target: str, active: tuple[str, ...]
) -> None:
    found = opened(monkeypatch, ooxml(relationships=((kind, target, "External"),)), DOCX)
    assert found.parts[0].active == active
    assert [link.target for link in found.links] == ([target] if kind == "hyperlink" else [])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    ("body", "active"),
    [
        (BEGIN + run("DDEAUTO c:\\\\windows\\\\cmd.exe") + END, ("dde",)),
        (BEGIN + run(" D") + run("DE") + run("AUTO x") + END, ("dde",)),
        ('<w:fldSimple w:instr=" DDE excel x"/>', ("dde",)),
        (BEGIN + run("DDE") + BEGIN + run("PAGE") + END + END, ("dde",)),
        (BEGIN + BEGIN + run("QUOTE 68 68 69 65 85 84 79") + END + run(" c:\\\\cmd") + END, ("dde",)),
        (BEGIN + run('INCLUDEPICTURE "https://evil.example/a.png"') + END, ("external_relationship",)),
        (BEGIN + run("PAGE") + END, ()),
        (run("DDE"), ()),
    ],
)
def test_fields_are_read_over_any_number_of_runs(
    monkeypatch: pytest.MonkeyPatch, body: str, active: tuple[str, ...], encoding: str
) -> None:
    assert first(monkeypatch, document(body, encoding), DOCX).active == active


def test_the_link_of_a_field_is_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    found = opened(monkeypatch, document(BEGIN + run('HYPERLINK "https://shop.example/a"') + END), DOCX)
    assert [link.target for link in found.links] == ["https://shop.example/a"]


@pytest.mark.parametrize(
    ("name", "kind", "data", "active"),
    [
        (
            "xl/externalLinks/externalLink1.xml",
            "spreadsheetml.externalLink+xml",
            b"<x><ddeLink ddeService='cmd'/></x>",
            "dde",
        ),
        ("xl/externalLinks/externalLink1.bin", "ms-excel.externalLink", b"\xe8\x02\x06\x01\x00\x00\x00\x00\x00", "dde"),
        ("ppt/slides/slide1.xml", "presentationml.slide+xml", b"<p action='ppaction://program'/>", "launch"),
        ("word/activeX/activeX1.xml", "vnd.ms-office.activeX+xml", b"<x/>", "activex"),
    ],
)
def test_what_starts_something_is_noted(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: str, data: bytes, active: str
) -> None:
    assert first(monkeypatch, ooxml({name: data}, {name: f"application/{kind}"}), DOCX).active == (active,)


@pytest.mark.parametrize(
    ("workbook", "sheet", "grade"),
    [
        (b"<workbook/>", b"<f>RETURN()</f>", Macro.PRESENT),
        (b"<definedName name='_xlnm.Auto_Open'/>", b"<f>RETURN()</f>", Macro.AUTO_RUN),
        (b"<workbook/>", b'<f>EXEC("calc")</f>', Macro.SUSPICIOUS),
        ("Auto_Open".encode("utf-16-le"), b"\x17\x00\x42\x01\x6e\x00", Macro.SUSPICIOUS),
    ],
)
def test_excel_4_macros_are_graded(
    monkeypatch: pytest.MonkeyPatch, workbook: bytes, sheet: bytes, grade: Macro
) -> None:
    relationships = (("officeDocument", "/xl/workbook.xml", "Internal"), ("xlMacrosheet", "/xl/a.xml", "Internal"))
    data = ooxml({"xl/workbook.xml": workbook, "xl/a.xml": sheet}, relationships=relationships)
    assert first(monkeypatch, data, DOCX).macro is grade


def test_embedded_objects_are_opened_with_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    holder = compound({"\x01Ole10Native": b"\0\0\0\0" + package_object("invoice.exe", b"MZ program")})
    data = ooxml({"word/embeddings/o.bin": holder}, relationships=(("oleObject", "embeddings/o.bin", "Internal"),))
    parts = opened(monkeypatch, data, DOCX).parts
    assert [(part.path, part.names, part.size) for part in parts[1:]] == [
        ("1/1", ("o.bin",), len(holder)),
        ("1/1/1", ("invoice.exe",), 10),
    ]
    assert parts[0].active == ("embedded_object",)


@pytest.mark.parametrize(
    ("password", "lock"), [("secret", Lock.LOCKED), ("gate", Lock.OPENED), ("VelvetSweatshop", Lock.OPENED)]
)
def test_a_file_with_a_password_is_opened_with_those_that_are_known(
    monkeypatch: pytest.MonkeyPatch, password: str, lock: Lock
) -> None:
    out = io.BytesIO()
    clear = ooxml({"word/media/picture": Random(1).randbytes(5000)})  # the writer mixes up packages of less than 4096
    source = io.BytesIO(clear)
    office = msoffcrypto.OfficeFile(source)
    source.seek(0)  # it encrypts from where its own reading ended
    office.encrypt(password, out)
    parts = opened(monkeypatch, out.getvalue(), COMPOUND, passwords=("wrong", "gate")).parts
    assert parts[0].lock is lock
    assert [part.size for part in parts[1:]] == ([len(clear)] if lock is Lock.OPENED else [])


def test_a_password_that_takes_too_much_hashing_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    info = b"\x04\0\x04\0\x40\0\0\0<encryption><x spinCount='9999999'/></encryption>"
    part = first(monkeypatch, compound({"EncryptionInfo": info, "EncryptedPackage": bytes(64)}), COMPOUND)
    assert (part.lock, part.problems) == (Lock.LOCKED, ("unsupported",))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"PK\x03\x04 and no directory", "damaged"),
        (zipped({"word/document.xml": b"<x/>"}), "damaged"),
        (zipped({"[Content_Types].xml": b"<Types><Override"}), "damaged"),
        (zipped({str(n): b"" for n in range(10_001)}), "too_many_files"),
    ],
)
def test_what_cannot_be_read_is_said(monkeypatch: pytest.MonkeyPatch, data: bytes, problem: str) -> None:
    assert first(monkeypatch, data, DOCX).problems == (problem,)


def test_a_bomb_in_a_part_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ooxml({"[Content_Types].xml": bytes(4 << 20)})
    assert opened(monkeypatch, data, DOCX, bounds=Bounds()).parts[0].problems == ("ratio",)
