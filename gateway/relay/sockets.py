"""Listening sockets, bound before any fork: one for each worker on the same port (SO_REUSEPORT).

The kernel spreads new connections over the sockets. The parent keeps all of them open, so connections that arrive
while a worker is being restarted wait in its socket's backlog instead of being refused.
"""

import socket
from collections.abc import Sequence

from msgspec import Struct

from gateway.settings import SettingsError, split_address

BACKLOG = 1024


class Bound(Struct, frozen=True):
    """One address that we listen on; `sockets` has one for each worker."""

    name: str
    address: str
    sockets: tuple[socket.socket, ...]


def bind(name: str, address: str, count: int) -> Bound:
    """Bind `count` sockets to one address; port 0 takes a free port, the same for all.

    Raise SettingsError naming the address.
    """
    host, port = split_address(address)
    sockets: list[socket.socket] = []
    try:
        if count > 1:
            # Another Gatepost of the same user would share the port with us, and each would get half of the mail.
            _bound(host, port, shared=False).close()
        for _ in range(count):
            one = _bound(host, port, shared=count > 1)
            sockets.append(one)
            port = one.getsockname()[1]
    except OSError as error:
        close(sockets)
        raise SettingsError(f"{name}: cannot listen on {address}: {error.strerror}") from None
    for one in sockets:
        one.listen(BACKLOG)
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Bound(name, shown, tuple(sockets))


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With protocol 0 asyncio does not set TCP_NODELAY on accepted connections.
    one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((host, port))
        one.setblocking(False)
    except OSError:
        one.close()
        raise
    return one


def close(sockets: Sequence[socket.socket]) -> None:
    """Close them all."""
    for one in sockets:
        one.close()
