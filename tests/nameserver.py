"""A DNS server for tests: speaks UDP and TCP on 127.0.0.1, answers from a table of names, and misbehaves as told."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

Zone = dict[tuple[str, str], list[str]]


class Trouble(StrEnum):
    """What a name does instead of answering."""

    SERVFAIL = "servfail"
    REFUSED = "refused"
    SILENT = "silent"
    GARBAGE = "garbage"


class Nameserver:
    """Use as `async with Nameserver() as server:` and give resolvers `server.address`.

    `zone` maps (name, type) to record texts: `server.zone["corp.example", "MX"] = ["10 mx.corp.example."]`. A name with
    any record answers "no such record" for other types, a name without one "no such name". `trouble` maps a name to
    what is wrong. `asked` counts the queries by (name, type). Answers too big for UDP are cut short.
    """

    def __init__(
        self, zone: dict[tuple[str, str], list[str]] | None = None, *, ttl: int = 300, negative_ttl: int = 60
    ) -> None:
        self.zone = zone if zone is not None else {}
        self.trouble: dict[str, Trouble] = {}
        self.authentic: set[str] = set()  # names answered with the AD bit
        self.asked: Counter[tuple[str, str]] = Counter()
        self.asked_by_tcp: Counter[tuple[str, str]] = Counter()
        self.held: asyncio.Event | None = None  # while set and not fired, answers wait
        self.ttl = ttl
        self.negative_ttl = negative_ttl
        self.address = ("", 0)
        self._waiting: set[asyncio.Task[None]] = set()

    def add(self, name: str, rrtype: str, values: Iterable[str]) -> None:
        """Put records into the zone."""
        self.zone[name, rrtype] = list(values)

    async def __aenter__(self) -> "Nameserver":
        loop = asyncio.get_running_loop()
        while not self.address[1]:
            self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=("127.0.0.1", 0))
            address = self._udp.get_extra_info("sockname")
            try:
                self._tcp = await asyncio.start_server(self._serve_tcp, *address)
            except OSError:  # the TCP port of the same number is somebody's
                self._udp.close()
            else:
                self.address = address
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._waiting:
            task.cancel()
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()

    def received(self, wire: bytes, transport: asyncio.DatagramTransport, peer: tuple[str, int]) -> None:
        """Answer one datagram, now or when `held` fires."""
        task = asyncio.ensure_future(self._answer_later(wire, transport, peer))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _answer_later(self, wire: bytes, transport: asyncio.DatagramTransport, peer: tuple[str, int]) -> None:
        response = self._response(wire, self.asked)
        if self.held is not None:
            await self.held.wait()
        if response is not None and not transport.is_closing():
            transport.sendto(response, peer)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            length = int.from_bytes(await reader.readexactly(2), "big")
            response = self._response(await reader.readexactly(length), self.asked_by_tcp)
            if response is not None:
                writer.write(len(response).to_bytes(2, "big") + response)
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    def _response(self, wire: bytes, tally: Counter[tuple[str, str]]) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, rrtype = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        tally[name, rrtype] += 1
        trouble = self.trouble.get(name)
        if trouble is Trouble.SILENT:
            return None
        if trouble is Trouble.GARBAGE:
            return wire[:2] + b"\x80\x00garbage"
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if name in self.authentic:
            response.flags |= dns.flags.AD
        if trouble is not None:
            response.set_rcode(dns.rcode.from_text(trouble.upper()))
        else:
            self._fill(response, question.name, rrtype)
        wire = response.to_wire(max_size=65535)
        if tally is self.asked and len(wire) > max(query.payload, 512):
            return self._cut(query)
        return wire

    def _cut(self, query: dns.message.Message) -> bytes:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA | dns.flags.TC
        return response.to_wire()

    def _fill(self, response: dns.message.Message, name: dns.name.Name, rrtype: str) -> None:
        for _ in range(8):
            text = name.to_text(omit_final_dot=True).lower()
            if (records := self.zone.get((text, rrtype))) is not None:
                response.answer.append(dns.rrset.from_text(name, self.ttl, "IN", rrtype, *records))
                return
            alias = self.zone.get((text, "CNAME"))
            if alias is None:
                break
            response.answer.append(dns.rrset.from_text(name, self.ttl, "IN", "CNAME", *alias))
            name = dns.name.from_text(alias[0])
        if not any(key[0] == text for key in self.zone):
            response.set_rcode(dns.rcode.NXDOMAIN)
        soa = f"ns.{text or 'root'}. hostmaster.{text or 'root'}. 1 3600 600 86400 {self.negative_ttl}"
        response.authority.append(dns.rrset.from_text(name, self.negative_ttl, "IN", "SOA", soa))


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: Nameserver) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.received(data, self._transport, addr)  # type: ignore[arg-type]
