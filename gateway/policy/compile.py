"""From the document to the frozen `Policy` that judges one message: everything it needs, no I/O, no lookup in SQL.

Filters come in as an argument: policy knows none by name. A document with any problem compiles to nothing; all problems
are told at once, each with the path of its field.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_network
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ValidationError

from gateway.policy.document import Document, PolicyError, Problem, problems_of
from gateway.policy.internal import Internal
from gateway.policy.ledger import Delta, Ledger, LedgerEntry
from gateway.policy.rules.compile import Rules, Source, compile_rules
from gateway.policy.rules.vocabulary import Vocabulary, vocabulary
from gateway.verdict import Answers, Case, Finding, Kind, Mode, Question, Threshold

__all__ = ["ActiveFilter", "Compiled", "Policy", "PolicyError", "compile"]

FALLBACK_HOSTNAME = "localhost"
NO_RULES = Rules()

Ask = Callable[[Case, Any, Any], Iterable[Question]]
Judge = Callable[[Case, Any, Any, Answers], Iterable[Finding]]


class CompilableFilter(Protocol):
    """What compile needs of a filter; `gateway.filters.Filter` is one."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def defaults(self) -> BaseModel: ...
    @property
    def ask(self) -> Ask: ...
    @property
    def judge(self) -> Judge: ...
    @property
    def floor(self) -> tuple[str, ...]: ...
    @property
    def inspects(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class ActiveFilter:
    """One filter that runs, with its options. In shadow its findings are noted and count for nothing."""

    name: str
    kind: Kind
    ask: Ask
    judge: Judge
    floor: frozenset[str]
    options: BaseModel
    is_shadow: bool
    inspects: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A document that holds together, without version and ledger.

    `filters` run in the order of their names; `off` are those that the document has off or does not name. `hostname`
    is ours in greetings, trace fields and Authentication-Results; `public_name` is the same where it may be shown
    outside, else our first domain. `own_names` are all names under which results may claim to be ours. `own_domains`
    are in lower case and A-labels. `match_key` is what bypass keys are hashed with; without it none is known. `rules`
    are those that run, `thresholds` what the sum of scores leads to.
    """

    document: Document
    filters: tuple[ActiveFilter, ...]
    off: tuple[str, ...]
    hostname: str
    public_name: str
    own_names: frozenset[str]
    own_domains: frozenset[str]
    internal: Internal
    hop_key: bytes
    match_key: bytes
    rules: Rules = NO_RULES
    thresholds: tuple[Threshold, ...] = ()

    @property
    def inspects(self) -> bool:
        """Whether messages are looked into: some filter or rule may read what is found there."""
        return bool(self.rules.rules) or any(one.inspects for one in self.filters)

    @property
    def must_inspect(self) -> bool:
        """Whether a message that cannot be looked into has to wait: what reads it is more than in shadow."""
        return bool(self.rules.rules) or any(one.inspects and not one.is_shadow for one in self.filters)

    @property
    def passwords(self) -> tuple[str, ...]:
        """What is tried on locked files."""
        return next((one.options.passwords for one in self.filters if one.name == "encrypted"), ())  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(Compiled):
    """What is in force for one message: pinned at MAIL FROM, never changed."""

    version: int
    ledger: Ledger

    @classmethod
    def of(cls, compiled: Compiled, version: int, revision: int, entries: Iterable[LedgerEntry] = ()) -> "Policy":
        return cls(**_values(compiled), version=version, ledger=Ledger(revision, entries))

    @property
    def revision(self) -> int:
        """The ledger's revision."""
        return self.ledger.revision

    def with_ledger(self, delta: Delta) -> "Policy":
        """Return the policy after a change of the ledger; nothing is compiled again."""
        return Policy(**{**_values(self), "version": self.version, "ledger": self.ledger.changed(delta)})

    def with_document(self, compiled: Compiled, version: int) -> "Policy":
        """Return the policy with another document and the same ledger."""
        return Policy(**_values(compiled), version=version, ledger=self.ledger)


def _values(compiled: Compiled) -> dict[str, Any]:
    return {field.name: getattr(compiled, field.name) for field in fields(Compiled)}


def compile(
    document: Document,
    registry: Mapping[str, CompilableFilter],
    *,
    hop_key: bytes = b"",
    match_key: bytes = b"",
    hostname: str = "",
    own_names: Iterable[str] = (),
    words: Vocabulary | None = None,
) -> Compiled:
    """Check the document as a whole and make it ready. Raises PolicyError with every problem.

    `hostname` is this machine's, for a document without one; `own_names` are further names of ours. `hop_key` signs and
    verifies the hop marker; without it none is written or believed. `registry` holds the filters, `words` the fields,
    operators and actions of rules: without it all that there are.
    """
    internal = Internal(document.internal_networks, document.internal_names, document.domains)
    problems = [*_hostname_problems(document), *_route_problems(document), *_trust_problems(document)]
    active, off = _filters(document, registry, problems)
    rules = compile_rules(document.rules, rule_source(document, words), problems)
    if problems:
        raise PolicyError(problems)
    name = (document.hostname or hostname or FALLBACK_HOSTNAME).lower()
    is_public = "." in name and not internal.shown_in(name)
    return Compiled(
        document=document,
        filters=active,
        off=off,
        hostname=name,
        public_name=name if is_public else next(iter(document.domains), name),
        own_names=frozenset([name, *(one.lower() for one in own_names)]),
        own_domains=frozenset(document.domains),
        internal=internal,
        hop_key=hop_key,
        match_key=match_key,
        rules=rules,
        thresholds=tuple([Threshold(one.at, one.action, one.category) for one in document.score_thresholds]),
    )


def rule_source(document: Document, words: Vocabulary | None = None) -> Source:
    """Return what rules are compiled with."""
    return Source(words or vocabulary(), document.lists, document.routes, ZoneInfo(document.time_zone))


def _filters(
    document: Document, registry: Mapping[str, CompilableFilter], problems: list[Problem]
) -> tuple[tuple[ActiveFilter, ...], tuple[str, ...]]:
    """Return the filters that run and the names of those that do not, whose options are checked all the same."""
    active: list[ActiveFilter] = []
    off: list[str] = []
    for name in sorted(document.filters.keys() - registry.keys()):
        problems.append((f"filters.{name}", f"no such filter; there are {', '.join(sorted(registry))}"))
    for name in sorted(registry):
        spec, setting = registry[name], document.filters.get(name)
        if setting is None:
            off.append(name)
            continue
        try:
            options = type(spec.defaults).model_validate({**_given(spec.defaults), **setting.options})
        except ValidationError as error:
            problems += problems_of(error, f"filters.{name}.options")
            continue
        if setting.mode is Mode.OFF:
            off.append(name)
            continue
        is_shadow = setting.mode is Mode.SHADOW
        active.append(
            ActiveFilter(
                name, spec.kind, spec.ask, spec.judge, frozenset(spec.floor), options, is_shadow, spec.inspects
            )
        )
    return tuple(active), tuple(off)


def _given(defaults: BaseModel) -> dict[str, Any]:
    """Return what a filter's defaults set other than its options class."""
    return {name: getattr(defaults, name) for name in defaults.model_fields_set}


def _hostname_problems(document: Document) -> Iterator[Problem]:
    for name in document.internal_names:
        if document.hostname == name or document.hostname.endswith("." + name):
            yield "hostname", f"is shown outside, and internal_names hides {name}"


def _route_problems(document: Document) -> Iterator[Problem]:
    named = {
        "inbound_route": document.inbound_route,
        "outbound_route": document.outbound_route,
        "returned_route": document.returned_route,
        **{f"domain_routes.{domain}": name for domain, name in document.domain_routes.items()},
    }
    for path, name in named.items():
        is_optional = "." not in path
        if not (is_optional and not name) and name not in document.routes:
            yield path, f"no such route: {name!r}"


def _trust_problems(document: Document) -> Iterator[Problem]:
    trust = document.trust
    yield from _repeated("trust.proxy", trust.proxy)
    yield from _repeated("trust.xclient", trust.xclient)
    yield from _repeated("internal_networks", document.internal_networks)
    seen: list[tuple[str, Any]] = []
    for number, hop in enumerate(trust.upstream):
        network = ip_network(hop.network)
        for text, other in seen:
            # Two answers to the question which Received field counts; the document must say which.
            if network.version == other.version and network.overlaps(other):
                yield f"trust.upstream.{number}.network", f"{hop.network} overlaps {text}"
        seen.append((hop.network, network))


def _repeated(path: str, networks: tuple[str, ...]) -> Iterator[Problem]:
    for number, network in enumerate(networks):
        if network in networks[:number]:
            yield f"{path}.{number}", f"{network} stands there twice"
