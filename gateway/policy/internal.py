"""What of our own network must not be read outside: internal addresses and host names, found in text.

Addresses for private use and names that exist in local networks only always count. Our own domains and our public name
do not: they stand in every address that we write from.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from gateway.mail.address import IPNetwork

PRIVATE_NETWORKS = (
    "10.0.0.0/8",  # RFC 1918, as the next two
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",  # RFC 6598
    "127.0.0.0/8",  # RFC 1122 section 3.2.1.3
    "169.254.0.0/16",  # RFC 3927
    "::1/128",  # RFC 4291 section 2.5.3
    "fc00::/7",  # RFC 4193
    "fe80::/10",  # RFC 4291 section 2.5.6
)
# RFC 6762 section 3 and appendix G, RFC 8375, and .internal, which ICANN reserved in 2024. Not .corp, .home, .private:
# they end names of companies and files as well.
PRIVATE_NAMES = ("local", "localdomain", "lan", "intranet", "internal", "home.arpa")

_NAME_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789._-"
_MAX_NAME = 255
_IPV4 = re.compile(r"(?<![\d.])\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?!\.?\d)")
_IPV6 = re.compile(r"(?<![0-9a-z:.])[0-9a-f:.]{3,}+(?![0-9a-z])")
_MAX_IPV6 = 45  # characters of the longest text form


class Internal:
    """Networks and names of one policy, ready to be looked for."""

    __slots__ = ("_endings", "_names", "_networks", "_public")

    def __init__(self, networks: Iterable[str], names: Iterable[str], public: Iterable[str]) -> None:
        """`names` are host names or ends of them; `public` are whole names that are public whatever else is said."""
        named = sorted(set(names), key=lambda name: (-len(name), name))
        self._networks = tuple(_numbers(ip_network(one)) for one in (*PRIVATE_NETWORKS, *networks))
        self._public = frozenset(public)
        self._endings = (*named, *("." + name for name in PRIVATE_NAMES))
        self._names = re.compile(
            rf"(?:{_name_pattern(named)}(?<=[a-z0-9_-])\.(?:{'|'.join(map(re.escape, PRIVATE_NAMES))}))"
            r"(?![a-z0-9_-])(?!\.[a-z0-9_-])"
        )

    def shown_in(self, text: str) -> str:
        """Return an internal address or host name that `text` shows, "" if there is none. Takes linear time."""
        lower = text.lower()
        return self._address_in(lower) or self._name_in(lower)

    def is_internal_address(self, ip: str) -> bool:
        """Tell whether `ip` is one of ours or for private use; text that is no address is not."""
        bits, number = _read(ip)
        return any(size == bits and number & mask == network for size, mask, network in self._networks)

    def _address_in(self, lower: str) -> str:
        if lower.count(".") >= 3:
            for found in _IPV4.findall(lower):
                if self.is_internal_address(found):
                    return str(found)
        if lower.count(":") >= 2:
            for found in _IPV6.findall(lower.replace("ipv6:", " ")):
                # Not a time of day: an address has eight groups or a gap (RFC 4291 section 2.2).
                is_likely = "::" in found or 6 <= found.count(":") <= 7
                if is_likely and len(found) <= _MAX_IPV6 and self.is_internal_address(found.rstrip(".")):
                    return str(found)
        return ""

    def _name_in(self, lower: str) -> str:
        for ending in self._endings:
            if ending in lower:
                break
        else:
            return ""
        for found in self._names.finditer(lower):
            before = lower[max(0, found.start() - _MAX_NAME) : found.start()]
            name = before[len(before.rstrip(_NAME_LETTERS)) :].lstrip(".-") + found[0]
            if name not in self._public:
                return name.lstrip(".-")
        return ""


def _name_pattern(names: list[str]) -> str:
    """Match a name as a whole or as the end of a longer one."""
    return rf"(?<![a-z0-9_-])(?:{'|'.join(map(re.escape, names))})|" if names else ""


def _numbers(network: IPNetwork) -> tuple[int, int, int]:
    return network.max_prefixlen, int(network.netmask), int(network.network_address)


@lru_cache(maxsize=4096)
def _read(ip: str) -> tuple[int, int]:
    """Return the bits and the value of an address; (0, 0) for what is none."""
    try:
        address = ip_address(ip)
    except ValueError:
        return 0, 0
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.max_prefixlen, int(address)
