"""Networks as keys of a set, so that an address is found among many by looking up all networks that it can be in."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from gateway.mail.address import IPNetwork


def key_of(network: IPNetwork) -> str:
    shift = network.max_prefixlen - network.prefixlen
    return f"{network.version}/{shift}/{int(network.network_address) >> shift}"


@lru_cache(maxsize=1024)  # peers come again
def networks_of(ip: str) -> frozenset[str]:
    """Return the keys of all networks that an address is in, one for each length of prefix; none for other text."""
    try:
        address = ip_address(ip)
    except ValueError:
        return frozenset()
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    version, number = address.version, int(address)
    return frozenset([f"{version}/{shift}/{number >> shift}" for shift in range(address.max_prefixlen + 1)])
