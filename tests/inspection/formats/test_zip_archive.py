"""ZIP archives: whatever some reader would show is opened, and where readers disagree that is said."""

import hashlib
import hmac
import io
import struct
import time
import zipfile
import zlib

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from gateway.inspection.facts import Lock
from gateway.inspection.task import Bounds
from gateway.inspection.unpacking.zip_encryption import _crc, _update
from gateway.inspection.zip_directory import read_directory
from tests.inspection.formats.walking import names, walked


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members:
            file.writestr(name, data)
    return buffer.getvalue()


def member(
    name: bytes, data: bytes, *, method: int = 0, flags: int = 0, extra: bytes = b"", plain: bytes = b""
) -> tuple[bytes, bytes]:
    """Return a local header with its data, and the directory's entry without the offset and what follows it."""
    fields = struct.pack("<HHHHHIII", 20, flags, method, 0, 0, zlib.crc32(plain or data), len(data), len(plain or data))
    sizes = struct.pack("<HH", len(name), len(extra))
    local = b"PK\x03\x04" + fields + sizes + name + extra + data
    return local, b"PK\x01\x02" + struct.pack("<H", 20) + fields + sizes + struct.pack("<HHHI", 0, 0, 0, 0)


def joined(*members: tuple[bytes, bytes], names: tuple[bytes, ...], extras: tuple[bytes, ...] = ()) -> bytes:
    """Put members and their directory together; `names` are those of the directory."""
    body, directory = b"", b""
    for index, ((local, entry), name) in enumerate(zip(members, names, strict=True)):
        extra = extras[index] if extras else b""
        entry = entry[:28] + struct.pack("<HH", len(name), len(extra)) + entry[32:]
        directory += entry + struct.pack("<I", len(body)) + name + extra
        body += local
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(members), len(members), len(directory), len(body), 0)
    return body + directory + end


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_are_opened_whatever_packs_them(method: int) -> None:
    data = b"some text, some text, some text\n" * 100
    parts = walked(archive(("a.txt", data), ("b.js", b"x"), method=method), "a.zip")
    assert names(parts) == ["a.txt", "b.js"]
    assert parts[1].sha256 == hashlib.sha256(data).hexdigest()
    assert "text/javascript" in parts[2].found_types
    assert not any(part.problems for part in parts)


def test_an_archive_in_an_archive_is_opened() -> None:
    parts = walked(archive(("in.zip", archive(("deep.exe", b"MZ"), method=0)), method=0))
    assert [part.path for part in parts] == ["1", "1/1", "1/1/1"]
    assert names(parts) == ["in.zip", "deep.exe"]
    assert parts[0].problems == ()


def test_what_stands_before_or_behind_the_archive_is_said() -> None:
    data = archive(("a.txt", b"x"))
    assert walked(b"MZ" + bytes(200) + data)[0].problems == ("prepended_data",)
    assert walked(data + b"more")[0].problems == ("appended_data",)
    assert names(walked(b"MZ" + bytes(200) + data)) == ["a.txt"]


def test_files_of_both_archives_are_opened_when_two_stand_behind_each_other() -> None:
    parts = walked(archive(("first.txt", b"1")) + archive(("second.txt", b"2")))
    assert sorted(names(parts)) == ["first.txt", "second.txt"]
    assert "conflicting_directory" in parts[0].problems


def test_a_file_that_only_local_headers_show_is_opened() -> None:
    hidden, _ = member(b"hidden.exe", b"MZ")
    shown = member(b"a.txt", b"x")
    data = joined((hidden + shown[0], shown[1]), names=(b"a.txt",))
    end = data.index(b"PK\x01\x02")
    # The directory's only entry leads to the second local header.
    data = data[: end + 42] + struct.pack("<I", len(hidden)) + data[end + 46 :]
    parts = walked(data)
    assert sorted(names(parts)) == ["a.txt", "hidden.exe"]
    assert "conflicting_directory" in parts[0].problems


def test_a_name_that_differs_between_directory_and_local_header_is_kept_twice() -> None:
    parts = walked(joined(member(b"a.exe", b"MZ"), names=(b"a.txt",)))
    assert parts[1].names == ("a.txt", "a.exe")
    assert parts[0].problems == ("mismatched_name",)


