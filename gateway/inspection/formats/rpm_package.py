"""RPM packages: what stands behind the headers is a compressed cpio archive (RPM file format, version 3 and 4)."""

from gateway.inspection.look import Look

OPENS = ("application/x-rpm",)

LEAD = 96
_MAGIC = b"\x8e\xad\xe8"


def open_file(look: Look) -> None:
    place = _behind_header(look.data, LEAD)
    if place is not None:
        # The signature's header is padded to eight octets.
        place = _behind_header(look.data, place + -place % 8)
    if place is None or place >= len(look.data):
        return look.note_problem("damaged")
    return look.open_member(look.take((look.data[place:],)), "payload.cpio")


def _behind_header(data: bytes, place: int) -> int | None:
    """Return the place behind a header structure: 16 octets, 16 for each entry, the store. None: there is none."""
    if not data.startswith(_MAGIC, place) or place + 16 > len(data):
        return None
    entries = int.from_bytes(data[place + 8 : place + 12])
    store = int.from_bytes(data[place + 12 : place + 16])
    return place + 16 + 16 * entries + store
