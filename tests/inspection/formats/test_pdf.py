"""PDF: what runs, starts, sends or is brought along, however it is written."""

import base64
import hashlib
import zlib

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from gateway.inspection.facts import Lock
from gateway.inspection.formats.pdf_objects import unescaped
from tests.inspection.formats.documents import first, opened

PDF = "application/pdf"


def pdf(*objects: bytes, trailer: bytes = b"<</Root 1 0 R>>") -> bytes:
    body = b"".join(b"%d 0 obj\n%s\nendobj\n" % (number, item) for number, item in enumerate(objects, 1))
    return b"%PDF-1.7\n" + body + b"trailer\n" + trailer + b"\n%%EOF\n"


def stream(dictionary: bytes, data: bytes) -> bytes:
    return b"<<%s/Length %d>>\nstream\n%s\nendstream" % (dictionary, len(data), data)


@pytest.mark.parametrize(
    ("item", "active"),
    [
        (b"<</S/JavaScript/JS(app.alert\\(1\\))>>", "script"),
        (b"<</S/J#61vaScript/#4a#53 5 0 R>>", "script"),
        (b"<</AA<</O<</S/JavaScript/JS 5 0 R>>>>>>", "script"),
        (b"<</X(stream)/S/JavaScript/JS(x)>>", "script"),
        (b"<</X(an open \\( one (and) two)/JS(x)>>", "script"),
        (b"<</X % a comment (\n/JS(x)>>", "script"),
        (b"<</S/Launch/F(cmd.exe)>>", "launch"),
        (b"<</S/SubmitForm/F(https://evil.example/)>>", "form_submit"),
        (b"<</Type/RichMedia>>", "embedded_object"),
        (b"<</S/GoToR/F(\\\\\\\\evil.example\\\\share\\\\a)>>", "external_relationship"),
        (b"<</S/GoTo/D[3 0 R/Fit]>>", ""),
        (b"<</Title(/JS and /Launch)>>", ""),
        (b"<</Font<</JSerif 3 0 R>>>>", ""),
        (stream(b"", b"/JS(in a page)"), ""),
    ],
)
def test_actions_are_found_by_their_names(monkeypatch: pytest.MonkeyPatch, item: bytes, active: str) -> None:
    assert first(monkeypatch, pdf(item), PDF).active == ((active,) if active else ())


def test_what_stands_in_a_trailer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pdf(trailer=b"<</Root<</OpenAction<</S/JavaScript/JS(x)>>>>>>")
    assert first(monkeypatch, data, PDF).active == ("script",)


def test_objects_in_streams_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"7 0 8 20 " + b"<</Type/Catalog>>".ljust(20) + b"<</S/Launch/F(a.exe)>>"
    item = stream(b"/Type/ObjStm/N 2/First 9/Filter/FlateDecode", zlib.compress(content))
    assert first(monkeypatch, pdf(item), PDF).active == ("launch",)


@pytest.mark.parametrize(
    ("filters", "packed"),
    [
        (b"", b"MZ program"),
        (b"/Filter/FlateDecode", zlib.compress(b"MZ program")),
        (b"/Filter/AHx", b"4D 5A 20 70 72 6F 67 72 61 6D>"),
        (b"/Filter[/ASCII85Decode/Fl]", None),
    ],
)
def test_files_within_are_opened_with_their_names(
    monkeypatch: pytest.MonkeyPatch, filters: bytes, packed: bytes | None
) -> None:
    packed = base64.a85encode(zlib.compress(b"MZ program")) + b"~>" if packed is None else packed
    data = pdf(b"<</Type/Filespec/F(a.exe)/UF<FEFF0062002E006500780065>/EF<</F 2 0 R>>>>", stream(filters, packed))
    outer, inner = opened(monkeypatch, data, PDF).parts
    assert (outer.active, inner.names, inner.size) == (("embedded_file",), ("b.exe", "a.exe"), 10)


def test_links_are_noted_with_their_escapes_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    links = opened(monkeypatch, pdf(b"<</S/URI/URI(https://shop.example/\\141\\(b\\))>>"), PDF).links
    assert [link.target for link in links] == ["https://shop.example/a(b)"]


@pytest.mark.parametrize(
    ("written", "octets"),
    [(b"a\\nb", b"a\nb"), (b"\\101\\7x", b"A\x07x"), (b"a\\\nb", b"ab"), (b"a\\\r\nb", b"ab"), (b"\\q", b"q")],
)
def test_strings_are_unescaped(written: bytes, octets: bytes) -> None:
    assert unescaped(written) == octets  # ISO 32000-1, 7.3.4.2


