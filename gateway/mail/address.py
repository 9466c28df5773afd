"""Addresses: strict for the envelope (RFC 5321 section 4.1.2, RFC 6531), tolerant but suspicious for From and Sender.

Domains and IP addresses of policy are normalised here as well. Nothing is looked up and nothing is decided: `%` in a
local part or a foreign address literal is valid syntax, and whether it may be used is the gate's affair.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from msgspec import Struct

from gateway.mail.authors import MAX_VALUE, PLAIN, read_authors
from gateway.mail.domain import MAX_DOMAIN, MAX_LABEL, ascii_domain, domain_of_text, is_strict, parent_domains
from gateway.mail.errors import Malformed

__all__ = [
    "MAX_LOCAL",
    "MAX_PATH",
    "NULL_PATH",
    "Address",
    "AuthorList",
    "IPAddress",
    "IPNetwork",
    "domain_of_text",
    "ip_in",
    "network_key",
    "parent_domains",
    "parse_author_list",
    "parse_ip",
    "parse_mailbox",
    "parse_network",
    "parse_path",
]

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

# octets. RFC 5321 section 4.5.3.1.1 says that 64 must be accepted; real bounce addresses of list servers are longer.
MAX_LOCAL = 128
MAX_PATH = 256  # octets with < and >, RFC 5321 section 4.5.3.1.3

_ATEXT = r"-A-Za-z0-9!#$%&'*+/=?^_`{|}~"
_LABEL = r"[A-Za-z0-9]++(?>(?:-++[A-Za-z0-9]++)*)"
_PLAIN = re.compile(rf"([{_ATEXT}]++(?>(?:\.[{_ATEXT}]++)*))@({_LABEL}(?>(?:\.{_LABEL})*))")
_DOT_ATOM = re.compile(rf"[{_ATEXT}\x80-\U0010ffff]++(?>(?:\.[{_ATEXT}\x80-\U0010ffff]++)*)")
# RFC 5321 section 4.1.2: qtextSMTP and quoted-pairSMTP are printable ASCII; RFC 6531 section 3.3 adds what is not
# ASCII.
_QUOTED = re.compile(r'"((?>(?:[ !#-\[\]-~\x80-\U0010ffff]++|\\[ -~])*))"')
_ROUTE = re.compile(r"@([^:@,]++)((?>(?:,@[^:@,]++)*)):")
_ESCAPED = re.compile(r"\\(.)")
_TO_ESCAPE = re.compile(r'(["\\])')
_JOINERS = "\u200c\u200d"


class Address(Struct, frozen=True, order=True, gc=False):
    """A mailbox as the envelope has it.

    `local` keeps its case, and quotes only where they are needed. `domain` is in lower case: a name with A-labels or
    U-labels as given, or a literal (`[192.0.2.1]`, `[IPv6:2001:db8::1]`). Compare by `key`, look domains up by
    `ascii_domain`.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}" if self.domain or self.local else ""

    @property
    def key(self) -> str:
        """The address as it is compared: lower case, domain in A-labels. "" for the null path."""
        if not self.local:
            return f"@{self.ascii_domain}" if self.domain else ""
        local = self.local if self.local.isascii() else unicodedata.normalize("NFC", self.local)
        return f"{local.lower()}@{self.ascii_domain}"

    @property
    def ascii_domain(self) -> str:
        """The domain in lower case and A-labels; as it is where it cannot be written so."""
        if self.domain.isascii():
            return self.domain.lower()
        try:
            return ascii_domain(self.domain)
        except Malformed:
            return self.domain.lower()

    @property
    def is_null(self) -> bool:
        return not self.local and not self.domain

    @property
    def is_literal(self) -> bool:
        return self.domain.startswith("[")

    @property
    def is_ascii(self) -> bool:
        """Whether it goes without SMTPUTF8 as it stands."""
        return self.local.isascii() and self.domain.isascii()


NULL_PATH = Address("", "")


class AuthorList(Struct, frozen=True):
    """The mailboxes that a From or Sender value names. `ambiguous`: readers disagree, or it is not well formed."""

    addresses: tuple[Address, ...]
    ambiguous: bool


def parse_path(text: bytes, *, smtputf8: bool = False) -> Address:
    """Read what stands between `<` and `>` of MAIL FROM or RCPT TO; empty is the null path.

    A source route is checked and dropped (RFC 5321 appendix C). `Postmaster` without a domain is the caller's affair.
    Raises Malformed; an address outside of ASCII is malformed unless `smtputf8`, so ask `text.isascii()` for the
    reply to give.
    """
    if len(text) > MAX_PATH - 2:
        raise Malformed("a path has at most 256 octets")
    try:
        path = text.decode()
    except UnicodeDecodeError:
        raise Malformed("the address is not UTF-8") from None
    # The hot path: one match, two groups. Label lengths matter only in long names, digits only at the end of the name.
    if (plain := _PLAIN.fullmatch(path)) is not None:
        local, domain = plain.groups()
        if len(local) <= MAX_LOCAL and len(domain) <= MAX_LABEL and not domain[-1].isdigit():
            return Address(local, domain.lower())
    if not path:
        return NULL_PATH
    if not smtputf8 and not path.isascii():
        raise Malformed("the address is not ASCII")
    return _parse_full(_without_route(path))


def parse_mailbox(text: str) -> Address:
    """Read an address that a person or a setting gives: `local@domain` and nothing else. Raises Malformed."""
    mailbox = text.strip()
    if not mailbox or mailbox[0] == "@":
        raise Malformed("not an address")
    return parse_path(mailbox.encode("utf-8", "replace"), smtputf8=True)