def test_sizes_that_differ_between_directory_and_local_header_are_both_read() -> None:
    local, entry = member(b"a.txt", b"0123456789")
    short = entry[:20] + struct.pack("<II", 4, 4) + entry[28:]
    parts = walked(joined((local, short), names=(b"a.txt",)))
    assert [part.size for part in parts[1:]] == [4, 10]
    assert "conflicting_directory" in parts[0].problems


def test_a_second_directory_in_the_comment_is_read_too() -> None:
    first = archive(("shown.txt", b"x"))
    local, entry = member(b"other.txt", b"y")
    directory = entry + struct.pack("<I", len(first)) + b"other.txt"
    second = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), len(first) + len(local), 0)
    comment = local + directory + second
    data = first[:-2] + struct.pack("<H", len(comment)) + comment
    parts = walked(data)
    assert sorted(names(parts)) == ["other.txt", "shown.txt"]
    assert "conflicting_directory" in parts[0].problems


@pytest.mark.parametrize(
    ("raw", "flags", "extra", "wanted"),
    [
        (b"a.txt", 0, b"", ("a.txt",)),
        ("\u00fc.txt".encode(), 0x800, b"", ("\u00fc.txt",)),
        (b"\x81.txt", 0, b"", ("\u00fc.txt",)),  # CP437
        (
            b"x.txt",
            0,
            struct.pack("<HHBI", 0x7075, 10, 1, zlib.crc32(b"x.txt")) + b"y.exe",
            ("y.exe", "x.txt"),
        ),
        (b"x.txt", 0, struct.pack("<HHBI", 0x7075, 10, 1, 0) + b"y.exe", ("y.exe", "x.txt")),
    ],
)
def test_a_name_is_kept_in_every_reading(raw: bytes, flags: int, extra: bytes, wanted: tuple[str, ...]) -> None:
    data = joined(member(raw, b"x", flags=flags, extra=extra), names=(raw,), extras=(extra,))
    assert walked(data)[1].names == wanted


def test_sizes_may_follow_the_data() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.taken = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.taken += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as file:  # type: ignore[arg-type]
        file.writestr("a.txt", b"x" * 1000)
        file.writestr("b.txt", b"y" * 1000)
    parts = walked(pipe.taken)
    assert [(part.names, part.size, part.problems) for part in parts[1:]] == [
        (("a.txt",), 1000, ()),
        (("b.txt",), 1000, ()),
    ]
    assert parts[0].problems == ()


def test_sizes_and_places_may_be_wide() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file, file.open("a.txt", "w", force_zip64=True) as opened:
        opened.write(b"wide")
    parts = walked(buffer.getvalue())
    assert [(part.names, part.size) for part in parts[1:]] == [(("a.txt",), 4)]
    assert parts[0].problems == ()


@pytest.mark.parametrize("name", ["../up.txt", "/root.txt", "C:\\x.txt", "a\u202etxt.exe"])
def test_a_name_that_leads_elsewhere_is_odd(name: str) -> None:
    assert walked(archive((name, b"x")))[0].problems == ("odd_name",)


def test_a_method_without_a_decoder_is_said() -> None:
    parts = walked(joined(member(b"a.txt", b"x", method=6), names=(b"a.txt",)))
    assert parts[0].problems == ("unsupported",)
    assert (parts[1].names, parts[1].problems) == (("a.txt",), ("unsupported",))


def test_damage_is_said_and_what_can_be_read_is_opened() -> None:
    data = bytearray(archive(("a.txt", bytes(range(256)) * 40), method=0))
    data[2000] ^= 1
    parts = walked(bytes(data))
    assert parts[0].problems == ("damaged",)
    assert parts[1].size == 10240
    cut = walked(archive(("a.txt", bytes(5000)), method=0)[:3000])
    assert cut[0].problems == ("damaged", "truncated")
    assert names(cut) == ["a.txt"]


def test_a_bomb_is_stopped() -> None:
    parts = walked(archive(("zeros", bytes(50 << 20))))
    assert parts[0].problems == ("ratio",)
    assert parts[1].problems == ("ratio",)


