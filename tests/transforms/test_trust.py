import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspection.scan import MAX_FIELDS, scan
from gateway.transforms.trust import claims, is_ours
from tests import make

NAMES = {"mx.corp.example", "gw01"}
DOMAINS = {"corp.example"}


def claimed(*fields: tuple[str, str]) -> list[str]:
    raw = make.message(*fields)
    return [raw[start:end].decode() for start, end, _ in claims(raw, scan(raw), NAMES, DOMAINS)]


@pytest.mark.parametrize(
    "name",
    [
        "X-Gatepost-Key",
        "x-gatepost-hop",
        "X-MS-Exchange-Organization-SCL",
        "X-Ms-Exchange-Organization-AuthAs",
        "X-MS-Exchange-Forest-RulesExecuted",
        "X-MS-Exchange-CrossTenant-AuthAs",
        "X-Forefront-Antispam-Report",
        "X-Gatepost-Key ",  # obsolete syntax, RFC 5322 section 4.5
    ],
)
def test_fields_that_claim_our_trust_are_found(name: str) -> None:
    assert claimed((name, "x\r\n folded"), ("X-Fine", "y")) == [f"{name}: x\r\n folded\r\n"]


@pytest.mark.parametrize(
    "name", ["X-MS-Has-Attach", "X-MS-Exchange-Transport", "X-Gatepost", "ARC-Authentication-Results"]
)
def test_other_fields_claim_nothing(name: str) -> None:
    assert claimed((name, "mx.corp.example; x")) == []


@pytest.mark.parametrize(
    ("value", "ours"),
    [
        ("mx.corp.example; spf=pass smtp.mailfrom=partner.example", True),
        ("MX.Corp.Example; none", True),
        ("mx.corp.example 1; none", True),
        ("mx.corp.example/1; none", True),
        ("mx.corp.example.; none", True),
        ("  mx.corp.example;", True),
        ("mx.corp.example", True),
        ('"mx.corp.example"; none', True),
        (r'"mx\.corp.example"; none', True),
        ("(a comment) mx.corp.example; none", True),
        ("(a (nested; one)) (more) mx.corp.example; none", True),
        (r"(an escaped \) mark) mx.corp.example; none", True),
        ("mx.corp.example(comment); none", True),
        ("gw01; none", True),
        ("other.corp.example; none", True),  # below our domain
        ("corp.example; none", True),
        ("", True),  # nothing that can be read
        ("(never closed mx.corp.example; none", True),
        ("; spf=pass", True),
        ("mx.other.example; spf=pass smtp.mailfrom=corp.example", False),
        ("(mx.corp.example) mx.other.example; none", False),
        ("mx.corp.example.evil.example; none", False),
        ("notcorp.example; none", False),
        ("mx.other.example; spf=pass (mx.corp.example)", False),
    ],
)
def test_results_under_our_name_are_known_however_they_are_written(value: str, ours: bool) -> None:
    assert is_ours(value, NAMES, DOMAINS) is ours
    assert bool(claimed(("Authentication-Results", value))) is ours


def test_fields_beyond_those_that_are_listed_are_found_as_well() -> None:
    filler = [("X-Fine", "y")] * MAX_FIELDS
    late = [("X-Gatepost-Key", "x\r\n folded"), ("authentication-results", "mx.corp.example; none"), ("X-Late", "z")]
    assert claimed(*filler, *late) == [
        "X-Gatepost-Key: x\r\n folded\r\n",
        "authentication-results: mx.corp.example; none\r\n",
    ]


@pytest.mark.parametrize("value", ["(" * 4000, "(a)" * 1300, '"' + "\\" * 4000, "\\(" * 2000])
def test_odd_results_are_read_in_linear_time(value: str) -> None:
    started = time.process_time()
    is_ours(value, NAMES, DOMAINS)
    assert time.process_time() - started < 0.1


@given(st.text(alphabet='()";\\ .mxcorp-e', max_size=60))
def test_whatever_stands_there_is_ours_or_not(value: str) -> None:
    assert is_ours(value, NAMES, DOMAINS) in (True, False)
