"""DNS for the whole gateway: one cached, single-flight resolver over dnspython (RFC 1034, 2308, 5321, 7505).

"There is no such name", "the name has no such record" and "nobody could say" are three answers, never an empty tuple.
Resolving is left to recursive resolvers; whether an answer is authentic is believed of a trusted one only.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from ipaddress import ip_address
from typing import Protocol

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.resolver
from msgspec import Struct

DNS_PORT = 53
MAX_TTL_SECONDS = 86_400.0  # RFC 8767 section 4 caps long TTLs at a week; a day is plenty for mail.
MIN_TTL_SECONDS = 1.0  # TTL 0 still serves the questions of one message.
MAX_NEGATIVE_SECONDS = 900.0  # RFC 2308 section 5 allows three hours; a domain being set up should not wait so long.
DEFAULT_NEGATIVE_SECONDS = 60.0  # for a negative answer without SOA (RFC 2308 section 5 would not cache it)
FAILED_SECONDS = 5.0  # RFC 2308 section 7 allows five minutes.
MAX_MX_HOSTS = 50  # An attempt tries a handful; thousands of MX records are somebody's joke.


class DnsStatus(StrEnum):
    """What an answer says about the name."""

    FOUND = "found"
    NO_NAME = "no_name"  # NXDOMAIN
    NO_DATA = "no_data"  # the name exists, a record of this type does not
    FAILED = "failed"  # temporary: time-out, SERVFAIL, unreadable


class DnsAnswer(Struct, frozen=True):
    """One answer. `values` is empty unless `FOUND`; `why` says what went wrong when `FAILED`.

    A value's text by type: A, AAAA the address; MX `10 mx.example` (`0 .` for a null MX); PTR, CNAME, NS the name; TXT
    the joined strings, UTF-8 with replacement; others dnspython's text. Names are lower case without the final dot.
    """

    status: DnsStatus
    values: tuple[str, ...] = ()
    why: str = ""
    authentic: bool = False  # the AD bit, from a resolver that is trusted with it

    @property
    def is_found(self) -> bool:
        return self.status is DnsStatus.FOUND


class MxAnswer(Struct, frozen=True):
    """Where a domain's mail goes: hosts by preference, equal ones shuffled anew for each answer (RFC 5321 section 5.1).

    `null_mx`: the domain takes no mail (RFC 7505). `implicit`: there is no MX record, so the domain itself is the host.
    `best` is how many hosts share the lowest preference; `preferences` belongs to `hosts`, position by position.
    """

    status: DnsStatus
    hosts: tuple[str, ...] = ()
    preferences: tuple[int, ...] = ()
    null_mx: bool = False
    implicit: bool = False
    why: str = ""


class Resolver(Protocol):
    """What the rest of the gateway asks of DNS."""

    async def query(self, name: str, rrtype: str) -> DnsAnswer: ...

    async def mx(self, domain: str) -> MxAnswer: ...

    async def addresses(self, host: str) -> DnsAnswer: ...


class DnsResolver:
    """Asks recursive resolvers over UDP, over TCP when the answer was cut short. No question is in flight twice.

    `nameservers` are (address, port) pairs; empty: those of the system. `timeout_seconds` is for one try; every server
    is tried `tries` times. `trust_ad` believes the AD bit. `clock` counts seconds monotonically.
    """

    def __init__(
        self,
        nameservers: Sequence[tuple[str, int]] = (),
        *,
        timeout_seconds: float = 2.0,
        tries: int = 2,
        cache_entries: int = 20_000,
        trust_ad: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nameservers = tuple(nameservers) or system_nameservers()
        self._timeout_seconds = timeout_seconds
        self._tries = tries
        self._cache_entries = cache_entries
        self._trust_ad = trust_ad
        self._clock = clock
        self._cache: dict[tuple[str, str], tuple[float, DnsAnswer]] = {}
        self._in_flight: dict[tuple[str, str], asyncio.Task[DnsAnswer]] = {}

    async def query(self, name: str, rrtype: str) -> DnsAnswer:
        """Return the records of `name`; `rrtype` is a type's name such as "TXT". The network's failures are answers."""
        key = (name.lower().rstrip("."), rrtype)
        cached = self._cached(key)
        if cached is not None:
            return cached
        task = self._in_flight.get(key)
        if task is None:
            task = asyncio.create_task(self._look_up(*key))
            self._in_flight[key] = task
            task.add_done_callback(lambda _: self._in_flight.pop(key, None))
        # Others may wait for the same answer: one who gives up does not take it from them.
        return await asyncio.shield(task)

    async def mx(self, domain: str) -> MxAnswer:
        """Return the mail hosts of `domain` (an A-label domain name)."""
        answer = await self.query(domain, "MX")
        if answer.status is DnsStatus.NO_DATA:
            # RFC 5321 section 5.1: without MX records the domain itself is the mail host, with preference 0.
            return MxAnswer(DnsStatus.FOUND, (domain,), (0,), implicit=True)
        if not answer.is_found:
            return MxAnswer(answer.status, why=answer.why)
        records = [(int(preference), host) for preference, host in (value.split(" ", 1) for value in answer.values)]
        hosts = [record for record in records if record[1] != "."]
        if not hosts:
            return MxAnswer(DnsStatus.FOUND, null_mx=True)
        random.shuffle(hosts)
        hosts.sort(key=lambda record: record[0])
        del hosts[MAX_MX_HOSTS:]
        return MxAnswer(DnsStatus.FOUND, tuple(host for _, host in hosts), tuple(preference for preference, _ in hosts))

    async def addresses(self, host: str) -> DnsAnswer:
        """Return the IPv4, then the IPv6 addresses of `host`. One family's failure does not hide the other's."""
        name = host.lower().rstrip(".")
        four, six = self._cached((name, "A")), self._cached((name, "AAAA"))
        if four is None or six is None:  # tasks only where there is something to wait for
            return _both(*await asyncio.gather(self.query(name, "A"), self.query(name, "AAAA")))
        return _both(four, six)

    def _cached(self, key: tuple[str, str]) -> DnsAnswer | None:
        cached = self._cache.get(key)
        return cached[1] if cached is not None and cached[0] > self._clock() else None

    async def _look_up(self, name: str, rrtype: str) -> DnsAnswer:
        answer, ttl = await self._ask_all(name, rrtype)
        while len(self._cache) >= self._cache_entries:
            del self._cache[next(iter(self._cache))]  # the oldest
        self._cache.pop((name, rrtype), None)
        self._cache[name, rrtype] = (self._clock() + ttl, answer)
        return answer

    async def _ask_all(self, name: str, rrtype: str) -> tuple[DnsAnswer, float]:
        try:
            # DO asks for signed answers, AD for the resolver's own judgement of them (RFC 6840 section 5.7).
            query = dns.message.make_query(
                name + ".", rrtype, use_edns=0, want_dnssec=True, flags=dns.flags.RD | dns.flags.AD
            )
        except (dns.exception.DNSException, UnicodeError):
            return DnsAnswer(DnsStatus.NO_NAME, why="not a domain name"), MAX_NEGATIVE_SECONDS
        why = "no nameserver"
        for _ in range(self._tries):
            for server, port in self._nameservers:
                result = await self._ask(query, server, port)
                if not isinstance(result, str):
                    return result
                why = result
        return DnsAnswer(DnsStatus.FAILED, why=why), FAILED_SECONDS

    async def _ask(self, query: dns.message.QueryMessage, server: str, port: int) -> tuple[DnsAnswer, float] | str:
        """Return answer and TTL in seconds, or why this server gave none."""
        try:
            response, _ = await dns.asyncquery.udp_with_fallback(
                query, server, self._timeout_seconds, port, ignore_errors=True
            )
        except dns.exception.Timeout:
            return "timed out"
        except (dns.exception.DNSException, OSError, EOFError) as error:
            return f"{type(error).__name__}: {error}".rstrip(": ")
        if response.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return dns.rcode.to_text(response.rcode())
        return self._read(response)

    def _read(self, response: dns.message.Message) -> tuple[DnsAnswer, float] | str:
        try:
            chain = response.resolve_chaining()  # type: ignore[attr-defined]
        except dns.exception.DNSException as error:
            return f"unreadable answer: {type(error).__name__}"
        authentic = self._trust_ad and bool(response.flags & dns.flags.AD)
        if chain.answer is not None:
            values = tuple(_text(rdata) for rdata in chain.answer)
            ttl = min(max(float(chain.minimum_ttl), MIN_TTL_SECONDS), MAX_TTL_SECONDS)
            return DnsAnswer(DnsStatus.FOUND, values, authentic=authentic), ttl
        status = DnsStatus.NO_NAME if response.rcode() == dns.rcode.NXDOMAIN else DnsStatus.NO_DATA
        has_soa = any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority)
        ttl = min(float(chain.minimum_ttl), MAX_NEGATIVE_SECONDS) if has_soa else DEFAULT_NEGATIVE_SECONDS
        return DnsAnswer(status, authentic=authentic), ttl


def _both(four: DnsAnswer, six: DnsAnswer) -> DnsAnswer:
    found = four.values + six.values
    if found:
        return DnsAnswer(DnsStatus.FOUND, found, authentic=four.authentic and six.authentic)
    return six if six.status is DnsStatus.FAILED and four.status is not DnsStatus.FAILED else four


def system_nameservers() -> tuple[tuple[str, int], ...]:
    """Return the system's resolvers; empty when it names none."""
    try:
        found = dns.resolver.Resolver(configure=True).nameservers
    except dns.exception.DNSException:
        return ()
    return tuple((str(server), DNS_PORT) for server in found if _is_address(str(server)))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _name(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else "."


def _text(rdata: dns.rdata.Rdata) -> str:
    """Return a record's value as `DnsAnswer` describes it."""
    match dns.rdatatype.to_text(rdata.rdtype):
        case "A" | "AAAA":
            return str(rdata.address)  # type: ignore[attr-defined]
        case "MX":
            return f"{rdata.preference} {_name(rdata.exchange)}"  # type: ignore[attr-defined]
        case "PTR" | "CNAME" | "NS":
            return _name(rdata.target)  # type: ignore[attr-defined]
        case "TXT":
            return b"".join(rdata.strings).decode("utf-8", "replace")  # type: ignore[attr-defined]
        case _:
            return rdata.to_text()
