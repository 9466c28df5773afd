"""Documents of many writers, damaged ones among them: all are looked at in bounded time, and macros and locks found.

The files are the project's collection beside the checkout (`../shared/data`); without it there is nothing to do.
"""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.inspection.facts import Lock, Macro, Part
from tests.inspection.formats.documents import DOCX, opened

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "attachments"
SECONDS = 2.0  # CPU time of one file at most
PASSWORDS = ("password", "Password1234_")
STARTS = (
    (b"\xd0\xcf\x11\xe0", "application/x-ole-storage"),
    (b"{\\rt", "application/rtf"),
    (b"\x78\x9f\x3e\x22", "application/vnd.ms-tnef"),
    (bytes.fromhex("4c00000001140200"), "application/x-ms-shortcut"),
    (bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3"), "application/onenote"),
    (b"BEGIN:VCALENDAR", "text/calendar"),
)
# Named for macros by their extensions and without any part that holds one; one is text, one of a kind not opened.
WITHOUT_MACRO = {
    *("dde-test.xlsm", "dde-test-encrypt-standardpassword.xlsm", "excel4_sample_macro.slk", "harmless-clean.docm"),
    *(f"sample_with_external_link_to_doc.{kind}" for kind in ("dotm", "xlsm", "pptm", "potm")),
    *(f"embedded-simple-2007.{kind}" for kind in ("xltm", "potm", "dotm", "ppsm", "pptm", "xlsm")),
    *("SimpleMacro.vsd", "testPPT.pptm", "47089.xlsm"),
    "cpansearch.perl.org_src_tobyink_acme-rundoc-0.001_word-lib_hello_world.docm",
}
WITH_MACRO = {"testWORD_no_format.doc", "testVarious.xlsb"}  # that their names do not tell
# Protected against changes by the program that shows them, and not encrypted.
PROTECTED = ("Protection", "protected_sample", "protectedSheets")

if not DATA.is_dir():
    pytest.skip(f"real documents are not opened: there is no {DATA}", allow_module_level=True)


def kind_of(data: bytes) -> str:
    if data.startswith(b"PK\x03\x04"):
        is_open_document = b"application/vnd.oasis" in data[:200]
        return "application/vnd.oasis.opendocument.text" if is_open_document else DOCX if b"[Content_T" in data else ""
    if b"%PDF" in data[:1024]:
        return "application/pdf"
    if b"<svg" in data[:2000]:
        return "image/svg+xml"
    return next((kind for start, kind in STARTS if data.startswith(start)), "")


@pytest.fixture(scope="module")
def looked_at() -> dict[str, tuple[dict[str, Any], tuple[Part, ...]]]:
    """Return the line of the manifest and the parts of every document, by its name."""
    found = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for line in (DATA / "manifest.jsonl").read_text().splitlines():
            row = json.loads(line)
            data = (DATA / row["file"]).read_bytes()
            if kind := kind_of(data):
                started = time.process_time()
                parts = opened(monkeypatch, data, kind, passwords=PASSWORDS).parts
                assert time.process_time() - started < SECONDS, row["file"]
                found[row["file"]] = (row, parts)
    assert len(found) > 100
    return found


def test_no_opener_fails(looked_at: dict[str, tuple[dict[str, Any], tuple[Part, ...]]]) -> None:
    failed = {name for name, (_, parts) in looked_at.items() for part in parts if "opener_failed" in part.problems}
    assert failed == set()


def test_macros_are_found_and_nothing_else_is_called_one(
    looked_at: dict[str, tuple[dict[str, Any], tuple[Part, ...]]],
) -> None:
    for name, (row, parts) in looked_at.items():
        short = name.rpartition("/")[2]
        has_macro = any(part.macro is not Macro.NONE for part in parts)
        is_expected = bool(row.get("macro_name_or_type")) and short not in WITHOUT_MACRO
        is_locked = any(part.lock is Lock.LOCKED for part in parts)
        if not is_locked and not row.get("fuzzed"):
            assert has_macro == (is_expected or short in WITH_MACRO), name


def test_locks_are_found(looked_at: dict[str, tuple[dict[str, Any], tuple[Part, ...]]]) -> None:
    for name, (row, parts) in looked_at.items():
        if row.get("encrypted_name") and not any(word in name for word in PROTECTED):
            assert parts[0].lock is not Lock.NONE, name
        if "VelvetSweatshop" in name or "standardpassword" in name:
            assert parts[0].lock is Lock.OPENED, name
