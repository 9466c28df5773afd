import pytest

from gateway.filters.attachment_type import FILTER, MAX_FINDINGS, Allowance, Options
from gateway.inspection.facts import Lock, Part
from gateway.inspection.media_types import Kind as FileKind
from gateway.mail.envelope import Direction
from gateway.verdict import Action, Finding
from tests import make

EXE = "application/vnd.microsoft.portable-executable"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PDF = "application/pdf"
ZIP = "application/zip"


def file(name: str = "", *found_types: str, path: str = "2", size: int = 9, declared: str = "", **more: object) -> Part:
    names = (name,) if name else ()
    declared_types = (declared,) if declared else ()
    return Part(path, declared_types, found_types, names, size, is_attachment=True, **more)  # type: ignore[arg-type]


def found(*parts: Part, options: Options | None = None) -> list[Finding]:
    return make.judge_with(FILTER, options or Options(), make.with_parts(*parts))


def codes(*parts: Part, options: Options | None = None) -> list[str]:
    return [one.code for one in found(*parts, options=options)]


@pytest.mark.parametrize(
    "part",
    [
        file("offer.docx", DOCX, ZIP),
        file("offer.pdf", PDF),
        file("photo.JPG", "image/jpeg"),
        file("files.zip", ZIP),
        file("notes.md", "text/plain"),
        file("invite.ics", "text/calendar"),
        file("old.doc", "application/x-ole-storage", "application/msword"),
        file("old.doc", "application/rtf"),
        file("smime.p7s", "application/pkcs7-signature", declared="application/pkcs7-signature"),
        file("photo.png", "image/png", declared="application/octet-stream"),
        file("", PDF),
        Part("1", ("text/plain",), ("text/plain",), size=10),
        Part("1", ("text/html",), ("text/html",), size=10),
        file("plan.docx", size=100, lock=Lock.LOCKED, path="2/1"),
        file("empty.txt", size=0),
        file("data.unknown", "text/plain"),
    ],
)
def test_ordinary_files_come_in(part: Part) -> None:
    assert found(part) == []


@pytest.mark.parametrize(
    ("part", "code"),
    [
        (file("setup.exe", EXE), "type"),
        (file("report.pdf", EXE), "type"),  # renamed
        (file("", EXE, path="2/1/7"), "type"),  # in a zip in a zip
        (file("photo.gif", "image/gif", "application/java-archive"), "type"),  # a polyglot
        (file("disk.iso", "application/x-iso9660-image"), "type"),
        (file("run.js", "text/javascript"), "type"),
        (file("notes.one", "application/onenote"), "type"),
        (file("logo.svg", "image/svg+xml"), "type"),
        (file("tool.scr", "application/octet-stream"), "name"),  # by its name alone
        (file("run.bat", "text/plain"), "name"),
        (file("evil.exe", lock=Lock.LOCKED), "name"),  # listed in a locked archive
        (file("invoice.pdf.exe", "text/plain"), "lying-name"),
        (file("cod\u202efdp.exe", "text/plain"), "lying-name"),
        (file("invoice.pdf" + " " * 40 + ".exe", "text/plain"), "lying-name"),
        (file("blob", "application/octet-stream"), "unknown"),
        (file("blob.dat"), "unknown"),
        (file("offer.pdf", ZIP), "mismatch"),
        (file("offer.docx", PDF), "mismatch"),
        (file("x.pdf", PDF, declared=EXE), "declared"),
    ],
)
def test_the_rest_is_objected_to(part: Part, code: str) -> None:
    assert code in codes(part)


def test_the_refusal_names_file_and_type() -> None:
    (finding,) = found(file("report.pdf", EXE), options=Options(mismatch=Action.DELIVER))[:1]
    assert finding.detail == f'"report.pdf" is {EXE}'
    assert (finding.action, finding.category, finding.part) == (Action.REJECT, "attachment", "2")


def test_every_name_that_some_reader_shows_counts() -> None:
    part = Part("2", found_types=("text/plain",), names=("a.txt", "a.exe"), size=3, is_attachment=True)
    assert codes(part) == ["name"]


def test_lists_take_types_and_extensions() -> None:
    svg = file("logo.svg", "image/svg+xml")
    assert codes(svg, options=Options(allowed=("IMAGE/SVG+XML",))) == []
    assert codes(file("a.ps1", "text/plain"), options=Options(allowed=("ps1",))) == []
    assert "name" in codes(file("a.csv", "text/csv"), options=Options(denied=("csv",)))
    assert "type" in codes(file("a.mp3", "audio/mpeg"), options=Options(kinds=(FileKind.DOCUMENT,)))


def test_some_recipients_get_what_others_do_not() -> None:
    allowance = Allowance(recipients=("Ann@corp.example", "@design.corp.example"), types=("image/svg+xml",))
    to = [make.recipient(one) for one in ("ann@corp.example", "bob@corp.example", "eve@design.corp.example")]
    case = make.with_parts(
        file("logo.svg", "image/svg+xml"), a_case=make.case(envelope=make.envelope("a@partner.example", *to))
    )
    found = make.judge_with(FILTER, Options(allowances=(allowance,)), case)
    assert {one.recipients for one in found} == {make.addresses("bob@corp.example")}


def test_only_the_chosen_directions_are_judged() -> None:
    case = make.with_parts(file("setup.exe", EXE), a_case=make.outbound())
    assert make.judge_with(FILTER, Options(), case) == []
    both = Options(directions=(Direction.INBOUND, Direction.OUTBOUND))
    assert make.judge_with(FILTER, both, case) != []


def test_a_thousand_programs_need_no_thousand_lines() -> None:
    parts = [file(f"{number}.exe", EXE, path=f"2/{number}") for number in range(1000)]
    assert len(found(*parts)) == MAX_FINDINGS
