"""Fields of the header: any by its name, and those that are asked about most."""

from gateway.inspection.scan import DEFECTS
from gateway.mail.address import parse_author_list
from gateway.policy.rules.fields import Registry, Type, Values
from gateway.policy.rules.view import View
from gateway.verdict import SentMessageQuestion, Unknown

GROUP = Registry("header")


@GROUP.field("header", Type.TEXT, takes_name=True, is_encoded=True)
def header(view: View, name: str) -> Values:
    """The values of all header fields of the name, in their order."""
    return view.case.facts.values(name.lower())


@GROUP.field("from.address", Type.TEXT)
def from_address(view: View, name: str) -> Values:
    """The authors' addresses, in every reading that mail readers have."""
    return [author.key for author in view.case.facts.authors]


@GROUP.field("from.domain", Type.DOMAIN)
def from_domain(view: View, name: str) -> Values:
    """The authors' domains, in every reading that mail readers have."""
    return [author.ascii_domain for author in view.case.facts.authors]


@GROUP.field("from.count", Type.NUMBER)
def from_count(view: View, name: str) -> Values:
    """How many From fields there are."""
    return (view.case.facts.from_count,)


@GROUP.field("author", Type.TEXT)
def author(view: View, name: str) -> Values:
    """The one address that every reader shows as author; none where it is not clear. For passes."""
    shown = view.case.facts.author
    return () if shown is None else (shown.key,)


@GROUP.field("author.domain", Type.DOMAIN)
def author_domain(view: View, name: str) -> Values:
    """The domain of the one author that every reader shows; none where it is not clear. For passes."""
    shown = view.case.facts.author
    return () if shown is None else (shown.ascii_domain,)


@GROUP.field("reply_to.address", Type.TEXT)
def reply_to_address(view: View, name: str) -> Values:
    """The addresses that answers go to, if the message says so."""
    return _mailboxes(view, "reply-to")


@GROUP.field("sender.address", Type.TEXT)
def sender_address(view: View, name: str) -> Values:
    """The address in the Sender field."""
    return _mailboxes(view, "sender")


@GROUP.field("to.address", Type.TEXT)
def to_address(view: View, name: str) -> Values:
    """The addresses in To; others than the recipients' may stand there."""
    return _mailboxes(view, "to")


@GROUP.field("cc.address", Type.TEXT)
def cc_address(view: View, name: str) -> Values:
    """The addresses in Cc."""
    return _mailboxes(view, "cc")


@GROUP.field("subject", Type.TEXT)
def subject(view: View, name: str) -> Values:
    """The Subject, decoded."""
    facts = view.case.facts
    return (facts.subject,) if facts.subject else ()


@GROUP.field("message_id", Type.TEXT)
def message_id(view: View, name: str) -> Values:
    """The Message-ID in its angle brackets."""
    found = view.case.facts.message_id
    return (found,) if found else ()


@GROUP.field("list_id", Type.TEXT, is_encoded=True)
def list_id(view: View, name: str) -> Values:
    """The List-Id field (RFC 2919); none in mail that is from no list."""
    return view.case.facts.values("list-id")


@GROUP.field("received.count", Type.NUMBER)
def received_count(view: View, name: str) -> Values:
    """How many Received fields the message came with."""
    return (view.case.facts.hops,)


@GROUP.field("defects", Type.CODE, choices=DEFECTS)
def defects(view: View, name: str) -> Values:
    """What is wrong with the message's form."""
    return view.case.facts.defects


def _asks_whether_sent(view: View, name: str) -> tuple[SentMessageQuestion, ...]:
    ids = view.case.facts.reply_ids
    return (SentMessageQuestion(ids),) if ids else ()


@GROUP.field("reply_to_ours", Type.FLAG, asks=_asks_whether_sent)
def reply_to_ours(view: View, name: str) -> Values:
    """Whether it answers a message that we sent, by In-Reply-To and References. Whoever saw one can name it."""
    ids = view.case.facts.reply_ids
    if not ids:
        return (False,)
    answer = view.answer(SentMessageQuestion(ids))
    return answer if isinstance(answer, Unknown) else (bool(answer),)


def _mailboxes(view: View, key: str) -> list[str]:
    found = [one.key for value in view.case.facts.values(key) for one in parse_author_list(value).addresses]
    return list(dict.fromkeys(found))
