"""The ledger's values: exceptions with an owner, a reason, a proof and an end. Rows live in the store, here are values.

`Ledger` answers what is asked for each message (may this peer relay, who is this recipient, is this author admitted)
without looking through all entries. An entry past its end counts as absent; that is checked when asked, since no
revision marks the moment.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from gateway.mail.address import Address, parent_domains, parse_mailbox
from gateway.mail.errors import Malformed
from gateway.policy.document import Document
from gateway.policy.keys import BypassKey

MAX_ALIASES = 10  # alias to alias; a longer chain or a circle ends where it is


class Proof(StrEnum):
    """How an entry's identity must be proven. `NONE` is for the first days and is shown as weak wherever it stands."""

    NONE = "none"
    PINNED_ADDRESS = "pinned_address"


class Identity(StrEnum):
    """What an entry names."""

    AUTHOR_DOMAIN = "author_domain"
    AUTHOR_ADDRESS = "author_address"
    ENVELOPE_DOMAIN = "envelope_domain"
    ENVELOPE_ADDRESS = "envelope_address"


AUTHOR = frozenset({Identity.AUTHOR_ADDRESS, Identity.AUTHOR_DOMAIN})
ENVELOPE = frozenset({Identity.ENVELOPE_ADDRESS, Identity.ENVELOPE_DOMAIN})


class WhitelistEntry(Struct, frozen=True, tag="whitelist"):
    """A business partner. `value` is a domain or address in lower case; `networks` are CIDRs for the pinned address."""

    id: str
    identity: Identity
    value: str
    subdomains: bool
    proof: Proof
    networks: tuple[str, ...]
    owner: str
    reason: str
    expires_at: datetime | None
    review_at: datetime | None


class SendsAsUs(Struct, frozen=True, tag="sends_as_us"):
    """A proof for one of our own domains: who may send as us from outside."""

    id: str
    domain: str
    networks: tuple[str, ...]
    owner: str
    reason: str
    expires_at: datetime | None


class RelaySource(Struct, frozen=True, tag="relay_source"):
    """An approved internal source. `allowed_domains` limits MAIL FROM and author; empty: our domains only.

    `any_sender` lifts that limit, for a mail server that forwards.
    """

    id: str
    network: str
    owner: str
    purpose: str
    kind: str  # server, application, device, mail_server
    allowed_domains: tuple[str, ...]
    any_sender: bool
    max_per_hour: int  # messages; 0: no limit
    expires_at: datetime | None
    review_at: datetime | None


class RecipientEntry(Struct, frozen=True, tag="recipient"):
    """A known recipient of one of our domains.

    `local` "*" is the domain's catch-all; `target` "" delivers to the address itself.
    """

    id: str
    local: str
    domain: str
    target: str


class Waiver(Struct, frozen=True, tag="waiver"):
    """Exempts named reasons of one message (by the hash of its bytes) for named recipients, once."""

    id: str
    sha256: str
    reasons: tuple[str, ...]
    recipients: tuple[str, ...]
    expires_at: datetime


LedgerEntry = WhitelistEntry | SendsAsUs | RelaySource | RecipientEntry | Waiver | BypassKey


class Delta(Protocol):
    """What changed since a revision: `ended` holds ids. An id that ended and was added again is current."""

    @property
    def revision(self) -> int: ...
    @property
    def added(self) -> Iterable[LedgerEntry]: ...
    @property
    def ended(self) -> Iterable[str]: ...


Entry = TypeVar("Entry", bound=Struct)


class Index(Generic[Entry]):
    """Entries by a key of theirs. `rows` is for looking up without a call, only `Index` changes it."""

    __slots__ = ("_key", "rows")

    def __init__(self, key: Callable[[Entry], str], rows: dict[str, tuple[Entry, ...]] | None = None) -> None:
        self._key = key
        self.rows = {} if rows is None else rows

    def get(self, key: str) -> tuple[Entry, ...]:
        """Return the entries with this key, in the order in which they came."""
        return self.rows.get(key, ())

    def add(self, entry: Entry) -> None:
        key = self._key(entry)
        self.rows[key] = (*self.rows.get(key, ()), entry)

    def remove(self, entry: Entry) -> None:
        key = self._key(entry)
        left = tuple([one for one in self.rows.get(key, ()) if one is not entry])
        if left:
            self.rows[key] = left
        else:
            self.rows.pop(key, None)

    def copy(self) -> "Index[Entry]":
        return Index(self._key, self.rows.copy())


