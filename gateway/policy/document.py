"""The policy document, version 1: one validated value with everything an operator publishes at once.

pydantic validates it, names the field that is wrong, and makes the console's forms of it. Filters' options are checked
by `compile` against the registry of filters, since this module knows no filter.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator
from pydantic_core import ErrorDetails

from gateway.mail.address import domain_of_text, parse_mailbox, parse_network
from gateway.policy.periods import zone_of
from gateway.policy.rules.schema import MAX_RULES, Rule, ScoreThreshold
from gateway.verdict import Kind, Mode

_HOST_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*")

Problem = tuple[str, str]


class PolicyError(Exception):
    """The document cannot be put in force. `problems` lists all: the path of a field and what is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(f"{path}: {message}" for path, message in self.problems))


def _network(text: str) -> str:
    return str(parse_network(text.strip()))


def _host_name(text: str) -> str:
    """Normalise the name of a host or the end of one: lower case, without a `*.` or `.` before it."""
    name = text.strip().lower().removeprefix("*").strip(".")
    if len(name) > 253 or not _HOST_NAME.fullmatch(name):
        raise ValueError("not a host name")
    return name


def _own_host_name(text: str) -> str:
    return domain_of_text(text) if text else ""


def _mailbox(text: str) -> str:
    return str(parse_mailbox(text)) if text else ""


def _party(text: str) -> str:
    """Normalise an address or a domain as they are compared: in lower case and A-labels."""
    return parse_mailbox(text.strip()).key if "@" in text else domain_of_text(text)


def _file_type(text: str) -> str:
    ending = text.strip().lower().removeprefix("*").removeprefix(".")
    if not ending.isalnum() or len(ending) > 20:
        raise ValueError("not the ending of a file name")
    return ending


def _time_zone(text: str) -> str:
    zone_of(text)
    return text


Domain = Annotated[str, AfterValidator(domain_of_text)]
Party = Annotated[str, AfterValidator(_party)]
FileType = Annotated[str, AfterValidator(_file_type)]
KeyClassName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
ListValue = Annotated[str, Field(min_length=1, max_length=1000)]
Network = Annotated[str, AfterValidator(_network)]
HeldKind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
HostName = Annotated[str, AfterValidator(_host_name)]


class Section(BaseModel):
    """A part of the document: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OwnDomain(Section):
    """One of our domains. Recipients are checked against the ledger unless `any_recipient`."""

    any_recipient: bool = Field(False, title="Any recipient", description="Accept every local part, known or not")
    plus_tags: bool = Field(True, title="Plus tags", description="user+tag@ is user@")


class FilterSetting(Section):
    mode: Mode = Mode.ENFORCE
    options: dict[str, Any] = {}


class KeyClass(Section):
    """What a key of this class opens, and for whom. Nothing opens the safety floor."""

    title: str = Field("", max_length=100, title="Name for people")
    opens: tuple[Kind, ...] = Field((), title="Opens", description="The kinds of objections that the key silences")
    length: int = Field(12, ge=8, le=32, title="Characters")
    monthly: bool = Field(True, title="A new key each month", description="Otherwise personal keys only")
    grace_days: int = Field(
        5, ge=0, le=31, title="Days of grace", description="So long last month's key is good beside the new one"
    )
    recipients: tuple[Party, ...] = Field(
        (), title="Recipients", description="Our addresses and domains that it opens for; empty: all"
    )
    senders: tuple[Party, ...] = Field(
        (), title="Senders", description="Author addresses and domains that may use it; empty: anybody"
    )
    types: tuple[FileType, ...] = Field(
        (),
        title="File types",
        description="Name endings (xlsm, docm); with other files attached it opens no attachments; empty: all",
    )


class NextHop(Section):
    host: str = Field(
        max_length=255,
        pattern=r"^[0-9A-Za-z._:\[\]-]+$",
        title="Host",
        description="Name or address; with `mx` its MX records are used",
    )
    port: int = Field(25, ge=1, le=65535)
    mx: bool = Field(False, title="Use MX")


class Route(Section):
    """Where mail goes. Several hops are tried in order; no hops means the MX of the recipient's domain."""

    hops: tuple[NextHop, ...] = ()
    tls: str = Field("opportunistic", pattern="^(never|opportunistic|required)$", title="TLS")
    max_connections: int = Field(10, ge=1, le=500, title="Connections at once")


