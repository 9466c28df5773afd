"""What a file is: by its octets, several types for what is several, a name only where the octets leave it open."""

import io
import tarfile
import zipfile

import pytest

from gateway.inspection.media_types import OLE, TYPES, ZIP, Kind
from gateway.inspection.signatures import found_types

OOXML = "application/vnd.openxmlformats-officedocument."
PE = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + bytes(200)
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\ntrailer<</Root 1 0 R>>\nstartxref\n0\n%%EOF\n"
GIF = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"


def zipped(**members: str) -> bytes:
    """Make an archive; two underscores in a name stand for a slash, one for a dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), text)
    return buffer.getvalue()


def document(main_part: str, *others: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        override = f'<Override PartName="/x.xml" ContentType="{main_part}"/>'
        archive.writestr("[Content_Types].xml", f'<?xml version="1.0"?><Types>{override}</Types>')
        archive.writestr("_rels/.rels", "<Relationships/>")
        for name in others:
            archive.writestr(name, "x")
    return buffer.getvalue()


def ole(*streams: str, clsid: bytes = bytes(16)) -> bytes:
    """Make the header and one directory sector of an OLE2 file (MS-CFB 2.2, 2.6.1)."""
    header = bytearray(512)
    header[:8] = bytes.fromhex("d0cf11e0a1b11ae1")
    header[30:32] = (9).to_bytes(2, "little")
    root = bytearray("Root Entry".encode("utf-16-le").ljust(128, b"\0"))
    root[80:96] = clsid
    entries = [name.encode("utf-16-le").ljust(128, b"\0") for name in streams]
    return bytes(header) + bytes(root) + b"".join(entries)


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty.txt"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PE, "application/vnd.microsoft.portable-executable"),
        (b"MZ" + bytes(100), "application/x-dos-executable"),
        (PE.replace(b"PE\0\0", b"NE\0\0"), "application/x-ms-ne-executable"),
        (b"\x7fELF\x02\x01\x01" + bytes(60), "application/x-elf"),
        (b"\xcf\xfa\xed\xfe" + bytes(60), "application/x-mach-binary"),
        (b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(20), "application/java-vm"),
        (b"\xca\xfe\xba\xbe\0\0\0\x02" + bytes(20), "application/x-mach-binary"),
        (b"dex\n035\0" + bytes(20), "application/vnd.android.dex"),
        (ole(clsid=bytes.fromhex("84100c0000000000c000000000000046")), "application/x-msi"),
        (bytes.fromhex("4c0000000114020000000000c000000000000046") + bytes(60), "application/x-ms-shortcut"),
        (b"ITSF\x03\0\0\0" + bytes(60), "application/vnd.ms-htmlhelp"),
        (ole("WordDocument"), "application/msword"),
        (ole("Workbook"), "application/vnd.ms-excel"),
        (ole("Book"), "application/vnd.ms-excel"),
        (ole("PowerPoint Document"), "application/vnd.ms-powerpoint"),
        (ole("__properties_version1.0"), "application/vnd.ms-outlook"),
        (ole("EncryptedPackage"), "application/x-ms-office-encrypted"),
        (b"{\\rtf1 x}", "application/rtf"),
        (b"{\\rt", "application/rtf"),
        (b"\r\n {\\rtxyz", "application/rtf"),
        (PDF, "application/pdf"),
        (b"junk\n" * 100 + PDF, "application/pdf"),
        (PDF.replace(b"%PDF-1.4", b""), "application/pdf"),
        (bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3") + bytes(50), "application/onenote"),
        (b"\x78\x9f\x3e\x22" + bytes(50), "application/vnd.ms-tnef"),
        (b"\x1f\x8b\x08\0" + bytes(20), "application/gzip"),
        (b"BZh91AY&SY" + bytes(20), "application/x-bzip2"),
        (b"\xfd7zXZ\0" + bytes(20), "application/x-xz"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "application/zstd"),
        (b"\x5d\0\0\x80\0" + b"\xff" * 8 + bytes(20), "application/x-lzma"),
        (b"7z\xbc\xaf\x27\x1c\0\x04" + bytes(24), "application/x-7z-compressed"),
        (b"Rar!\x1a\x07\x01\0" + bytes(24), "application/vnd.rar"),
        (b"MSCF\0\0\0\0" + bytes(24), "application/vnd.ms-cab-compressed"),
        (bytes(32769) + b"CD001" + bytes(3000), "application/x-iso9660-image"),
        (bytes(7) + b"**ACE**" + bytes(24), "application/x-ace"),
        (b"\x20\0-lh5-" + bytes(24), "application/x-lzh-compressed"),
        (b"070701" + b"0" * 104, "application/x-cpio"),
        (b"!<arch>\ndebian-binary   ", "application/vnd.debian.binary-package"),
        (b"vhdxfile" + bytes(50), "application/x-vhdx"),
        (b"MSWIM\0\0\0" + bytes(50), "application/x-ms-wim"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "image/jpeg"),
        (GIF, "image/gif"),
        (b"BM" + bytes(12) + b"\x28" + bytes(20), "image/bmp"),
        (b"RIFF\x20\0\0\0WEBPVP8 " + bytes(20), "image/webp"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "image/heic"),
        (b"\0\0\0\x18ftypisom" + bytes(20), "video/mp4"),
        (b"OTTO\0\x01" + bytes(20), "font/otf"),
        (b"SQLite format 3\0" + bytes(20), "application/vnd.sqlite3"),
        (b"-----BEGIN PGP MESSAGE-----\n", "application/pgp-encrypted"),
        (b"-----BEGIN CERTIFICATE-----\n", "application/x-pem-file"),
        (bytes.fromhex("308203e806092a864886f70d010702") + bytes(20), "application/pkcs7-mime"),
        (b"\x80\0\x02\x83" * 50, "application/octet-stream"),
    ],
)
def test_a_file_is_told_by_its_octets(data: bytes, kind: str) -> None:
    assert kind in found_types(data, (), ())
    assert set(found_types(data, ("x.txt",), ("text/plain",))) <= set(TYPES)


@pytest.mark.parametrize(
    ("main_part", "kind"),
    [
        (OOXML + "wordprocessingml.document.main+xml", OOXML + "wordprocessingml.document"),
        ("application/vnd.ms-word.document.macroEnabled.main+xml", "application/vnd.ms-word.document.macroenabled.12"),
        (OOXML + "spreadsheetml.sheet.main+xml", OOXML + "spreadsheetml.sheet"),
        (
            "application/vnd.ms-excel.sheet.binary.macroEnabled.main",
            "application/vnd.ms-excel.sheet.binary.macroenabled.12",
        ),
        (
            "application/vnd.ms-powerpoint.presentation.macroEnabled.main+xml",
            "application/vnd.ms-powerpoint.presentation.macroenabled.12",
        ),
    ],
)
def test_an_office_file_is_told_by_its_main_part_not_by_its_name(main_part: str, kind: str) -> None:
    assert found_types(document(main_part), ("letter.zip",), ()) == (kind,)


def test_a_document_that_holds_a_program_is_looked_at_as_an_archive_too() -> None:
    data = document(OOXML + "wordprocessingml.document.main+xml", "word/run.exe")
    assert found_types(data, (), ()) == (OOXML + "wordprocessingml.document", ZIP)


def test_packages_are_told_by_what_they_hold() -> None:
    assert found_types(zipped(META_INF="x", **{"META-INF__MANIFEST_MF": "x"}), (), ()) == (
        "application/java-archive",
        ZIP,
    )
    assert found_types(zipped(AndroidManifest_xml="x"), (), ())[0] == "application/vnd.android.package-archive"
    assert found_types(zipped(mimetype="application/epub+zip"), (), ()) == ("application/epub+zip", ZIP)
    odt = zipped(mimetype="application/vnd.oasis.opendocument.text", content_xml="x")
    assert found_types(odt, (), ()) == ("application/vnd.oasis.opendocument.text",)


@pytest.mark.parametrize(
    ("data", "kinds"),
    [
        (GIF + zipped(x_class="x"), {"image/gif", ZIP}),
        (PE + zipped(x_txt="x"), {"application/vnd.microsoft.portable-executable", ZIP}),
        (PDF + zipped(x_txt="x"), {"application/pdf", ZIP}),
        (PE + b"Rar!\x1a\x07\0" + bytes(30), {"application/vnd.microsoft.portable-executable", "application/vnd.rar"}),
        (GIF + b"<script>alert(1)</script>", {"image/gif", "text/html"}),
        (ole("WordDocument"), {"application/msword", OLE}),
    ],
)
def test_what_is_several_at_once_has_several_types(data: bytes, kinds: set[str]) -> None:
    assert kinds <= set(found_types(data, (), ()))


def test_an_archive_within_a_tar_file_is_not_taken_for_one_behind_it() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("a.7z")
        member.size = 40
        archive.addfile(member, io.BytesIO(b"7z\xbc\xaf\x27\x1c" + bytes(34)))
    assert found_types(buffer.getvalue(), (), ()) == ("application/x-tar",)
    assert found_types(tarred(), (), ()) == ("application/x-tar",)


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.js", "x", "text/javascript"),
        ("a.jse", "x", "text/javascript"),
        ("a.vbs", "x", "text/vbscript"),
        ("a.wsf", "x", "application/x-windows-script"),
        ("a.hta", "x", "application/hta"),
        ("a.ps1", "x", "application/x-powershell"),
        ("a.bat", "x", "application/x-bat"),
        ("a.cmd", "x", "application/x-bat"),
        ("a.reg", "x", "application/x-ms-regedit"),
        ("a.url", "x", "application/x-mswinurl"),
        ("a.html", "x", "text/html"),
        ("a.ics", "x", "text/calendar"),
        ("a.txt", "Dear all,\r\nsee below.\r\n", "text/plain"),
        ("x", "#!/bin/sh\nls\n", "application/x-sh"),
        ("x", "#!/usr/bin/env python3\n", "text/x-python"),
        ("x", "#!/usr/bin/perl -w\n", "application/x-perl"),
        ("x", "<?php echo 1;", "application/x-httpd-php"),
        ("x", "#@~^XgAAAA==", "application/x-jscript-encode"),
        ("x", "[InternetShortcut]\r\nURL=http://a.example/", "application/x-mswinurl"),
        ("x", "[Shell]\r\nCommand=2\r\n", "application/x-shell-command"),
        ("x", "Windows Registry Editor Version 5.00\r\n", "application/x-ms-regedit"),
        ("x", "@echo off\r\n", "application/x-bat"),
        ("x", "<!doctype html><p>x", "text/html"),
        ("x", "  <!-- note -->\n<html>", "text/html"),
        ("x", '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
        ("x", "<html><hta:application id=x>", "application/hta"),
        ("x", "<job><script language=JScript>", "application/x-windows-script"),
        ("x", "BEGIN:VCALENDAR\r\n", "text/calendar"),
        ("x", "BEGIN:VCARD\r\n", "text/vcard"),
        ("x", "From: a@a.example\r\nSubject: x\r\n\r\nx", "message/rfc822"),
        (
            "x",
            '$env:TEMP; Invoke-Expression (New-Object Net.WebClient).DownloadString("x")',
            "application/x-powershell",
        ),
        ("x", 'Set s = CreateObject("WScript.Shell")\r\nDim a\r\nEnd Sub', "text/vbscript"),
        ("x", '{"a": 1}', "application/json"),
    ],
)
def test_text_is_told_by_its_name_and_by_how_it_reads(name: str, text: str, kind: str) -> None:
    assert kind in found_types(text.encode(), (name,), ())
    assert kind in found_types(b"\xff\xfe" + text.encode("utf-16-le"), (name,), ())
    assert "text/plain" in found_types(text.encode(), (name,), ())


def test_a_name_makes_no_program_of_a_picture() -> None:
    assert found_types(GIF, ("a.js",), ()) == ("image/gif",)


def test_text_that_is_declared_as_html_is_shown_as_such() -> None:
    assert found_types(b"plain words", (), ("text/html",)) == ("text/html", "text/plain")
    assert found_types(b"plain words", (), ("text/plain",)) == ("text/plain",)


def test_nothing_is_plain_text() -> None:
    assert found_types(b"", (), ()) == ("text/plain",)


def test_kinds_tell_what_runs() -> None:
    assert TYPES["application/x-ms-shortcut"] is Kind.SCRIPT
    assert TYPES["application/x-msi"] is Kind.PROGRAM
    assert TYPES[OOXML + "wordprocessingml.document"] is Kind.DOCUMENT
