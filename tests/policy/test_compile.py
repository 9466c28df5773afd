import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.filters import registry
from gateway.policy import Policy
from gateway.policy.compile import Compiled, PolicyError, compile
from gateway.policy.document import Document, read_document
from tests import make


def problems(**document: Any) -> dict[str, str]:
    with pytest.raises(PolicyError) as caught:
        compile(read_document({**make.DOCUMENT, **document}), registry())
    return dict(caught.value.problems)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"filters": {"nosuch": {}}}, "filters.nosuch"),
        ({"filters": {"loop": {"mode": "sometimes"}}}, "filters.loop.mode"),
        ({"filters": {"loop": {"options": {"max_passes": 0}}}}, "filters.loop.options.max_passes"),
        ({"filters": {"loop": {"options": {"nosuch": 1}}}}, "filters.loop.options.nosuch"),
        ({"filters": {"loop": {"mode": "off", "options": {"nosuch": 1}}}}, "filters.loop.options.nosuch"),
        ({"filters": {"business_only": {"options": {"action": "discard"}}}}, "filters.business_only.options.action"),
        (
            {"filters": {"header_hygiene": {"options": {"inbound": {"add": [{"name": "X-A", "value": "a\nb"}]}}}}},
            "filters.header_hygiene.options.inbound.add.0.value",
        ),
        (
            {"filters": {"header_hygiene": {"options": {"inbound": {"remove": ["Received"]}}}}},
            "filters.header_hygiene.options.inbound.remove.0",
        ),
        ({"inbound_route": "nosuch"}, "inbound_route"),
        ({"outbound_route": "nosuch"}, "outbound_route"),
        ({"returned_route": "nosuch"}, "returned_route"),
        ({"domain_routes": {"other.example": "nosuch"}}, "domain_routes.other.example"),
        ({"domain_routes": {"other.example": ""}}, "domain_routes.other.example"),
        ({"domains": {"not a domain": {}}}, "domains.not a domain"),
        ({"domains": {"Corp.example": {}, "corp.EXAMPLE": {}}}, "domains"),
        ({"domains": {"corp.example": {"nosuch": 1}}}, "domains.corp.example.nosuch"),
        ({"internal_networks": ["10.0.0.1/8"]}, "internal_networks.0"),
        ({"internal_networks": ["10.0.0.0/8", "10.0.0.0/8"]}, "internal_networks.1"),
        ({"internal_networks": ["fe80::1%eth0"]}, "internal_networks.0"),
        ({"internal_names": ["a b"]}, "internal_names.0"),
        ({"hostname": "a\r\nb"}, "hostname"),
        ({"hostname": "gw.corp.local"}, "hostname"),
        ({"postmaster": "nobody"}, "postmaster"),
        ({"portal_url": "javascript:x"}, "portal_url"),
        ({"trust": {"proxy": ["10.0.0.0/8", "10.0.0.0/8"]}}, "trust.proxy.1"),
        ({"trust": {"proxy": ["fe80::1%eth0/128"]}}, "trust.proxy.0"),
        ({"trust": {"upstream": [{"network": "10.0.0.0/8"}, {"network": "10.1.0.0/16"}]}}, "trust.upstream.1.network"),
        ({"routes": {"a": {"hops": [{"host": "a b"}]}}}, "routes.a.hops.0.host"),
        ({"nosuch": 1}, "nosuch"),
        ({"limits": {"recipients": 1}}, "limits.recipients"),
    ],
)
def test_a_problem_is_told_with_the_path_of_its_field(document: dict[str, Any], path: str) -> None:
    assert path in problems(**document)


def test_all_problems_of_the_whole_are_told_at_once() -> None:
    found = problems(inbound_route="nosuch", filters={"nosuch": {}, "loop": {"options": {"max_passes": 0}}})
    assert found.keys() == {"inbound_route", "filters.nosuch", "filters.loop.options.max_passes"}


def test_the_error_reads_as_one_line_with_every_field() -> None:
    with pytest.raises(PolicyError, match=r"^inbound_route: no such route: 'a'; outbound_route: no such route: 'b'$"):
        compile(Document(inbound_route="a", outbound_route="b"), registry())


def compiled(machine: str = "", **document: Any) -> Compiled:
    return compile(read_document({**make.DOCUMENT, **document}), registry(), hostname=machine)


