"""Recovery of a spool that was changed in any way: what is intact comes back, nothing else does, nothing fails."""

import os
import tempfile
from datetime import UTC, datetime

import msgspec

from tests.soak import fuzzing
from tests.soak.fuzzing import Input

with fuzzing.instrumented():
    from gateway.accepted import Accepted, Location
    from gateway.mail.address import Address
    from gateway.mail.envelope import Direction, Recipient
    from gateway.spool.record import check_of, encode_head, write_header
    from gateway.spool.recovery import Damage, scan

MARKER = b"markmark"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SEEDS = (
    b"",
    b"\1\0\0\0\7\xff",
    b"\2\0\0\1\0",
    b"\3\0\0\0\50\0\0\0\20",
    b"\4\0\0\0\1abc",
    b"\1\0\0\0\7\1\2\0\0\1\0\3\0\0\0\50",
)


def record(number: int) -> tuple[Accepted, bytes]:
    """Return one record, head and octets. Its message holds what looks like the begin of another."""
    address = Address(f"user{number}", "corp.example")
    accepted = Accepted(
        id=f"{number:026d}",
        group=0,
        mail_from=Address("a", "x.example"),
        recipients=(Recipient(address, Direction.INBOUND),),
        direction=Direction.INBOUND,
        accepted_at=NOW,
        expires_at=NOW,
        size=10,
    )
    # Not at the end: a header ends with its own CRC, so that one in the place of another leaves the sum as it was.
    body = b"GPR1markmark" + write_header(MARKER, 4, 4, 0) + bytes([number + 1]) * (40 * number + 9)
    head = encode_head(accepted)
    return accepted, write_header(MARKER, len(head), len(body), check_of((head, body))) + head + body


RECORDS = [record(number) for number in range(6)]
WHOLE = b"".join(octets for _, octets in RECORDS)


def change(data: Input, raw: bytes) -> bytes:
    """Return the segment after a few changes: octets turned, stretches cut out, zeroed, put in, doubled."""
    changed = bytearray(raw)
    for _ in range(1 + data.byte() % 4):
        kind, at = data.byte() % 6, data.below(len(changed) + 1)
        length = data.byte()
        if kind == 0:
            del changed[at:]
        elif kind == 1 and at < len(changed):
            changed[at] ^= data.byte() or 1
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at : at + length] = bytes(len(changed[at : at + length]))
        elif kind == 4:
            changed[at:at] = data.rest()[:length]
        else:
            changed[at:at] = changed[at : at + 4 * length]
    return bytes(changed)


def look(data: bytes) -> None:
    raw = change(Input(data), WHOLE)
    with tempfile.TemporaryFile() as file:
        file.write(raw)
        file.flush()
        found = list(scan(file.fileno(), "owner/1.seg", MARKER))
        size = os.fstat(file.fileno()).st_size
    known = {msgspec.msgpack.encode(accepted): octets for accepted, octets in RECORDS}
    covered = 0
    for one in found:
        if isinstance(one, Damage):
            assert one.offset == covered
            covered += one.length
            continue
        location, accepted = one
        assert isinstance(location, Location)
        assert location.offset == covered
        covered += location.length
        assert raw[location.offset : covered] == known[msgspec.msgpack.encode(accepted)]
    # Every octet is accounted for, and every record that is still whole was found.
    assert covered == size
    ids = [one[1].id for one in found if not isinstance(one, Damage)]
    for accepted, octets in RECORDS:
        if octets in raw:
            assert accepted.id in ids


if __name__ == "__main__":
    fuzzing.main(look, SEEDS)
