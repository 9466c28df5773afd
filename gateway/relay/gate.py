"""What is decided before DATA, where no key can open anything: relay rights, sender domains, our recipients, size.

Pure functions over one pinned policy; time is an argument. A peer relays because the ledger says so and for no other
reason: not by HELO, name, sender address, or what a path looks like.
"""

from datetime import datetime
from typing import Final

from gateway.mail import reply as replies
from gateway.mail.address import Address, ip_in
from gateway.mail.envelope import Direction, ListenerKind, Recipient
from gateway.policy.compile import Policy
from gateway.policy.ledger import RelaySource
from gateway.policy.relaying import may_use
from gateway.relay import refusals
from gateway.relay.arguments import MailParameters, RcptParameters
from gateway.relay.reasons import Reason, Refusal

BARE_POSTMASTER: Final = Address("postmaster", "")
LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
# Ways to write a route into a local part: user%host@here, host!user@here, "user@host"@here.
ROUTING_MARKS: Final = frozenset("%!@")


def source_of(kind: ListenerKind, peer_ip: str, policy: Policy, now: datetime) -> RelaySource | None:
    """Return the relay source that the peer is on a listener of this kind. On an inbound one nobody has rights."""
    return None if kind is ListenerKind.INBOUND else policy.ledger.relay_source(peer_ip, now)


def kind_for(kind: ListenerKind, source: RelaySource | None) -> ListenerKind:
    """Return what the listener is for this peer: `ANY` is outbound for relay sources, else inbound."""
    if kind is not ListenerKind.ANY:
        return kind
    return ListenerKind.INBOUND if source is None else ListenerKind.OUTBOUND


def check_mail(
    kind: ListenerKind,
    peer_ip: str,
    source: RelaySource | None,
    mail_from: Address,
    parameters: MailParameters,
    policy: Policy,
) -> Refusal | None:
    """Judge MAIL. `kind` and `source` are those of `kind_for` and `source_of`."""
    if parameters.size is not None and parameters.size > policy.document.limits.message_bytes:
        return refusals.MESSAGE_TOO_BIG
    if kind is ListenerKind.INBOUND:
        return None
    if source is None and not (kind is ListenerKind.PORTAL and ip_in(peer_ip, LOOPBACK)):
        return Refusal(replies.with_link(replies.RELAYING_DENIED, policy.document.portal_url), Reason.NOT_A_SOURCE)
    if kind is ListenerKind.OUTBOUND and source is not None and not may_send_as(source, mail_from, policy):
        return Refusal(
            replies.with_link(replies.SENDER_NOT_ALLOWED, policy.document.portal_url), Reason.SENDER_NOT_ALLOWED
        )
    return None


def may_send_as(source: RelaySource, mail_from: Address, policy: Policy) -> bool:
    """Tell whether a relay source may use this reverse-path. The null path is everybody's, for notifications.

    Whom the message names as its author is not known yet: `relaying.judge_author` looks after DATA.
    """
    return mail_from.is_null or may_use(source, mail_from.ascii_domain, policy)


def check_rcpt(kind: ListenerKind, address: Address, parameters: RcptParameters, policy: Policy) -> Recipient | Refusal:
    """Judge RCPT; return the recipient to deliver to, an alias resolved and its direction fixed.

    `BARE_POSTMASTER` stands for `RCPT TO:<postmaster>` (RFC 5321 section 4.5.1).
    """
    if address.is_literal:
        return refusals.RELAYING_DENIED  # A literal names a machine, perhaps one of ours; mail goes to domains.
    if address is not BARE_POSTMASTER and address.ascii_domain not in policy.own_domains:
        if kind is not ListenerKind.OUTBOUND:
            # Perhaps a machine of ours that nobody has approved yet: whoever answers for it is told where to ask.
            return Refusal(replies.with_link(replies.RELAYING_DENIED, policy.document.portal_url), Reason.RELAYING)
        return Recipient(address, Direction.OUTBOUND, parameters.notify, parameters.orcpt)
    if not ROUTING_MARKS.isdisjoint(address.local):
        # The next hop might read it as a route and relay for whoever we took it from.
        return refusals.RELAYING_DENIED
    target = policy.ledger.recipient(address, policy.document)
    if target is None:
        return refusals.NO_SUCH_RECIPIENT
    return Recipient(target, _DIRECTIONS[kind], parameters.notify, parameters.orcpt)


_DIRECTIONS: Final = {
    ListenerKind.INBOUND: Direction.INBOUND,
    ListenerKind.PORTAL: Direction.INBOUND,
    ListenerKind.OUTBOUND: Direction.INTERNAL,
    ListenerKind.RETURN: Direction.RETURNED,
}