def test_entries_that_share_data_are_told_and_stopped() -> None:
    packed = zlib.compress(bytes(900_000), 9)[2:-4]
    local, entry = member(b"a", packed, method=8, plain=bytes(900_000))
    directory = b"".join(entry + struct.pack("<I", 0) + b"a" for _ in range(1000))
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1000, 1000, len(directory), len(local), 0)
    parts = walked(local + directory + end)
    # The same reading of the same data is opened once.
    assert len(parts) == 2
    shifted = b"".join(
        entry[:20] + struct.pack("<I", len(packed) - number % 500) + entry[24:] + struct.pack("<I", 0) + b"a"
        for number in range(1000)
    )
    parts = walked(local + shifted + end)
    assert "conflicting_directory" in parts[0].problems
    assert "ratio" in parts[0].problems
    assert len(parts) < 60


def test_the_count_is_read_before_the_members() -> None:
    many = archive(*((f"{number}", b"") for number in range(5000)), method=0)
    parts = walked(many, bounds=Bounds(files=100))
    assert len(parts) == 100
    assert "too_many_files" in parts[0].problems


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04" * 1_000_000,
        (b"PK\x03\x04\x14\0\x08\0\0\0" + bytes(16) + b"\x01\0\0\0x") * 150_000,
        b"PK\x05\x06" * 1_000_000,
    ],
)
def test_headers_without_end_are_read_in_bounded_time(data: bytes) -> None:
    began = time.process_time()
    read_directory(data)
    assert time.process_time() - began < 1  # measured: 0.03 s


def sealed(data: bytes, password: bytes) -> bytes:
    """Encrypt as APPNOTE 6.1 says; the check octet is the checksum's highest."""
    keys = [0x12345678, 0x23456789, 0x34567890]
    for octet in password:
        _update(keys, octet)
    packed = bytearray()
    for octet in bytes(11) + bytes([zlib.crc32(data) >> 24]) + data:
        mixed = keys[2] | 2
        packed.append(octet ^ ((mixed * (mixed ^ 1)) >> 8 & 0xFF))
        _update(keys, octet)
    return bytes(packed)


def test_the_checksum_step_is_that_of_crc32() -> None:
    value = 0xFFFFFFFF
    for octet in b"123456789":
        value = _crc(value, octet)
    assert value ^ 0xFFFFFFFF == 0xCBF43926  # the check value of CRC-32


def test_the_old_encryption_is_opened_with_a_known_password() -> None:
    plain = b"a secret text"
    data = joined(member(b"a.txt", sealed(plain, b"infected"), flags=1, plain=plain), names=(b"a.txt",))
    parts = walked(data, passwords=("wrong", "infected"))
    assert parts[0].lock is Lock.OPENED
    assert parts[1].sha256 == hashlib.sha256(plain).hexdigest()
    parts = walked(data, passwords=("wrong",))
    assert parts[0].lock is Lock.LOCKED
    assert (parts[1].names, parts[1].size, parts[1].lock) == (("a.txt",), len(plain), Lock.LOCKED)


def sealed_by_aes(data: bytes, password: bytes, *, strength: int) -> bytes:
    size = 8 + 8 * strength
    salt = bytes(range(size // 2))
    keys = hashlib.pbkdf2_hmac("sha1", password, salt, 1000, 2 * size + 2)
    blocks = b"".join(number.to_bytes(16, "little") for number in range(1, len(data) // 16 + 2))
    stream = Cipher(algorithms.AES(keys[:size]), modes.ECB()).encryptor().update(blocks)
    body = bytes(left ^ right for left, right in zip(data, stream, strict=False))
    return salt + keys[-2:] + body + hmac.digest(keys[size : 2 * size], body, "sha1")[:10]


@pytest.mark.parametrize("strength", [1, 2, 3])
def test_aes_is_opened_with_a_known_password(strength: int) -> None:
    plain = b"a secret text of more than one block\n" * 10
    field = struct.pack("<HHH2sBH", 0x9901, 7, 2, b"AE", strength, 8)
    packed = zlib.compress(plain)[2:-4]
    local, entry = member(
        b"a.txt", sealed_by_aes(packed, "gr\u00fcn".encode(), strength=strength), method=99, flags=1, extra=field
    )
    # AE-2 has no checksum.
    data = joined(
        (local[:14] + bytes(4) + local[18:], entry[:16] + bytes(4) + entry[20:]), names=(b"a.txt",), extras=(field,)
    )
    parts = walked(data, passwords=("wrong", "gr\u00fcn"))
    assert parts[0].lock is Lock.OPENED
    assert parts[1].sha256 == hashlib.sha256(plain).hexdigest()
    parts = walked(data)
    assert (parts[0].lock, parts[1].lock) == (Lock.LOCKED, Lock.LOCKED)
