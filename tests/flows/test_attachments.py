"""S15: attachments are judged by what they hold, at any depth, through the real box of the running product."""

import base64
import io
import re
import zipfile
from typing import Any

import pytest

from gateway.verdict import Action
from tests import make
from tests.flows.conftest import Start
from tests.flows.edge import arrival
from tests.flows.gateway import Gateway, document, server
from tests.flows.peer import BOB, Answer
from tests.nexthop import NextHop

FILTERS = ("attachment_type", "macro", "encrypted", "bomb", "unopened", "ambiguity", "protocol")
EXCHANGE = "use https://files.corp.example"
# The begin of a program for Windows: the old header, and where the new one stands (PE format, section 2).
PROGRAM = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + b"\x4c\x01" + bytes(200)
PDF = b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n"


def policy(inside: NextHop, outside: NextHop) -> dict[str, Any]:
    filters = {name: {"mode": "enforce"} for name in FILTERS}
    return document(inside, outside, filters=filters, file_exchange=EXCHANGE)


@pytest.fixture(scope="module")
def gateway(arrange: Start, inside: NextHop, outside: NextHop) -> Gateway:
    return arrange(policy(inside, outside), [server()])


def zipped(**files: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "."), data)
    return held.getvalue()


def word(*parts: str) -> bytes:
    """A Word document; `parts` are parts that it has besides."""
    held = io.BytesIO()
    types = '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("[Content_Types].xml", types)
        archive.writestr("word/document.xml", "<w:document/>")
        for part in parts:
            archive.writestr(part, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    return held.getvalue()


def attached(name: str, data: bytes, kind: str = "application/octet-stream") -> bytes:
    encoded = base64.encodebytes(data).replace(b"\n", b"\r\n")
    body = (
        b"--b\r\nContent-Type: text/plain\r\n\r\nSee attached.\r\n--b\r\n"
        + f'Content-Type: {kind}; name="{name}"\r\n'.encode()
        + f'Content-Disposition: attachment; filename="{name}"\r\n'.encode()
        + b"Content-Transfer-Encoding: base64\r\n\r\n"
        + encoded
        + b"--b--\r\n"
    )
    kind_of_all = ("Content-Type", 'multipart/mixed; boundary="b"')
    return make.message(("MIME-Version", "1.0"), kind_of_all, body=body)


def forwarded(raw: bytes) -> bytes:
    body = b"--o\r\nContent-Type: message/rfc822\r\n\r\n" + raw + b"\r\n--o--\r\n"
    return make.message(("Content-Type", 'multipart/mixed; boundary="o"'), body=body)


def refused(answer: Answer, words: str) -> bool:
    pattern = rf"5\.7\.1 {re.escape(words)} \({re.escape(EXCHANGE)}\) \(ref [0-9A-Z]{{4}}-[0-9A-Z]{{4}}\)"
    return answer.code == 550 and re.match(pattern, answer.text) is not None


@pytest.mark.parametrize(
    "raw",
    [
        attached("setup.exe", PROGRAM),
        attached("report.pdf", PROGRAM, "application/pdf"),
        attached("", PROGRAM),
        attached("files.zip", zipped(setup__exe=PROGRAM)),
        attached("files.zip", zipped(inner__zip=zipped(a__pdf=PROGRAM))),
        forwarded(attached("report.pdf", PROGRAM)),
        attached("mail.eml", attached("report.pdf", PROGRAM)),
    ],
    ids=["as itself", "renamed", "unnamed", "in zip", "in zip in zip", "forwarded", "in eml"],
)
def test_a_program_is_refused_wherever_it_is(gateway: Gateway, raw: bytes) -> None:
    answer = gateway.receive(raw, BOB)
    assert refused(answer, "Attachment type not accepted"), answer
    (verdict,) = gateway.trace(answer.ref).verdicts
    assert verdict.action is Action.REJECT
    assert verdict.reason.startswith("attachment_type:")


@pytest.mark.parametrize(
    "raw",
    [
        attached("offer.docm", word("word/vbaProject.bin")),
        attached("offer.docx", word("word/vbaProject.bin")),
        attached("offer.zip", zipped(offer__docm=word("word/vbaProject.bin"))),
        attached("offer.xlsm", word("xl/macrosheets/sheet1.xml")),
    ],
    ids=["docm", "named docx", "in zip", "macro sheet"],
)
def test_macros_are_refused_by_the_real_reason_and_told_where_to_go(gateway: Gateway, raw: bytes) -> None:
    answer = gateway.receive(raw, BOB)
    assert refused(answer, "Attachments with macros are not accepted") or refused(
        answer, "Attachment type not accepted"
    ), answer
    assert any(one.reason.startswith("macro:") for one in gateway.trace(answer.ref).findings)


@pytest.mark.parametrize(
    "raw",
    [
        make.message(),
        attached("offer.docx", word()),
        attached("offer.pdf", PDF, "application/pdf"),
        attached("files.zip", zipped(offer__docx=word(), notes__txt=b"hello")),
    ],
    ids=["plain", "docx", "pdf", "zip"],
)
def test_ordinary_mail_arrives_as_it_was_sent(gateway: Gateway, inside: NextHop, raw: bytes) -> None:
    answer = gateway.receive(raw, BOB)
    assert answer.code == 250, answer
    assert arrival(inside, answer.ref).raw.endswith(raw)


def test_a_bomb_stops_at_the_limits(gateway: Gateway) -> None:
    bomb = zipped(zeros__txt=bytes(200 << 20))
    answer = gateway.receive(attached("zeros.zip", bomb), BOB)
    assert (answer.code, answer.text.partition(" (")[0]) == (
        554,
        "5.7.1 Message unpacks to more than can be checked",
    )
    reasons = {one.reason for one in gateway.trace(answer.ref).findings}
    assert reasons & {"bomb:ratio", "bomb:too-big"}


def test_the_trace_holds_every_file_at_its_place(gateway: Gateway) -> None:
    answer = gateway.receive(attached("files.zip", zipped(offer__docx=word(), notes__txt=b"hello")), BOB)
    parts = gateway.trace(answer.ref).case.facts.parts
    names = {part.path: part.name for part in parts if part.depth < 2}
    assert names["2"] == "files.zip"
    assert {"offer.docx", "notes.txt"} <= set(names.values())
