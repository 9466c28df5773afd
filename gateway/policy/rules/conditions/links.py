"""Fields of the links in a message: where they lead, and what the reader is shown instead.

Targets are read as browsers do it, as far as that matters here (WHATWG URL): a backslash is a slash, blanks and
controls within are dropped, the host is what follows the last `@`, and it may be percent-encoded.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address
from urllib.parse import unquote

from gateway.inspection.facts import Link
from gateway.mail.address import domain_of_text
from gateway.policy.rules.fields import Registry, Type, Values
from gateway.policy.rules.view import View, plain

GROUP = Registry("links")
MAX_TARGET = 4096  # characters

_DROPPED = {**dict.fromkeys(range(33)), 92: "/"}
_HOST = re.compile(r"(?:https?|ftp):/*+([^/?#]*+)")
# What looks like a host in a text: labels with a dot, at its beginning or after a scheme.
_SHOWN = re.compile(r"\s*+(?:https?:/*+)?([a-z0-9-]++(?>(?:\.[a-z0-9-]++)+))(?=[/:?#\s]|$)")
_NUMBER = re.compile(r"0x[0-9a-f]++|[0-9]++")


@GROUP.field("link.target", Type.TEXT)
def target(view: View, name: str) -> Values:
    """Where the links lead, whole."""
    return [link.target for link in view.case.facts.links]


@GROUP.field("link.text", Type.TEXT)
def text(view: View, name: str) -> Values:
    """What the reader is shown for the links."""
    return [link.text for link in view.case.facts.links if link.text]


@GROUP.field("link.host", Type.DOMAIN)
def host(view: View, name: str) -> Values:
    """The hosts that the links lead to, names in A-labels and addresses in their usual form."""
    return list(dict.fromkeys(_hosts(view)))


@GROUP.field("link.count", Type.NUMBER)
def count(view: View, name: str) -> Values:
    """How many links there are."""
    return (len(view.case.facts.links),)


@GROUP.field("link.ip_literal", Type.FLAG)
def ip_literal(view: View, name: str) -> Values:
    """Whether a link leads to an address instead of a name, in any notation."""
    return (any(_is_address(one) for one in _hosts(view)),)


@GROUP.field("link.mismatch", Type.FLAG)
def mismatch(view: View, name: str) -> Values:
    """Whether a link shows the name of one host and leads to another; www. before either does not count."""
    return (any(_deceives(link) for link in view.case.facts.links),)


def _hosts(view: View) -> Iterator[str]:
    for link in view.case.facts.links:
        if found := host_of(link.target):
            yield found


def host_of(url: str) -> str:
    """Return the host of a web address in the form in which it is compared; "" for other targets."""
    clean = url[:MAX_TARGET].lower().translate(_DROPPED)
    found = _HOST.match(clean)
    if found is None:
        return ""
    authority = found[1].rpartition("@")[2]
    name = authority[1:].partition("]")[0] if authority.startswith("[") else authority.partition(":")[0]
    name = plain(unquote(name)).lower().rstrip(".")
    if address := _address(name):
        return address
    try:
        return domain_of_text(name)
    except ValueError:
        return name


def _address(name: str) -> str:
    """Return an address in its usual form, "" for what is none; numbers may be octal, hexadecimal or fewer than four.

    WHATWG URL, "IPv4 parser": the last number fills what is left.
    """
    try:
        return str(ip_address(name))
    except ValueError:
        pass
    numbers = name.split(".")
    if len(numbers) > 4 or not all(len(one) < 20 and _NUMBER.fullmatch(one) for one in numbers):
        return ""
    try:
        values = [int(one, 16 if one[:2] == "0x" else 8 if one[0] == "0" else 10) for one in numbers]
    except ValueError:
        return ""
    whole = values.pop()
    if whole >= 256 ** (4 - len(values)) or any(one > 255 for one in values):
        return ""
    for place, one in enumerate(values):
        whole += one << 8 * (3 - place)
    return str(IPv4Address(whole))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _deceives(link: Link) -> bool:
    shown = _SHOWN.match(plain(link.text[:MAX_TARGET]).lower())
    leads = host_of(link.target)
    if shown is None or not leads or not shown[1].rpartition(".")[2].isalpha():
        return False
    return shown[1].removeprefix("www.") != leads.removeprefix("www.")