class RelayIndex:
    """Approved sources by network, for the longest prefix."""

    __slots__ = ("_by_bits",)

    def __init__(self, sources: Iterable[RelaySource] = ()) -> None:
        found: dict[tuple[int, int], dict[int, tuple[RelaySource, ...]]] = {}
        for source in sources:
            network = ip_network(source.network, strict=False)
            rows = found.setdefault((network.max_prefixlen, network.prefixlen), {})
            number = int(network.network_address)
            rows[number] = (*rows.get(number, ()), source)
        self._by_bits: dict[int, list[tuple[int, dict[int, tuple[RelaySource, ...]]]]] = {}
        for (bits, length), rows in sorted(found.items(), reverse=True):
            self._by_bits.setdefault(bits, []).append((bits - length, rows))

    def find(self, ip: str, now: datetime) -> RelaySource | None:
        address = _number(ip)
        if address is None:
            return None
        bits, number = address
        for host_bits, rows in self._by_bits.get(bits, ()):
            for source in rows.get(number >> host_bits << host_bits, ()):
                if is_current(source.expires_at, now):
                    return source
        return None


class Ledger:
    """All entries of one revision, by what they are looked up by. Never changed: `changed` returns another one."""

    __slots__ = (
        "_entries",
        "_keys",
        "_recipients",
        "_relay",
        "_sends_as_us",
        "_sources",
        "_waivers",
        "_whitelist",
        "has_limited_keys",
        "key_lengths",
        "revision",
    )

    def __init__(self, revision: int = 0, entries: Iterable[LedgerEntry] = ()) -> None:
        self.revision = revision
        self._entries: dict[str, LedgerEntry] = {}
        self._whitelist = Index(_whitelist_key)
        self._recipients = Index(_recipient_key)
        self._sends_as_us = Index(_sends_as_us_key)
        self._waivers = Index(_waiver_key)
        self._keys = Index(_digest_of_key)
        self._sources: dict[str, RelaySource] = {}
        self._add(entries)
        self._relay = RelayIndex(self._sources.values())
        self._look_at_keys()

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> Iterator[LedgerEntry]:
        """Yield all entries, those past their end as well."""
        return iter(self._entries.values())

    def changed(self, delta: Delta) -> "Ledger":
        """Return the ledger after `delta`. Copies the dictionaries that change: milliseconds with 100,000 entries."""
        after = Ledger(delta.revision)
        after._entries = self._entries.copy()
        added = tuple(delta.added)
        replaced = [one.id for one in added]
        gone = [entry for ended in (*delta.ended, *replaced) if (entry := after._entries.pop(ended, None)) is not None]
        touched = {type(entry) for entry in (*added, *gone)}
        after._whitelist = self._whitelist.copy() if WhitelistEntry in touched else self._whitelist
        after._recipients = self._recipients.copy() if RecipientEntry in touched else self._recipients
        after._sends_as_us = self._sends_as_us.copy() if SendsAsUs in touched else self._sends_as_us
        after._waivers = self._waivers.copy() if Waiver in touched else self._waivers
        after._keys = self._keys.copy() if BypassKey in touched else self._keys
        after._sources, after._relay = self._sources, self._relay
        if RelaySource in touched:
            after._sources = self._sources.copy()
        for entry in gone:
            if isinstance(entry, RelaySource):
                del after._sources[entry.id]
            else:
                after._index_of(entry).remove(entry)
        after._add(added)
        if RelaySource in touched:
            after._relay = RelayIndex(after._sources.values())
        after._look_at_keys()
        return after

    def relay_source(self, ip: str, now: datetime) -> RelaySource | None:
        """Return the approved source that `ip` is, by the longest network that holds it; None for no address."""
        return self._relay.find(ip, now)

    def source(self, id: str) -> RelaySource | None:
        """Return the relay source with this id, past its end as well; None if there is none any more."""
        return self._sources.get(id)

    def recipient(self, address: Address, document: Document) -> Address | None:
        """Return where mail to `address` goes, None for an address that is not ours or not known.

        Aliases are followed to their target; `user+tag` is `user` where the domain says so; then the domain's
        catch-all; then any recipient, where the domain takes any. Postmaster is always known (RFC 5321 section 4.5.1),
        also without a domain.
        """
        domain = address.ascii_domain
        own = document.domains.get(domain)
        if own is None:
            return _postmaster(address, document) if not domain else None
        local = address.local.lower()
        name, plus, _ = local.partition("+")
        if found := self._recipients.get(f"{local}@{domain}"):
            return self._follow(found[-1], address, document)
        if plus and own.plus_tags and (found := self._recipients.get(f"{name}@{domain}")):
            untagged = Address(address.local[: len(name)], address.domain)
            return self._follow(found[-1], untagged, document)
        if found := self._recipients.get(f"*@{domain}"):
            return self._follow(found[-1], address, document)
        return address if own.any_recipient else _postmaster(address, document)

    def whitelisted(self, author: Address | None, mail_from: Address, now: datetime) -> tuple[WhitelistEntry, ...]:
        """Return the entries for this author or reverse-path, the most exact first. Their proof is not checked here."""
        found = self._named(author, AUTHOR) if author is not None else []
        if mail_from.domain:
            found += self._named(mail_from, ENVELOPE)
        return tuple([entry for entry in found if entry.expires_at is None or now < entry.expires_at]) if found else ()

    def sends_as_us(self, domain: str, now: datetime) -> tuple[SendsAsUs, ...]:
        """Return who may send as `domain` from outside; an entry for a domain holds for the domains below it."""
        names = (domain, *parent_domains(domain))
        return tuple([one for name in names for one in self._sends_as_us.get(name) if is_current(one.expires_at, now)])

    def waived(self, sha256: str, recipients: Iterable[Address], now: datetime) -> dict[Address, frozenset[str]]:
        """Return the reasons that waivers exempt for the message with this hash, by recipient."""
        waivers = [one for one in self._waivers.get(sha256) if is_current(one.expires_at, now)]
        if not waivers:
            return {}
        return {
            address: frozenset(reason for one in waivers if address.key in one.recipients for reason in one.reasons)
            for address in recipients
        }

    def key(self, digest: str) -> BypassKey | None:
        """Return the bypass key with this keyed hash, whether it is good now or not."""
        found = self._keys.rows.get(digest)
        return found[-1] if found else None

    def _look_at_keys(self) -> None:
        """Note what every message asks first: how long keys are (none: there are none), and if any has limited uses."""
        keys = [one for rows in self._keys.rows.values() for one in rows]
        self.key_lengths = frozenset([one.length for one in keys])
        self.has_limited_keys = any(one.uses for one in keys)

    def _named(self, address: Address, identities: frozenset[Identity]) -> list[WhitelistEntry]:
        domain, listed = address.ascii_domain, self._whitelist.rows
        found: list[WhitelistEntry] = []
        for name in (f"{address.local.lower()}@{domain}", domain):
            if name in listed:
                found += [entry for entry in listed[name] if entry.identity in identities]
        for parent in parent_domains(domain):
            if parent in listed:
                found += [entry for entry in listed[parent] if entry.subdomains and entry.identity in identities]
        return found

    def _follow(self, entry: RecipientEntry, address: Address, document: Document) -> Address:
        """Return the address that an entry leads to. A target that is an alias itself is followed, in bounds."""
        for _ in range(MAX_ALIASES):
            target = _target(entry.target)
            if target is None:
                break
            address = target
            known = self._recipients.get(address.key) if address.ascii_domain in document.domains else ()
            if not known:
                break
            entry = known[-1]
        return address

    def _add(self, entries: Iterable[LedgerEntry]) -> None:
        for entry in entries:
            self._entries[entry.id] = entry
            if isinstance(entry, RelaySource):
                self._sources[entry.id] = entry
            else:
                self._index_of(entry).add(entry)

    def _index_of(self, entry: WhitelistEntry | SendsAsUs | RecipientEntry | Waiver | BypassKey) -> Index[Any]:
        if isinstance(entry, BypassKey):
            return self._keys
        if isinstance(entry, RecipientEntry):
            return self._recipients
        if isinstance(entry, WhitelistEntry):
            return self._whitelist
        return self._sends_as_us if isinstance(entry, SendsAsUs) else self._waivers


