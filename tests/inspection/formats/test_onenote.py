"""OneNote sections: the files that lie in them."""

import struct
from uuid import UUID

import pytest

from tests.inspection.formats.documents import opened

FILE = UUID("BDE316E7-2665-4511-A4C4-8D4D0B7A9EAC").bytes_le


def section(*files: bytes, packaging: str = "109ADD3F-911B-49F5-A5D0-1791EDC8AED8") -> bytes:
    out = bytes(48) + UUID(packaging).bytes_le
    for data in files:
        out += FILE + struct.pack("<QIQ", len(data), 0, 0) + data + bytes(-len(data) % 8) + FILE[::-1]
    return out


def test_files_are_opened_and_pictures_are_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    found = opened(monkeypatch, section(b"\x89PNG picture", b"@echo off"), "application/onenote")
    assert [part.size for part in found.parts[1:]] == [12, 9]
    assert found.parts[0].active == ("embedded_file",)
    assert opened(monkeypatch, section(b"\x89PNG"), "application/onenote").parts[0].active == ()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (section() + FILE + struct.pack("<QIQ", 1 << 60, 0, 0) + b"short", "truncated"),
        (section() + FILE, ""),
        (section(packaging="638DE92F-A6D4-4BC1-9A36-B3FC2511A5B7"), "unsupported"),
    ],
)
def test_what_was_not_seen_whole_is_said(monkeypatch: pytest.MonkeyPatch, data: bytes, problem: str) -> None:
    assert opened(monkeypatch, data, "application/onenote").parts[0].problems == ((problem,) if problem else ())
