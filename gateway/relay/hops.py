"""From a route to the endpoints of one attempt, in the order in which they are tried (RFC 5321 section 5.1, RFC 7505).

A route's hops come one after the other; without hops it is the MX of the recipient's domain. What cannot be routed is a
reply: permanent when the domain takes no mail or the mail would come back to us, temporary when DNS gave no answer.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import ip_address

from msgspec import Struct

from gateway.engines.dns import DnsAnswer, DnsStatus, Resolver
from gateway.mail.address import Address
from gateway.policy.document import NextHop, Route
from gateway.relay.client import Endpoint
from gateway.relay.reply_stream import HostReply, local_reply

SMTP_PORT = 25
MAX_FIXED = 1000  # routes remembered; policies come and go
SYSTEM_SECONDS = 10.0  # the system tells no TTL
MAX_ENDPOINTS = 10  # looked at in one attempt, however many records a domain has

Endpoints = tuple[Endpoint, ...]


class Ourselves(Struct, frozen=True):
    """What mail must not be sent to, or it would go round. `listening` are our listeners' addresses and ports."""

    hostname: str = ""
    listening: frozenset[tuple[str, int]] = frozenset()
    allow_local_mx: bool = False  # MX records may lead to loopback addresses


class Hops:
    """Finds endpoints. `ourselves` is asked anew each time, since the host's name is policy."""

    def __init__(self, resolver: Resolver, ourselves: Callable[[], Ourselves] = Ourselves) -> None:
        self._resolver = resolver
        self._ourselves = ourselves
        self._fixed: dict[int, tuple[Route, Endpoints]] = {}
        self._system: dict[str, tuple[float, DnsAnswer]] = {}  # by the names of the policy's hops, which are few

    def fixed(self, route: Route) -> Endpoints | None:
        """Return the endpoints of a route that leads to literal addresses only, once they have been asked for."""
        known = self._fixed.get(id(route))
        return known[1] if known is not None and known[0] is route else None

    async def endpoints(self, route: Route, recipient: Address) -> Endpoints | HostReply:
        """Return where mail for `recipient` may be delivered, or why nowhere. Never an empty tuple."""
        fixed = self.fixed(route)
        if fixed is not None:
            return fixed
        found: list[Endpoint] = []
        problem: HostReply | None = None
        for hop in route.hops or (NextHop.model_construct(host=recipient.ascii_domain, port=SMTP_PORT, mx=True),):
            result = await self._of_hop(hop, route.tls)
            if isinstance(result, HostReply):
                # One hop that can be tried later is reason enough to wait.
                problem = result if problem is None or problem.is_permanent else problem
            else:
                found += result
        if found:
            endpoints = tuple(found[:MAX_ENDPOINTS])
            if route.hops and all(not hop.mx and _literal_address(hop.host) for hop in route.hops):
                self._keep_fixed(route, endpoints)
            return endpoints
        return problem or local_reply("4.4.4", "no next hop")

    def _keep_fixed(self, route: Route, endpoints: Endpoints) -> None:
        """Remember what depends on nothing but the route; the route is kept with it, so that its id stays its own."""
        if len(self._fixed) >= MAX_FIXED:
            self._fixed.clear()
        self._fixed[id(route)] = (route, endpoints)

    async def _of_hop(self, hop: NextHop, tls: str) -> Endpoints | HostReply:
        literal = _literal_address(hop.host)
        if literal is not None:
            endpoint = Endpoint("", literal, hop.port, tls, is_mx=hop.mx)
            return self._checked([endpoint], hop) if hop.mx else (endpoint,)
        if hop.mx:
            return await self._of_mx(hop, tls)
        if "." not in hop.host.rstrip("."):
            answer = await self._of_system(hop.host)
        else:
            answer = await self._resolver.addresses(hop.host)
        if answer.values:
            return tuple(Endpoint(hop.host, address, hop.port, tls) for address in answer.values)
        # A hop is the operator's: its missing name is a fault to be mended, not a reason to return mail.
        return local_reply("4.4.3", f"next hop {hop.host}: {answer.why or 'has no address'}")

    async def _of_system(self, host: str) -> DnsAnswer:
        """Ask the system for a name without dots: localhost, or a container of the same network."""
        now = time.monotonic()
        known = self._system.get(host)
        if known is None or known[0] <= now:
            known = (now + SYSTEM_SECONDS, await _system_addresses(host))
            self._system[host] = known
        return known[1]

    async def _of_mx(self, hop: NextHop, tls: str) -> Endpoints | HostReply:
        ours = self._ourselves()
        domain = Address("", hop.host).ascii_domain
        answer = await self._resolver.mx(domain)
        if answer.status is DnsStatus.FAILED:
            return local_reply("4.4.3", f"MX of {domain}: {answer.why}")
        if answer.status is DnsStatus.NO_NAME:
            return local_reply("5.1.2", f"{domain}: there is no such domain")
        if answer.null_mx:
            return local_reply("5.1.10", f"{domain} takes no mail (null MX)")  # RFC 7505 section 4.2
        hosts = answer.hosts
        if ours.hostname.lower() in hosts:
            # RFC 5321 section 5.1: hosts that are not preferred to ourselves are left out, or mail goes round.
            limit = answer.preferences[hosts.index(ours.hostname.lower())]
            hosts = tuple(host for host, value in zip(hosts, answer.preferences, strict=True) if value < limit)
            if not hosts:
                return local_reply("5.4.6", f"mail for {domain} loops back to us")
        return await self._of_mail_hosts(domain, hosts, hop, tls)

    async def _of_mail_hosts(self, domain: str, hosts: Sequence[str], hop: NextHop, tls: str) -> Endpoints | HostReply:
        found: list[Endpoint] = []
        why = ""
        for host in hosts[:MAX_ENDPOINTS]:
            answer = await self._resolver.addresses(host)
            found += [Endpoint(host, address, hop.port, tls, is_mx=True) for address in answer.values]
            if answer.status is DnsStatus.FAILED:
                why = f"{host}: {answer.why}"
        if found:
            return self._checked(found, hop)
        if why:
            return local_reply("4.4.3", f"address of {why}")
        return local_reply("5.1.2", f"no mail host of {domain} has an address")

    def _checked(self, endpoints: Sequence[Endpoint], hop: NextHop) -> Endpoints | HostReply:
        """Leave out addresses which somebody else's DNS must not lead us to: ourselves, and this machine's insides."""
        ours = self._ourselves()
        fit = tuple(endpoint for endpoint in endpoints if not _is_us(endpoint, ours))
        if fit:
            return fit
        return local_reply("5.4.6", f"mail for {hop.host} loops back to us")


def _is_us(endpoint: Endpoint, ours: Ourselves) -> bool:
    if (endpoint.address, endpoint.port) in ours.listening:
        return True
    address = ip_address(endpoint.address)
    mapped = getattr(address, "ipv4_mapped", None) or address
    return not ours.allow_local_mx and (mapped.is_loopback or mapped.is_unspecified or mapped.is_multicast)


@lru_cache(1024)
def _literal_address(host: str) -> str | None:
    """Return the address that a host is written as, bare or as a literal (RFC 5321 section 4.1.3); None for a name."""
    text = host.removeprefix("[").removesuffix("]")
    try:
        return str(ip_address(text[5:] if text[:5].lower() == "ipv6:" else text))
    except ValueError:
        return None


async def _system_addresses(host: str) -> DnsAnswer:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return DnsAnswer(DnsStatus.FAILED, why=str(error.strerror or error))
    return DnsAnswer(DnsStatus.FOUND, tuple(dict.fromkeys(str(entry[4][0]) for entry in found)))