def is_current(expires_at: datetime | None, now: datetime) -> bool:
    """Tell whether an entry with this end counts now."""
    return expires_at is None or now < expires_at


def _whitelist_key(entry: WhitelistEntry) -> str:
    return entry.value.lower()


def _recipient_key(entry: RecipientEntry) -> str:
    return f"{entry.local}@{entry.domain}".lower()


def _sends_as_us_key(entry: SendsAsUs) -> str:
    return entry.domain.lower()


def _digest_of_key(entry: BypassKey) -> str:
    return entry.digest


def _waiver_key(entry: Waiver) -> str:
    return entry.sha256


def _target(text: str) -> Address | None:
    try:
        return parse_mailbox(text) if text else None
    except Malformed:
        return None  # the mail then goes to the address itself


def _postmaster(address: Address, document: Document) -> Address | None:
    """Return who takes mail to postmaster when the ledger does not say: the policy's postmaster, else the mailbox."""
    if address.local.lower() != "postmaster":
        return None
    if document.postmaster:
        return parse_mailbox(document.postmaster)
    domain = address.domain or next(iter(document.domains), "")
    return Address(address.local, domain) if domain else None


@lru_cache(maxsize=4096)
def _number(ip: str) -> tuple[int, int] | None:
    """Return an address as its number of bits and its value; an IPv4 peer on an IPv6 socket is an IPv4 peer."""
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.max_prefixlen, int(address)
