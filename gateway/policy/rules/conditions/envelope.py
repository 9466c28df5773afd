"""Fields of the transaction: what MAIL FROM and RCPT TO said. Never the header fields."""

from gateway.mail.envelope import Direction
from gateway.policy.rules.fields import Registry, Type, Values
from gateway.policy.rules.view import View

GROUP = Registry("envelope")


@GROUP.field("mail_from", Type.TEXT)
def mail_from(view: View, name: str) -> Values:
    """The reverse-path, as an address; none for a bounce."""
    path = view.case.envelope.mail_from
    return () if path.is_null else (path.key,)


@GROUP.field("mail_from.domain", Type.DOMAIN)
def mail_from_domain(view: View, name: str) -> Values:
    """The domain of the reverse-path; none for a bounce."""
    path = view.case.envelope.mail_from
    return () if path.is_null else (path.ascii_domain,)


@GROUP.field("is_bounce", Type.FLAG)
def is_bounce(view: View, name: str) -> Values:
    """Whether the reverse-path is empty, as it is with notifications."""
    return (view.case.envelope.mail_from.is_null,)


@GROUP.field("rcpt", Type.TEXT, is_recipient=True)
def rcpt(view: View, name: str) -> Values:
    """The recipients' addresses. Unless said otherwise each recipient is judged by itself."""
    return [one.address.key for one in view.case.envelope.recipients]


@GROUP.field("rcpt.domain", Type.DOMAIN, is_recipient=True)
def rcpt_domain(view: View, name: str) -> Values:
    """The recipients' domains. Unless said otherwise each recipient is judged by itself."""
    return [one.address.ascii_domain for one in view.case.envelope.recipients]


@GROUP.field("rcpt.direction", Type.CODE, choices=Direction, is_recipient=True)
def rcpt_direction(view: View, name: str) -> Values:
    """The recipients' directions. Unless said otherwise each recipient is judged by itself."""
    return [one.direction for one in view.case.envelope.recipients]


@GROUP.field("rcpt.count", Type.NUMBER)
def rcpt_count(view: View, name: str) -> Values:
    """How many recipients the transaction has."""
    return (len(view.case.envelope.recipients),)


@GROUP.field("size", Type.NUMBER)
def size(view: View, name: str) -> Values:
    """The whole message in octets."""
    return (view.case.facts.size,)


@GROUP.field("declared_size", Type.NUMBER)
def declared_size(view: View, name: str) -> Values:
    """What the peer said with SIZE= (RFC 1870), in octets; none where it did not."""
    declared = view.case.envelope.declared_size
    return () if declared is None else (declared,)
