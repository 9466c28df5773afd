"""RTF bodies as Outlook packs them (MS-OXRTFCP)."""

import struct
from collections.abc import Iterator

# MS-OXRTFCP 2.1.2.1: what the dictionary starts with.
START = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans "
    rb"SerifSymbolArialTimes New RomanCourier{\colortbl\red0\green0\blue0" + b"\r\n" + rb"\par \pard\plain\f0\fs20\b\i"
    rb"\u\tab\tx"
)
SIZE = 4096  # octets of the dictionary
COMPRESSED, UNCOMPRESSED = b"LZFu", b"MELA"
OUT = 64 * 1024  # octets that are yielded at a time


def unpacked(data: bytes) -> Iterator[bytes]:
    """Yield the RTF in pieces. Raises ValueError if it is of no kind that MS-OXRTFCP 2.1.3.1.1 knows."""
    if len(data) < 16:
        raise ValueError("cut short")
    packed_size, size, kind = struct.unpack_from("<II4s", data)
    if kind == UNCOMPRESSED:
        yield data[16 : 16 + size]
    elif kind == COMPRESSED:
        yield from _runs(data[16 : 4 + packed_size])
    else:
        raise ValueError("no compressed RTF")


def _runs(data: bytes) -> Iterator[bytes]:
    """Yield what the control octets and their tokens stand for (MS-OXRTFCP 2.2.2.1)."""
    window = bytearray(START.ljust(SIZE, b"\0"))
    write, place, out = len(START), 0, bytearray()
    while place < len(data):
        control = data[place]
        place += 1
        for bit in range(8):
            is_reference = control >> bit & 1
            token = data[place : place + 1 + is_reference]
            place += len(token)
            if len(token) < 1 + is_reference:
                break
            piece = token
            if is_reference:
                # 12 bits of place, 4 of length; a reference to the place of writing is the end.
                read, length = token[0] << 4 | token[1] >> 4, (token[1] & 15) + 2
                if read == write:
                    yield bytes(out)
                    return
                piece = _copied(window, read, write, length)
            for octet in piece:
                window[write] = octet
                write = (write + 1) % SIZE
            out += piece
        if len(out) >= OUT:
            yield bytes(out)
            out.clear()
    yield bytes(out)


def _copied(window: bytearray, read: int, write: int, length: int) -> bytes:
    """Return `length` octets from `read` on; those that are being written now repeat what has been read."""
    gap = (write - read) % SIZE
    piece = bytes(window[(read + i) % SIZE] for i in range(min(length, gap)))
    return (piece * (length // len(piece) + 1))[:length]