def test_scripts_of_an_xfa_form_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    form = stream(b"/Filter/FlateDecode", zlib.compress(b"<template><event><script>x</script></event></template>"))
    assert first(monkeypatch, pdf(b"<</AcroForm<</XFA[(template)2 0 R]>>>>", form), PDF).active == ("script",)


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        (b"junk\n" + pdf(), ("prepended_data",)),
        (b"\xef\xbb\xbf" + pdf(), ()),
        (pdf() + b"x" * 2000, ("appended_data",)),
        (pdf(stream(b"/Type/ObjStm/Filter/FlateDecode", b"junk")), ("damaged",)),
        (pdf(stream(b"/Type/ObjStm/Filter/LZWDecode", b"junk")), ("unsupported",)),
        (pdf(stream(b"/Type/ObjStm/Filter/FlateDecode", zlib.compress(bytes(3 << 20)))), ("ratio",)),
    ],
)
def test_what_is_odd_is_said(monkeypatch: pytest.MonkeyPatch, data: bytes, problems: tuple[str, ...]) -> None:
    assert first(monkeypatch, data, PDF).problems == problems


# --- Passwords --------------------------------------------------------------------------------------------------------

PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
OWNER, FILE_ID = bytes(range(32)), bytes(range(16))


def md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def rc4(key: bytes, data: bytes) -> bytes:
    return Cipher(ARC4(key), mode=None).encryptor().update(data)


def cbc(key: bytes, data: bytes) -> bytes:
    count = 16 - len(data) % 16
    iv = bytes(range(16, 32))
    return iv + Cipher(AES(key), CBC(iv)).encryptor().update(data + bytes((count,)) * count)


def locked_128(password: bytes, *, is_aes: bool) -> bytes:
    """Return a file whose link is encrypted with RC4 or AES of 128 bits (ISO 32000-1, algorithms 1, 2 and 5)."""
    key = md5((password + PADDING)[:32] + OWNER + b"\xfc\xff\xff\xff" + FILE_ID)
    for _ in range(50):
        key = md5(key)
    user = md5(PADDING + FILE_ID)
    for step in range(20):
        user = rc4(bytes(octet ^ step for octet in key), user)
    salted = md5(key + b"\x01\0\0\0\0" + (b"sAlT" if is_aes else b""))
    secret = cbc(salted, b"https://shop.example/") if is_aes else rc4(salted, b"https://shop.example/")
    version = b"/V 4/R 4/CF<</StdCF<</CFM/AESV2>>>>" if is_aes else b"/V 2/R 3/Length 128"
    lock = b"<</Filter/Standard%s/O<%s>/U<%s>/P -4>>" % (
        version,
        OWNER.hex().encode(),
        user.ljust(32, b"\0").hex().encode(),
    )
    trailer = b"<</Encrypt 2 0 R/ID[<%s><00>]>>" % FILE_ID.hex().encode()
    return pdf(b"<</S/URI/URI<%s>>>" % secret.hex().encode(), lock, trailer=trailer)


def locked_256(password: bytes) -> bytes:
    """Return the same with AES of 256 bits as Acrobat 9 wrote it (revision 5: hashes without rounds)."""
    key, check, salt = bytes(range(100, 132)), b"checking", b"for keys"
    user = hashlib.sha256(password + check).digest() + check + salt
    wrapping = hashlib.sha256(password + salt).digest()
    wrapped = Cipher(AES(wrapping), CBC(bytes(16))).encryptor().update(key)
    secret = cbc(key, b"https://shop.example/")
    lock = b"<</Filter/Standard/V 5/R 5/U<%s>/UE<%s>/P -4>>" % (user.hex().encode(), wrapped.hex().encode())
    return pdf(b"<</S/URI/URI<%s>>>" % secret.hex().encode(), lock, trailer=b"<</Encrypt 2 0 R>>")


@pytest.mark.parametrize(
    "data",
    [
        locked_128(b"", is_aes=False),
        locked_128(b"gate", is_aes=False),
        locked_128(b"gate", is_aes=True),
        locked_256(b""),
        locked_256(b"gate"),
    ],
)
def test_a_password_that_is_known_opens(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    found = opened(monkeypatch, data, PDF, passwords=("wrong", "gate"))
    assert found.parts[0].lock is Lock.OPENED
    assert [link.target for link in found.links] == ["https://shop.example/"]


@pytest.mark.parametrize(
    "data", [locked_128(b"other", is_aes=False), locked_128(b"other", is_aes=True), locked_256(b"x")]
)
def test_a_password_that_is_not_known_is_a_lock(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    found = opened(monkeypatch, data, PDF, passwords=("gate",))
    assert (found.parts[0].lock, found.links) == (Lock.LOCKED, ())


def test_what_a_certificate_opens_is_locked_and_its_names_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pdf(b"<</S/Launch/F(a)>>", b"<</Filter/Adobe.PubSec/V 4>>", trailer=b"<</Encrypt 2 0 R>>")
    part = first(monkeypatch, data, PDF)
    assert (part.lock, part.active, part.problems) == (Lock.LOCKED, ("launch",), ("unsupported",))


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-" + b"1 0 obj" * 100_000,
        b"%PDF-1 0 obj/JS" + b"(" * 500_000,
        b"%PDF-1 0 obj/JS" + b"(()" * 200_000,
        b"%PDF-1 0 obj/JS" + b"<<" * 300_000,
        b"%PDF-" + b"/Encrypt /ID[(" * 50_000,
    ],
)
def test_hostile_syntax_ends(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    assert "too_long" not in first(monkeypatch, data, PDF).problems
