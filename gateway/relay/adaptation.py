"""Fit a parcel to what a host offers: size, 8-bit bodies, addresses and fields in UTF-8 (RFC 1870, 6152, 6531).

What cannot be fitted is settled here, with the reason, and is never sent in the hope that it may pass.
"""

import asyncio

import msgspec

from gateway.relay.attempt import Attempt
from gateway.relay.parcel import Parcel, is_sendable
from gateway.relay.reply_stream import local_reply
from gateway.transforms.seven_bit import CannotConvert, seven_bit

THREAD_BYTES = 512 * 1024  # a conversion of more is done in a thread

BAD_SENDER = local_reply("5.1.7", "the sender's address cannot be sent")
BAD_RECIPIENT = local_reply("5.1.3", "the recipient's address cannot be sent")
# RFC 6531 section 3.5: X.6.7 non-ASCII addresses not permitted.
NO_UTF8_SENDER = local_reply("5.6.7", "the sender's address is not ASCII and the host does not take SMTPUTF8")
NO_UTF8_RECIPIENT = local_reply("5.6.7", "the recipient's address is not ASCII and the host does not take SMTPUTF8")
NO_UTF8_HEADER = local_reply("5.6.7", "the header is not ASCII and the host does not take SMTPUTF8")


async def adapt(parcel: Parcel, offered: dict[str, str], attempt: Attempt) -> Parcel:
    """Return the parcel as it can be sent; recipients for whom it cannot are settled in `attempt`."""
    for position, recipient in enumerate(parcel.recipients):
        if not is_sendable(recipient.address):
            attempt.settle(position, BAD_RECIPIENT)
    if not is_sendable(parcel.mail_from):
        attempt.settle_open(BAD_SENDER)
    if "SMTPUTF8" not in offered:
        _refuse_utf8(parcel, attempt)
    if "8BITMIME" not in offered and attempt.open and parcel.has_eight_bits:
        parcel = await _to_seven_bits(parcel, attempt)
    limit = offered.get("SIZE", "")
    if limit.isdecimal() and 0 < int(limit[:20]) < parcel.size:
        # RFC 1870 section 6.2: no need to ask.
        attempt.settle_open(local_reply("5.3.4", f"message of {parcel.size} octets, the host takes {limit[:20]}"))
    return parcel


def _refuse_utf8(parcel: Parcel, attempt: Attempt) -> None:
    if not parcel.mail_from.is_ascii:
        attempt.settle_open(NO_UTF8_SENDER)
    for position, recipient in enumerate(parcel.recipients):
        if not recipient.address.is_ascii:
            attempt.settle(position, NO_UTF8_RECIPIENT)
    # Without the sender's SMTPUTF8 the header is what older mail is like, and goes as it came.
    if parcel.smtputf8 and attempt.open and not parcel.has_ascii_header:
        attempt.settle_open(NO_UTF8_HEADER)


async def _to_seven_bits(parcel: Parcel, attempt: Attempt) -> Parcel:
    raw = b"".join(parcel.pieces)
    try:
        if len(raw) > THREAD_BYTES:
            raw = await asyncio.to_thread(seven_bit, raw)
        else:
            raw = seven_bit(raw)
    except CannotConvert as error:
        # RFC 6152 section 3; RFC 3463: X.6.3 conversion required but not supported.
        attempt.settle_open(local_reply("5.6.3", f"the host takes 7-bit messages only: {error}"))
        return parcel
    return msgspec.structs.replace(parcel, pieces=(raw,), size=len(raw))
