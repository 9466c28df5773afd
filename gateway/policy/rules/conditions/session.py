"""Fields of the connection: who talks to us, and how."""

from ipaddress import ip_address

from gateway.mail.envelope import ListenerKind
from gateway.policy.rules.fields import Registry, Type, Values
from gateway.policy.rules.view import View
from gateway.verdict import DnsQuestion, Unknown

GROUP = Registry("session")
LISTED = "127."  # RFC 5782 section 2.1: listings are in 127.0.0.0/8; anything else is a parked or broken zone


@GROUP.field("client.ip", Type.NETWORK)
def client_ip(view: View, name: str) -> Values:
    """The peer's address, after trusted proxies and upstream hops."""
    return (view.case.session.peer_ip,)


@GROUP.field("client.name", Type.DOMAIN)
def client_name(view: View, name: str) -> Values:
    """The peer's host name as a trusted proxy told it; none where nobody did."""
    return _known(view.case.session.peer_name)


@GROUP.field("helo", Type.DOMAIN)
def helo(view: View, name: str) -> Values:
    """The name that the peer gave in HELO or EHLO."""
    return _known(view.case.session.helo)


@GROUP.field("listener", Type.CODE, choices=ListenerKind)
def listener(view: View, name: str) -> Values:
    """The kind of listener that took the message."""
    return (view.case.session.listener,)


@GROUP.field("tls", Type.FLAG)
def tls(view: View, name: str) -> Values:
    """Whether the peer used TLS."""
    return (view.case.session.tls is not None,)


@GROUP.field("tls.version", Type.TEXT)
def tls_version(view: View, name: str) -> Values:
    """The version of TLS, such as TLSv1.3; none without TLS."""
    protection = view.case.session.tls
    return _known(protection.version if protection else "")


@GROUP.field("tls.client_name", Type.TEXT)
def tls_client_name(view: View, name: str) -> Values:
    """The name in the peer's verified certificate; none without one."""
    protection = view.case.session.tls
    return _known(protection.client_name if protection else "")


@GROUP.field("user", Type.TEXT)
def user(view: View, name: str) -> Values:
    """The name under which the peer logged in; none without."""
    return _known(view.case.session.user)


@GROUP.field("source.known", Type.FLAG)
def source_known(view: View, name: str) -> Values:
    """Whether the peer is one of the approved relay sources."""
    return (bool(view.case.session.source),)


@GROUP.field("source.owner", Type.TEXT)
def source_owner(view: View, name: str) -> Values:
    """The owner of the relay source that the peer is; none for others."""
    source = view.case.session.source
    entry = view.ours.ledger.source(source) if source else None
    return _known(entry.owner if entry else "")


def _listing(view: View, zone: str) -> DnsQuestion | None:
    """Return the question whether a zone lists the peer (RFC 5782 sections 2.1 and 2.4)."""
    try:
        address = ip_address(view.case.session.peer_ip)
    except ValueError:
        return None
    return DnsQuestion(f"{address.reverse_pointer.rsplit('.', 2)[0]}.{zone.strip('.').lower()}", "A")


def _asks_listing(view: View, zone: str) -> tuple[DnsQuestion, ...]:
    question = _listing(view, zone)
    return (question,) if question else ()


@GROUP.field("client.listed", Type.FLAG, takes_name=True, asks=_asks_listing)
def client_listed(view: View, zone: str) -> Values:
    """Whether the DNS list that is named lists the peer's address (RFC 5782); unknown while DNS does not answer."""
    question = _listing(view, zone)
    if question is None:
        return Unknown("the peer has no address")
    answer = view.answer(question)
    return answer if isinstance(answer, Unknown) else (any(one.startswith(LISTED) for one in answer),)


def _known(text: str) -> tuple[str, ...]:
    return (text,) if text else ()