def test_filters_that_are_off_or_not_named_are_listed_and_do_not_run() -> None:
    found = compiled(filters={"loop": {}, "own_domain": {"mode": "off"}, "header_hygiene": {"mode": "shadow"}})
    assert [(one.name, one.is_shadow) for one in found.filters] == [("header_hygiene", True), ("loop", False)]
    assert found.off == tuple(sorted(registry().keys() - {"header_hygiene", "loop"}))


@pytest.mark.parametrize(
    ("document", "machine", "hostname", "public_name"),
    [
        ("mx.corp.example", "gw01.corp.local", "mx.corp.example", "mx.corp.example"),
        ("", "gw.corp.example", "gw.corp.example", "gw.corp.example"),
        ("", "gw01.corp.local", "gw01.corp.local", "corp.example"),  # never shown outside
        ("", "gw01", "gw01", "corp.example"),
        ("", "", "localhost", "corp.example"),
    ],
)
def test_our_name_is_the_documents_else_the_machines(
    document: str, machine: str, hostname: str, public_name: str
) -> None:
    found = compiled(machine, hostname=document)
    assert (found.hostname, found.public_name) == (hostname, public_name)


def test_a_policy_takes_ledger_changes_without_being_compiled_again() -> None:
    class Change:
        revision, added, ended = 9, (make.relay_source(),), ()

    before = make.policy(filters={"loop": {}})
    after = before.with_ledger(Change())
    assert (before.revision, after.revision) == (3, 9)
    assert after.ledger.relay_source("10.1.2.3", make.NOW) == make.relay_source()
    assert before.ledger.relay_source("10.1.2.3", make.NOW) is None
    assert after.filters is before.filters
    assert after.version == before.version


def test_a_policy_takes_another_document_and_keeps_the_ledger() -> None:
    before = make.policy(make.relay_source())
    after = before.with_document(compiled(company="Other"), 8)
    assert (after.version, after.document.company, after.ledger) == (8, "Other", before.ledger)
    assert isinstance(after, Policy)


def test_a_usual_document_compiles_in_a_moment() -> None:
    document = read_document(
        {
            **make.DOCUMENT,
            "domains": {f"d{number}.example": {} for number in range(50)},
            "routes": {f"r{number}": {"hops": [{"host": "192.0.2.1"}]} for number in range(20)},
            "domain_routes": {f"p{number}.example": f"r{number % 20}" for number in range(200)},
            "internal_networks": [f"10.{number}.0.0/16" for number in range(50)],
            "filters": {name: {} for name in registry()},
        }
    )
    started = time.process_time()
    compile(document, registry())
    assert time.process_time() - started < 0.05


def test_a_document_comes_back_from_its_stored_form() -> None:
    document = read_document({**make.DOCUMENT, "filters": {"loop": {"options": {"max_passes": 5}}}})
    assert read_document(json.loads(document.model_dump_json())) == document


NAMES = (
    st.sampled_from(
        [
            "domains",
            "corp.example",
            "x..y",
            "filters",
            "loop",
            "header_hygiene",
            "mode",
            "options",
            "routes",
            "hops",
            "host",
        ]
    )
    | st.sampled_from(
        [
            "trust",
            "upstream",
            "network",
            "limits",
            "inbound_route",
            "domain_routes",
            "internal_names",
            "hostname",
            "remove",
        ]
    )
    | st.sampled_from(["inbound", "add", "name", "value", "exempt", "observe", "[key]"])
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["corp.example", "10.0.0.0/8", "::/0", "enforce", "off", "reject", "a@b.example", "*", "X-*", "\ud800"]
    ),
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=25
)
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        name: JSON | st.dictionaries(NAMES, JSON, max_size=3)
        for name in ("domains", "filters", "routes", "trust", "hostname", "internal_names", "internal_networks")
    },
)


@given(st.one_of(JSON, LIKELY, st.builds(lambda options: {"filters": {"header_hygiene": {"options": options}}}, JSON)))
def test_any_document_compiles_or_names_a_field(data: object) -> None:
    found: Compiled | None = None
    problems: list[tuple[str, str]] = []
    try:
        found = compile(read_document(data), registry())
    except PolicyError as error:
        problems = error.problems
    assert bool(found) is not bool(problems)
    assert all(path and message for path, message in problems)
    if found:
        assert found.document == read_document(found.document.model_dump())
