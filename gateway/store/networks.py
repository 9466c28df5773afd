"""Networks as ledger rows keep them: CIDR, without host bits, so that equal networks are equal text."""

from collections.abc import Iterable

from gateway.mail.address import parse_network
from gateway.mail.errors import Malformed


def written_network(text: str) -> str:
    """Return a network or address as CIDR (`192.0.2.7` is `192.0.2.7/32`). Raises Malformed, for host bits too."""
    try:
        return str(parse_network(text.strip()))
    except ValueError as error:
        raise Malformed("not a network: an address, or the first address with a prefix length") from error


def written_networks(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(written_network, texts)))
