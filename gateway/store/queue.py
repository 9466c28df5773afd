"""The queue: what waits for delivery, who has it in hand, what became of it, and which bytes are still needed.

Its parts: claiming.py (leases), settling.py (results), segments.py (bytes in the spool), notices.py (who is to be
told), waiting.py (what people see of it, and their orders).
"""

from gateway.store.claiming import Claim, ClaimedRecipient, claim, release_owner, renew
from gateway.store.mail_tables import DeliveryKey
from gateway.store.notices import NoticeDue, notice_sent, notices_due
from gateway.store.segments import relocate, unsettled_segments, waiting_locations
from gateway.store.settling import settle
from gateway.store.waiting import (
    Depth,
    DestinationDepth,
    Waiting,
    delete,
    depth,
    depth_by_destination,
    hold,
    list_waiting,
    redirect,
    retry,
)

__all__ = [
    "Claim",
    "ClaimedRecipient",
    "DeliveryKey",
    "Depth",
    "DestinationDepth",
    "NoticeDue",
    "Waiting",
    "claim",
    "delete",
    "depth",
    "depth_by_destination",
    "hold",
    "list_waiting",
    "notice_sent",
    "notices_due",
    "redirect",
    "release_owner",
    "relocate",
    "renew",
    "retry",
    "settle",
    "unsettled_segments",
    "waiting_locations",
]
