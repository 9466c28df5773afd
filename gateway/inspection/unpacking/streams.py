"""Decompression in bounded pieces: nothing is unpacked before somebody has asked for the next piece."""

import bz2
import lzma
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from gateway.inspection.unpacking.libarchive_reading import LibarchiveError, Unsupported

CHUNK = 256 * 1024  # octets of one piece
MAX_DICTIONARY = 128 << 20  # octets of memory for LZMA: the default presets of xz need at most 65 MiB

BROKEN = (zlib.error, lzma.LZMAError, OSError, ValueError, LibarchiveError)


class Truncated(Exception):
    """The data ends before the stream does."""


class Decoder(Protocol):
    """What `bz2` and `lzma` have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def inflate(data: bytes, window_bits: int = -15) -> Iterator[bytes]:
    """Unpack one stream of DEFLATE (RFC 1951), by `window_bits` with a wrapper. Raises zlib.error, Truncated."""
    decoder = zlib.decompressobj(window_bits)
    while not decoder.eof:
        chunk = decoder.decompress(data, CHUNK)
        data = decoder.unconsumed_tail
        if chunk:
            yield chunk
        elif not data and not decoder.eof:
            raise Truncated


def gunzip(data: bytes) -> Iterator[bytes]:
    """Unpack all members of a gzip file (RFC 1952 section 2.2). Zeros at the end are padding, else ValueError."""
    while data:
        decoder = zlib.decompressobj(31)
        while not decoder.eof:
            chunk = decoder.decompress(data, CHUNK)
            data = decoder.unconsumed_tail
            if chunk:
                yield chunk
            elif not data and not decoder.eof:
                raise Truncated
        data = decoder.unused_data.lstrip(b"\0")
        if data and not data.startswith(b"\x1f\x8b"):
            raise ValueError("something else follows")


def decode(decoder: Decoder, data: bytes) -> Iterator[bytes]:
    """Unpack one stream by a decoder. Raises what it raises, and Truncated."""
    while not decoder.eof:
        chunk = decoder.decompress(data, CHUNK)
        data = b""
        if chunk:
            yield chunk
        elif decoder.needs_input and not decoder.eof:
            raise Truncated


def bunzip2(data: bytes) -> Iterator[bytes]:
    """Unpack all streams of a bzip2 file."""
    while data:
        decoder = bz2.BZ2Decompressor()
        yield from decode(decoder, data)
        data = decoder.unused_data.lstrip(b"\0")
        if data and not data.startswith(b"BZh"):
            raise ValueError("something else follows")


def unxz(data: bytes) -> Iterator[bytes]:
    """Unpack all streams of an .xz file, or one of .lzma. Padding is in fours of zeros (.xz format 2.2)."""
    while data:
        decoder = lzma.LZMADecompressor(memlimit=MAX_DICTIONARY)
        yield from decode(decoder, data)
        data = decoder.unused_data.lstrip(b"\0")
        if data and not data.startswith(b"\xfd7zXZ\0"):
            raise ValueError("something else follows")


def unpack_raw_lzma(data: bytes, properties: bytes) -> Iterator[bytes]:
    """Unpack LZMA without a header; the five properties are those of the LZMA SDK. Raises ValueError, lzma.LZMAError.

    The stream may have no end mark: then it ends with the data.
    """
    packing, dictionary = properties[0], int.from_bytes(properties[1:5], "little")
    if dictionary > MAX_DICTIONARY or packing >= 9 * 5 * 5:
        raise ValueError("properties out of range")
    filters = [
        {
            "id": lzma.FILTER_LZMA1,
            "lc": packing % 9,
            "lp": packing // 9 % 5,
            "pb": packing // 45,
            "dict_size": max(dictionary, 4096),
        }
    ]
    decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
    try:
        yield from decode(decoder, data)
    except Truncated:
        return


def until_broken(chunks: Iterable[bytes], problems: list[str]) -> Iterator[bytes]:
    """Yield what can be unpacked; why it ends early is added to `problems`, as a code of `look.PROBLEMS`."""
    try:
        yield from chunks
    except (Truncated, EOFError):
        problems.append("truncated")
    except Unsupported:
        problems.append("unsupported")
    except BROKEN:
        problems.append("damaged")