class UpstreamHop(Section):
    """A trusted relay in front of us: the peer is taken from the n-th Received field, counted from the top."""

    network: Network
    received: int = Field(1, ge=1, le=10)


class Trust(Section):
    """Peers whose word about somebody else's address is believed."""

    proxy: tuple[Network, ...] = Field((), title="PROXY protocol from")
    xclient: tuple[Network, ...] = Field((), title="XCLIENT from")
    upstream: tuple[UpstreamHop, ...] = Field((), title="Trusted upstream hops")


class Limits(Section):
    message_bytes: int = Field(50 * 1024 * 1024, ge=65536, le=1 << 30)
    header_bytes: int = Field(1024 * 1024, ge=65536, le=8 << 20)
    recipients: int = Field(1000, ge=100, le=10000, description="RFC 5321 section 4.5.3.1.8 asks for at least 100")
    connections: int = Field(500, ge=1, le=20000, description="Connections at once on one worker group, in all")
    connections_per_network: int = Field(
        50, ge=1, le=20000, description="At once from one IPv4 address or one IPv6 /64"
    )
    connects_per_minute: int = Field(
        600, ge=1, le=1000000, description="New connections a minute from one address or /64"
    )
    commands: int = Field(
        5000, ge=50, le=1000000, description="Commands of one connection without an accepted message between"
    )
    errors: int = Field(20, ge=1, le=1000, description="Refused or unknown commands of one connection")
    idle_seconds: int = Field(
        300, ge=1, le=3600, description="RFC 5321 section 4.5.3.2.7 asks for at least five minutes"
    )
    session_seconds: int = Field(3600, ge=10, le=86400)
    data_seconds: int = Field(1800, ge=10, le=86400)
    data_bytes_per_second: int = Field(
        100, ge=0, le=1000000, description="Slower senders are cut off after a minute; 0: never"
    )
    bare_line_ends: str = Field("refuse", pattern="^(refuse|repair)$", title="Bare CR, bare LF, NUL")
    retry_days: float = Field(5.0, gt=0, le=30, description="RFC 5321 section 4.5.4.1: give up after four to five days")
    warn_hours: float = Field(4.0, gt=0, le=240, description="A delay notice after so long, where NOTIFY asks")


class Retention(Section):
    messages_days: int = Field(90, ge=1, le=3660)
    traces_days: int = Field(30, ge=1, le=3660)
    replay_text_days: int = Field(7, ge=0, le=365)
    refused_sessions_days: int = Field(14, ge=1, le=3660)
    held_days: int = Field(30, ge=1, le=3660, title="Held mail, in days")
    held_days_by_kind: dict[HeldKind, Annotated[int, Field(ge=1, le=3660)]] = Field(
        {},
        title="Held mail of a kind, in days",
        description="By kind (a filter's name, undeliverable, operator); other kinds are kept as long as said above",
    )
    conversations_days: int = Field(180, ge=1, le=3660)
    audit_days: int = Field(3660, ge=30, le=36600)


