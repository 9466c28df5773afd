"""Compressed files: one layer each, all that was put behind it, no layer without end."""

import bz2
import gzip
import hashlib
import lzma
from collections.abc import Callable

import pytest

from gateway.inspection.formats.compressed import inner_names, stored_name
from tests.inspection.formats.walking import names, walked

TEXT = b"some words of a text\n" * 200
# "hello\n" by compress(1).
COMPRESS = bytes.fromhex("1f9d9068cab061f34601")


def as_lzma(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE)


@pytest.mark.parametrize(
    ("compress", "name"),
    [(gzip.compress, "a.txt.gz"), (bz2.compress, "a.txt.bz2"), (lzma.compress, "a.txt.xz"), (as_lzma, "a.txt.lzma")],
)
def test_a_layer_is_undone(compress: Callable[[bytes], bytes], name: str) -> None:
    parts = walked(compress(TEXT), name)
    assert [(part.names, part.sha256, part.problems) for part in parts[1:]] == [
        (("a.txt",), hashlib.sha256(TEXT).hexdigest(), ())
    ]
    assert parts[0].problems == ()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_streams_behind_each_other_are_one_file(compress: Callable[[bytes], bytes]) -> None:
    parts = walked(compress(b"one ") + compress(b"two"))
    assert parts[1].sha256 == hashlib.sha256(b"one two").hexdigest()


def test_a_file_by_compress_is_unpacked() -> None:
    parts = walked(COMPRESS, "a.Z")
    assert (parts[1].names, parts[1].sha256) == (("a",), hashlib.sha256(b"hello\n").hexdigest())
    assert parts[0].problems == ()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_layer_that_ends_early_is_truncated_and_its_begin_is_opened(compress: Callable[[bytes], bytes]) -> None:
    data = bytes(hash_of(number) for number in range(100_000))
    parts = walked(compress(data)[:-1000])
    assert parts[0].problems == ("truncated",)


def hash_of(number: int) -> int:
    return number * number * 2654435761 >> 16 & 0xFF


def test_junk_behind_a_layer_is_said() -> None:
    parts = walked(gzip.compress(TEXT) + b"junk")
    assert parts[0].problems == ("damaged",)
    assert parts[1].size == len(TEXT)
    assert walked(gzip.compress(TEXT) + bytes(100))[0].problems == ()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_bomb_is_stopped(compress: Callable[[bytes], bytes]) -> None:
    assert walked(compress(bytes(20 << 20)))[0].problems == ("ratio",)


def test_layers_without_end_are_too_deep() -> None:
    data = b"x"
    for _ in range(30):
        data = gzip.compress(data)
    parts = walked(data)
    assert parts[-1].problems == ("too_deep",)
    assert len(parts) == 9


def test_the_stored_name_is_kept_beside_the_other() -> None:
    data = b"\x1f\x8b\x08\x08\0\0\0\0\0\xffevil.exe\0" + gzip.compress(b"x")[10:]
    assert stored_name(data) == "evil.exe"
    assert walked(data, "a.txt.gz")[1].names == ("a.txt", "evil.exe")


@pytest.mark.parametrize(
    ("name", "inner"),
    [("a.tar.gz", "a.tar"), ("a.tgz", "a.tar"), ("a.svgz", "a.svg"), ("a.bin", "a.bin"), ("plain", "plain")],
)
def test_the_name_within_follows_from_the_name(name: str, inner: str) -> None:
    assert inner_names((name,)) == (inner,)


def test_an_old_zstandard_is_unsupported_and_not_handed_on_as_it_stands() -> None:
    parts = walked(b"\x22\xb5\x2f\xfd" + bytes(40), "a.zst")
    assert parts[0].problems == ("unsupported",)
    assert names(parts) == ["a"]
    assert parts[1].size == 0
