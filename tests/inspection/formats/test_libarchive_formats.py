"""Archives that libarchive reads: opened, or said to be locked, truncated, damaged, unsupported."""

import locale
from collections.abc import Iterator

import libarchive
import pytest

from gateway.inspection.facts import Lock
from gateway.inspection.rar_headers import SIGNATURE, read_headers
from tests.inspection.formats.walking import names, walked


@pytest.fixture(autouse=True, scope="module")
def character_set() -> Iterator[None]:
    """libarchive makes names by the locale, as the box's child has it."""
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    yield
    locale.setlocale(locale.LC_CTYPE, before)


def packed(format_name: str, *members: tuple[str, bytes]) -> bytes:
    taken: list[bytes] = []

    def write(data: bytes) -> int:
        taken.append(bytes(data))
        return len(data)

    with libarchive.custom_writer(write, format_name) as archive:
        for name, data in members:
            archive.add_file_from_memory(name, len(data), data)
    return b"".join(taken)


def number(value: int) -> bytes:
    """Write a number as RAR 5 does, in seven bits an octet."""
    octets = b""
    while value > 0x7F:
        octets += bytes([value & 0x7F | 0x80])
        value >>= 7
    return octets + bytes([value])


def block(kind: int, flags: int, fields: bytes, extra: bytes = b"", data: bytes = b"") -> bytes:
    import zlib

    content = number(kind) + number(flags | (1 if extra else 0) | (2 if data else 0))
    content += (number(len(extra)) if extra else b"") + (number(len(data)) if data else b"") + fields + extra
    sized = number(len(content)) + content
    return zlib.crc32(sized).to_bytes(4, "little") + sized + data


def rar5(name: bytes, data: bytes, *, flags: int = 0, extra: bytes = b"", before: bytes = b"") -> bytes:
    """Make a RAR 5 archive of one stored file (technote: main, file and end headers)."""
    fields = number(0) + number(len(data)) + number(0o644) + number(0) + number(1) + number(len(name)) + name
    main = block(1, 0, number(0))
    return SIGNATURE + before + main + block(2, flags, fields, extra, data) + block(5, 0, number(0))


@pytest.mark.parametrize("format_name", ["7zip", "iso9660", "cpio", "cpio_newc", "xar", "ar_bsd"])
def test_members_are_opened(format_name: str) -> None:
    parts = walked(packed(format_name, ("a.txt", b"some text\n" * 50), ("b.js", b"x")))
    assert [(part.size, part.problems) for part in parts[1:]] == [(500, ()), (1, ())]
    assert [name.lower().strip(";1") for name in names(parts)] == ["a.txt", "b.js"]
    assert parts[0].problems == ()


def test_an_archive_behind_a_program_is_opened() -> None:
    program = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + bytes(200)
    assert names(walked(program + packed("7zip", ("a.js", b"x")))) == ["a.js"]
    assert names(walked(program + rar5(b"a.js", b"x"))) == ["a.js"]


def test_a_name_beyond_ascii_is_read_and_an_odd_one_is_said() -> None:
    assert names(walked(packed("7zip", ("gr\u00fcn.txt", b"x")))) == ["gr\u00fcn.txt"]
    assert walked(packed("7zip", ("../a.txt", b"x")))[0].problems == ("odd_name",)


def test_a_damaged_archive_is_never_clean() -> None:
    whole = packed("7zip", ("a.txt", bytes(range(256)) * 100))
    parts = walked(whole[:100])
    assert parts[0].problems
    changed = bytearray(whole)
    changed[40] ^= 0xFF
    assert walked(bytes(changed))[0].problems


def test_a_bomb_is_stopped() -> None:
    parts = walked(packed("7zip", ("zeros", bytes(30 << 20))))
    assert "ratio" in parts[0].problems


def test_a_rar_file_is_opened() -> None:
    parts = walked(rar5(b"a.txt", b"stored"))
    assert [(part.names, part.size) for part in parts[1:]] == [(("a.txt",), 6)]
    assert (parts[0].problems, parts[0].lock) == ((), Lock.NONE)


def test_an_encrypted_file_in_a_rar_is_locked() -> None:
    # Extra record 1, version 0, flags 0, iterations 15, salt, start value.
    record = number(1) + number(0) + number(0) + bytes([15]) + bytes(32)
    parts = walked(rar5(b"a.txt", b"sixteen octets..", extra=number(len(record)) + record))
    assert parts[0].lock is Lock.LOCKED
    assert (parts[1].names, parts[1].lock, parts[1].sha256) == (("a.txt",), Lock.LOCKED, "")


def test_encrypted_headers_of_a_rar_lock_all() -> None:
    parts = walked(rar5(b"a.txt", b"x", before=block(4, 0, number(0) + number(0) + bytes([15]) + bytes(16))))
    assert (parts[0].lock, len(parts)) == (Lock.LOCKED, 1)


def test_one_volume_of_a_rar_is_truncated() -> None:
    assert "truncated" in walked(rar5(b"a.txt", b"x", flags=0x10))[0].problems


def test_headers_of_a_rar_that_are_nonsense_end_the_reading() -> None:
    assert read_headers(SIGNATURE + b"\xff" * 1000).files == ()
    assert read_headers(SIGNATURE).files == ()


@pytest.mark.parametrize(
    "data",
    [bytes(7) + b"**ACE**" + bytes(50), b"MSWIM\0\0\0" + bytes(50), b"vhdxfile" + bytes(50), b"RE\x7e\x5e" + bytes(50)],
)
def test_what_has_no_reader_is_said(data: bytes) -> None:
    assert walked(data)[0].problems == ("unsupported",)