def parse_author_list(value: str) -> AuthorList:
    """Read an unfolded, undecoded From or Sender value in every plausible reading.

    Addresses within quoted display names and comments are not mailboxes. Where readers may differ (an `@` left over,
    an unquoted address as display name, strings that are never closed, encoded words in the address), all readings
    are listed and `ambiguous` is true. Domains here may hold underscores. Takes linear time; at most 100 addresses
    are listed.
    """
    # The hot path. A local part that matches is a dot-atom, which takes no quotes.
    if len(value) <= MAX_VALUE and (plain := PLAIN.fullmatch(value)) is not None:
        local, domain = plain.group(2, 3)
        return AuthorList((Address(local, domain.lower()),), False)
    mailboxes, ambiguous = read_authors(value)
    return AuthorList(tuple([Address(_quoted_if_needed(local), domain) for local, domain in mailboxes]), ambiguous)


def _without_route(path: str) -> str:
    """Drop `@a.example,@b.example:` from the front (RFC 5321 section 4.1.2: A-d-l, accepted and ignored)."""
    if path[0] != "@":
        return path
    route = _ROUTE.match(path)
    if route is None:
        raise Malformed("the source route is not valid")
    for hop in (route[1] + route[2]).split(",@"):
        _domain(hop)
    return path[route.end() :]


def _parse_full(path: str) -> Address:
    at = path.rfind("@")
    if at < 1:
        raise Malformed("the address has no local part or no domain")
    local, domain = _local(path[:at]), _domain(path[at + 1 :])
    if len(local.encode()) > MAX_LOCAL:
        raise Malformed("a local part has at most 64 octets")
    return Address(local, domain)


def _local(text: str) -> str:
    if not text.isascii() and not all(map(_may_stand, text)):
        raise Malformed("the local part holds a control or a blank")
    if _DOT_ATOM.fullmatch(text):
        return text
    quoted = _QUOTED.fullmatch(text)
    if quoted is None:
        raise Malformed("the local part is not valid")
    return _quoted_if_needed(_ESCAPED.sub(r"\1", quoted[1]))


def _may_stand(letter: str) -> bool:
    """Tell whether a character may be in a local part: no controls, blanks and direction marks outside of ASCII."""
    return letter.isascii() or letter in _JOINERS or unicodedata.category(letter)[0] in "LMNPS"


def _quoted_if_needed(local: str) -> str:
    if _DOT_ATOM.fullmatch(local):
        return local
    return '"' + _TO_ESCAPE.sub(r"\\\1", local) + '"'


def _domain(text: str) -> str:
    if text.startswith("["):
        return _literal(text)
    domain = text.lower()
    if domain.isascii():
        if is_strict(domain):
            return domain
        raise Malformed("the domain is not valid")
    domain = unicodedata.normalize("NFC", domain)
    # RFC 5890 section 2.3.2.1: a U-label is in its mapped form already; what mapping changes is no U-label.
    if domain != unicodedata.normalize("NFKC", domain) or "\u3002" in domain or len(domain.encode()) > MAX_DOMAIN:
        raise Malformed("the domain is not valid")
    if not is_strict(ascii_domain(domain)):
        raise Malformed("the domain is not valid")
    return domain


def _literal(text: str) -> str:
    """Read an address literal (RFC 5321 section 4.1.3). Of the tagged ones only IPv6 was ever registered."""
    try:
        if text[1:6].lower() == "ipv6:" and text[-1] == "]" and "%" not in text:
            return f"[IPv6:{IPv6Address(text[6:-1])}]"
        if text[-1] == "]":
            return f"[{IPv4Address(text[1:-1])}]"
    except ValueError:
        pass
    raise Malformed("the address literal is not valid")


def parse_ip(text: str) -> IPAddress:
    """Read an IP address that somebody names. Raises ValueError, also for a scope id (RFC 4007 section 11).

    Python takes one, but it is an interface of the host that wrote it and means nothing here.
    """
    if "%" in text:
        raise ValueError("the address has a scope id")
    return ip_address(text)


def parse_network(text: str) -> IPNetwork:
    """Read a network as CIDR, or an address as a network of one. Raises ValueError, for host bits or a scope id too."""
    if "%" in text:
        raise ValueError("the address has a scope id")
    return ip_network(text, strict=True)


def ip_in(ip_text: str, networks: Iterable[str | IPNetwork]) -> bool:
    """Tell whether an IP address is in one of the networks (as CIDR text or value). Other text is in none."""
    try:
        ip = _unmapped(ip_text)
    except ValueError:
        return False
    for entry in networks:
        network = _network(entry) if isinstance(entry, str) else entry
        if network.version == ip.version and ip in network:
            return True
    return False


@lru_cache(maxsize=4096)
def network_key(ip: str) -> str:
    """Return what rates are counted by: an IPv4 address itself, the /64 of an IPv6 one. Raises ValueError."""
    address = _unmapped(ip)
    if isinstance(address, IPv4Address):
        return str(address)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"


@lru_cache(maxsize=4096)
def _unmapped(ip: str) -> IPAddress:
    """Read an IP address; an IPv4 peer on an IPv6 socket (::ffff:192.0.2.1) is an IPv4 peer."""
    address = ip_address(ip)
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


@lru_cache(maxsize=4096)
def _network(text: str) -> IPNetwork:
    return ip_network(text, strict=False)
