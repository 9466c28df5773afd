"""Authentication-Results, written and read."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail.authres import (
    MAX_RESULTS,
    AuthenticationResults,
    AuthResult,
    authentication_results,
    parse_authentication_results,
)
from gateway.mail.errors import Malformed
from gateway.mail.fields import unfold

SPF = AuthResult("spf", "pass", "", (("smtp", "mailfrom", "partner.example"),))
DKIM = AuthResult(
    "dkim", "fail", "body hash did not verify", (("header", "d", "partner.example"), ("header", "i", "@x.example"))
)


def reread(raw: bytes) -> AuthenticationResults:
    name, _, value = raw.partition(b":")
    assert name == b"Authentication-Results"
    return parse_authentication_results(unfold(value))


def test_results_are_written_with_quotes_where_needed() -> None:
    raw = authentication_results("mx.corp.example", [SPF, DKIM])
    assert unfold(raw) == (
        "Authentication-Results: mx.corp.example; spf=pass smtp.mailfrom=partner.example; "
        'dkim=fail reason="body hash did not verify" header.d=partner.example header.i=@x.example'
    )
    assert reread(raw) == AuthenticationResults("mx.corp.example", (SPF, DKIM))


def test_no_results_are_written_as_none() -> None:
    assert authentication_results("mx.corp.example", []) == b"Authentication-Results: mx.corp.example; none\r\n"
    assert reread(b"Authentication-Results: mx.corp.example; none\r\n") == AuthenticationResults("mx.corp.example", ())


@pytest.mark.parametrize(
    "result",
    [
        AuthResult("", "pass"),
        AuthResult("spf", "pass; dkim=pass"),
        AuthResult("spf", "pass", "", (("smtp", "x y", "z"),)),
    ],
)
def test_what_is_no_keyword_is_refused(result: AuthResult) -> None:
    with pytest.raises(Malformed):
        authentication_results("mx.corp.example", [result])


@pytest.mark.parametrize(
    ("value", "authserv_id", "results"),
    [
        (  # RFC 8601 appendix B.3
            "example.com; auth=pass (cram-md5) smtp.auth=sender@example.net; spf=pass smtp.mailfrom=example.net",
            "example.com",
            (
                AuthResult("auth", "pass", "", (("smtp", "auth", "sender@example.net"),)),
                AuthResult("spf", "pass", "", (("smtp", "mailfrom", "example.net"),)),
            ),
        ),
        (  # RFC 8601 appendix B.7, abridged
            "foo.example.net (foobar) 1 (baz); dkim (Because I like it) / 1 (One yay) = (wait for it) fail policy (A"
            " dot can go here) . (like that) expired (this surprised me) = (as I wasn't expecting it) 1362471462",
            "foo.example.net",
            (AuthResult("dkim", "fail", "", (("policy", "expired", "1362471462"),)),),
        ),
        (
            "MX.Corp.Example; DKIM=Pass Header.D=X.Example",
            "MX.Corp.Example",
            (AuthResult("dkim", "pass", "", (("header", "d", "X.Example"),)),),
        ),
        ('"mx corp" 1; arc=none', "mx corp", (AuthResult("arc", "none"),)),
        (
            'a.example; spf=fail smtp.mailfrom="x y"@b.example',
            "a.example",
            (AuthResult("spf", "fail", "", (("smtp", "mailfrom", '"x y"@b.example'),)),),
        ),
        ('a.example; dkim=pass reason="a;b \\"c\\""', "a.example", (AuthResult("dkim", "pass", 'a;b "c"'),)),
        ("a.example; none", "a.example", ()),
        ("a.example;", "a.example", ()),
        ("a.example", "a.example", ()),
    ],
)
def test_fields_of_others_are_read(value: str, authserv_id: str, results: tuple[AuthResult, ...]) -> None:
    assert parse_authentication_results(value) == AuthenticationResults(authserv_id, results)


@pytest.mark.parametrize("value", ["", ";", "; spf=pass", "(comment); spf=pass", '"', "("])
def test_a_value_without_an_authserv_id_is_malformed(value: str) -> None:
    with pytest.raises(Malformed):
        parse_authentication_results(value)


@pytest.mark.parametrize(
    "value", ["a.example; spf=pass; what is this", 'a.example; spf=pass; "', "a.example; spf=pass; (x"]
)
def test_odd_parts_are_left_out_and_told(value: str) -> None:
    found = parse_authentication_results(value)
    assert (found.results, found.is_whole) == ((AuthResult("spf", "pass"),), False)


def test_results_beyond_the_limit_are_left_out_and_told() -> None:
    found = parse_authentication_results("a.example" + "; spf=pass" * (MAX_RESULTS + 1))
    assert (len(found.results), found.is_whole) == (MAX_RESULTS, False)


_keywords = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
_results = st.builds(
    AuthResult, _keywords, _keywords, _values, st.lists(st.tuples(_keywords, _keywords, _values), max_size=3).map(tuple)
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_results, max_size=4), _values.filter(bool))
def test_what_is_written_is_read_again(results: list[AuthResult], authserv_id: str) -> None:
    assert reread(authentication_results(authserv_id, results)) == AuthenticationResults(authserv_id, tuple(results))


@pytest.mark.parametrize("piece", ["(", '"', '\\"', "(\\", "(\\(", "\\", "a=", ";", "a.b=", "=", "/1", " "])
def test_a_huge_hostile_value_is_read_in_little_time(piece: str) -> None:
    started = time.perf_counter()
    found = parse_authentication_results("a.example;" + piece * 500_000)
    assert time.perf_counter() - started < 2.0
    assert not found.is_whole
