"""TNEF (winmail.dat): attachments with their names, and the body."""

import struct

import pytest

from tests.inspection.formats.documents import opened

TNEF = "application/vnd.ms-tnef"
RENDERING, TITLE, DATA, PROPERTIES, MESSAGE = 0x69002, 0x18010, 0x6800F, 0x69005, 0x69003


def attribute(kind: int, body: bytes, level: int = 2) -> bytes:
    return struct.pack("<BII", level, kind, len(body)) + body + struct.pack("<H", sum(body) & 0xFFFF)


def value(kind: int, number: int, data: bytes) -> bytes:
    return struct.pack("<HHII", kind, number, 1, len(data)) + data + bytes(-len(data) % 4)


def tnef(*attributes: bytes) -> bytes:
    return b"\x78\x9f\x3e\x22\x01\x00" + b"".join(attributes)


def properties(*values: bytes) -> bytes:
    return struct.pack("<I", len(values)) + b"".join(values)


def test_an_attachment_has_all_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    long_name = value(0x1F, 0x3707, "Rechnung \u00e4.pdf.exe\0".encode("utf-16-le"))
    named = struct.pack("<HH16sII", 0x03, 0x8001, bytes(16), 0, 7) + bytes(4)
    data = tnef(
        attribute(RENDERING, bytes(14)),
        attribute(TITLE, b"RECHNU~1.EXE\0"),
        attribute(DATA, b"MZ program"),
        attribute(PROPERTIES, properties(named, long_name)),
    )
    outer, inner = opened(monkeypatch, data, TNEF).parts
    assert (inner.names, inner.size) == (("Rechnung \u00e4.pdf.exe", "RECHNU~1.EXE"), 10)
    assert outer.problems == ()


def test_two_attachments_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    one = attribute(RENDERING, b"") + attribute(DATA, b"one")
    assert [part.size for part in opened(monkeypatch, tnef(one, one), TNEF).parts[1:]] == [3, 3]


def test_a_message_within_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tnef(attribute(RENDERING, b""), attribute(DATA, b"x"))
    data = tnef(attribute(RENDERING, b""), attribute(PROPERTIES, properties(value(0x0D, 0x3701, bytes(16) + inner))))
    assert opened(monkeypatch, data, TNEF).parts[1].size == len(inner)


def test_the_body_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    body = struct.pack("<II4sI", 12 + 9, 9, b"MELA", 0) + b"{\\rtf1 x}"
    parts = opened(monkeypatch, tnef(attribute(MESSAGE, properties(value(0x102, 0x1009, body)), level=1)), TNEF).parts
    assert [part.size for part in parts[1:]] == [9]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (tnef(attribute(DATA, b"x" * 50))[:-20], "truncated"),
        (tnef(b"\x09" + bytes(20)), "damaged"),
        (b"\x78\x9f\x3e\x23", "damaged"),
        (tnef(attribute(RENDERING, b""), attribute(PROPERTIES, b"\xff\xff\xff\xff\x1f\x00")), "damaged"),
        (tnef(attribute(MESSAGE, properties(value(0x102, 0x1009, b"junk")), level=1)), "damaged"),
    ],
)
def test_damage_is_said(monkeypatch: pytest.MonkeyPatch, data: bytes, problem: str) -> None:
    assert opened(monkeypatch, data, TNEF).parts[0].problems == (problem,)
