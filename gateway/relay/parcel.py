"""What one mail transaction with a next hop carries, its commands on the wire, and what came of it: values only."""

import re

from msgspec import Struct

from gateway.mail.address import Address
from gateway.mail.envelope import Body, Recipient, Ret
from gateway.mail.xtext import encode_utf8_address, encode_xtext
from gateway.relay.reply_stream import HostReply
from gateway.spool import Pieces

_UNSENDABLE = re.compile(r"[\x00-\x20<>\x7f-\x9f\u2028\u2029]")
SCAN_BYTES = 1 << 20  # a long piece is copied by so much at a time to be looked at


class Parcel(Struct, frozen=True):
    """One message for some recipients at one host. `size` is in octets before dot-stuffing (RFC 1870)."""

    mail_from: Address
    recipients: tuple[Recipient, ...]
    pieces: Pieces
    size: int
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    ret: Ret | None = None
    envid: str = ""
    is_ascii: bool = False  # known to be; otherwise its octets are looked at
    has_dots: bool = True  # a line may begin with a dot

    @property
    def has_eight_bits(self) -> bool:
        """Whether any octet is over 127, whatever the sender declared."""
        return not self.is_ascii and not all(_is_ascii(piece) for piece in self.pieces)

    @property
    def has_ascii_header(self) -> bool:
        """Whether all octets of the header are under 128; a header is looked at for one MiB."""
        header = b""
        for piece in self.pieces:
            header += bytes(piece[:SCAN_BYTES])
            if (end := header.find(b"\r\n\r\n")) >= 0:
                return header[:end].isascii()
            if len(header) > SCAN_BYTES:
                break
        return header.isascii()


class Outcome(Struct, frozen=True):
    """What came of a parcel: a reply for each recipient, by position. One under 300: the host took the message.

    `elsewhere` are positions for whom the host was the obstacle, not the recipient or the message, and which it has not
    taken: another host may be tried at once. `is_stale`: a kept connection had gone before this parcel, of which
    nothing has been sent. `passes_dsn`: the host looks after notifications itself (RFC 3461). `tls` is version and
    cipher, "" in clear.
    """

    replies: tuple[HostReply, ...]
    elsewhere: tuple[int, ...] = ()
    is_stale: bool = False
    passes_dsn: bool = False
    tls: str = ""


def _is_ascii(piece: bytes | memoryview) -> bool:
    if isinstance(piece, bytes):
        return piece.isascii()
    return all(bytes(piece[start : start + SCAN_BYTES]).isascii() for start in range(0, len(piece), SCAN_BYTES))


def mail_command(parcel: Parcel, extensions: dict[str, str], *, eight_bits: bool) -> bytes:
    """Return the MAIL command with the parameters that the host offers. `eight_bits`: declare an 8-bit body."""
    line = f"MAIL FROM:<{parcel.mail_from}>"
    if "SIZE" in extensions:
        line += f" SIZE={parcel.size}"
    if eight_bits:
        line += " BODY=8BITMIME"
    if parcel.smtputf8 and "SMTPUTF8" in extensions:
        line += " SMTPUTF8"
    if "DSN" in extensions:
        if parcel.ret is not None:
            line += f" RET={parcel.ret}"
        if parcel.envid:
            line += f" ENVID={encode_xtext(parcel.envid)}"
    return (line + "\r\n").encode()


def rcpt_command(recipient: Recipient, extensions: dict[str, str]) -> bytes:
    """Return the RCPT command with the parameters that the host offers."""
    line = f"RCPT TO:<{recipient.address}>"
    if "DSN" in extensions:
        if recipient.notify:
            line += " NOTIFY=" + ",".join(recipient.notify)
        if recipient.orcpt:
            line += " ORCPT=" + _orcpt(recipient.orcpt)
    return (line + "\r\n").encode()


def _orcpt(orcpt: str) -> str:
    kind, _, address = orcpt.partition(";")
    # RFC 6533 section 3: in ASCII, which every host takes.
    return f"{kind};{encode_utf8_address(address) if kind.lower() == 'utf-8' else encode_xtext(address)}"


def is_sendable(address: Address) -> bool:
    """Return whether an address can be part of a command: no control characters, nothing that ends the path.

    What came in by SMTP always can; an alias from a file or a damaged record may not.
    """
    return _UNSENDABLE.search(f"{address.local}@{address.domain}") is None or (
        address.local.startswith('"') and str(address).isprintable()
    )