class Document(Section):
    """The whole policy. `observe` judges all and blocks only relaying, unknown recipients, protocol errors, excess."""

    schema_version: int = Field(1, ge=1, le=1)
    company: str = Field("Our company", min_length=1, max_length=200)
    hostname: Annotated[str, AfterValidator(_own_host_name)] = Field(
        "", max_length=255, title="Name in greeting and Received", description="Empty: this machine's name"
    )
    portal_url: str = Field(
        "", max_length=100, pattern=r"^(https?://[\x21-\x7e]+)?$", title="Portal address in refusals"
    )
    file_exchange: str = Field(
        "",
        max_length=100,
        pattern=r"^[\x20-\x7e]*$",
        title="Where to exchange files instead",
        description="Added to refusals of attachments, e.g. use https://files.corp.example",
    )
    postmaster: Annotated[str, AfterValidator(_mailbox)] = Field(
        "",
        max_length=254,
        title="Postmaster",
        description="In our notices; takes mail to postmaster that nobody else takes",
    )
    observe: bool = Field(False, title="Observe mode")
    domains: dict[Domain, OwnDomain] = Field({}, title="Our domains")
    internal_networks: tuple[Network, ...] = Field((), title="Internal networks", description="Not shown outside")
    internal_names: tuple[HostName, ...] = Field(
        (), title="Internal host names", description="Names and ends of names not shown outside, e.g. corp.local"
    )
    filters: dict[str, FilterSetting] = {}
    time_zone: Annotated[str, AfterValidator(_time_zone)] = Field(
        "UTC",
        max_length=60,
        title="Time zone",
        description="The company's, e.g. Europe/Zurich: when keys change, and for rules that ask for the time",
    )
    rules: tuple[Rule, ...] = Field((), max_length=MAX_RULES, title="Rules")
    lists: dict[Annotated[str, Field(min_length=1, max_length=100)], tuple[ListValue, ...]] = Field(
        {}, title="Lists of rules by name"
    )
    score_thresholds: tuple[ScoreThreshold, ...] = Field(
        (), max_length=20, title="Score thresholds", description="What becomes of mail whose scores add up to so much"
    )
    key_classes: dict[KeyClassName, KeyClass] = {}
    routes: dict[str, Route] = Field({}, title="Routes by name")
    inbound_route: str = Field("", description="Route of mail to our domains; empty: our domains' own MX")
    outbound_route: str = Field("", description="Route of mail to the world; empty: MX of the recipient")
    returned_route: str = Field(
        "", description="Route of mail back from the second scanner; empty: as other mail to our domains"
    )
    domain_routes: dict[Domain, str] = Field({}, title="Route by recipient domain")
    trust: Trust = Trust()
    limits: Limits = Limits()
    retention: Retention = Retention()

    def about_attachments(self, category: str) -> str:
        """Return the category of a refusal with the words on where to exchange files instead, if there are any."""
        return f"{category}:({self.file_exchange})" if self.file_exchange else category

    @field_validator("domains", "domain_routes", mode="before")
    @classmethod
    def _names_each_domain_once(cls, value: object) -> object:
        """Two spellings of one domain would be one key, and what stands in the first lost without a word."""
        if isinstance(value, Mapping):
            seen: dict[str, str] = {}
            for name in value:
                key = _domain_key(name)
                if key in seen:
                    raise ValueError(f"{seen[key]} and {name} are the same domain")
                seen[key] = str(name)
        return value


def _domain_key(name: object) -> str:
    try:
        return domain_of_text(name) if isinstance(name, str) else repr(name)
    except ValueError:
        return repr(name)


def read_document(data: object) -> Document:
    """Return the document that JSON-like `data` describes. Raises PolicyError, which names every wrong field."""
    try:
        return Document.model_validate(data)
    except ValidationError as error:
        raise PolicyError(problems_of(error)) from None


def problems_of(error: ValidationError, under: str = "") -> list[Problem]:
    """Return what pydantic objects to as paths and messages; paths begin with `under`."""
    return [(_path(detail, under), detail["msg"]) for detail in error.errors(include_url=False, include_input=False)]


def _path(detail: ErrorDetails, under: str) -> str:
    steps = [under] if under else []
    steps += [str(step) for step in detail["loc"] if step != "[key]"]
    return ".".join(steps) or "document"
