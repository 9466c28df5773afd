"""Examples stand between a rule and its publication."""

from typing import Any

import pytest

from gateway.policy.compile import rule_source
from gateway.policy.rules import examples
from tests.policy.rules.ruled import leaf, policy, rule


def problems(when: Any, *given: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    compiled = policy(rule(when, examples=list(given), **more))
    return list(examples.problems(compiled.document.rules, rule_source(compiled.document), compiled))


HELLO = leaf("subject", "equals", "hello")


@pytest.mark.parametrize(
    ("when", "example"),
    [
        (HELLO, {}),
        (HELLO, {"message": "From: a@b.example\nSubject: HELLO"}),
        (leaf("mail_from", "exists", False), {"mail_from": ""}),
        (leaf("rcpt", "equals", "eve@corp.example"), {"recipients": ["bob@corp.example", "eve@corp.example"]}),
        (leaf("client.ip", "in_network", "2001:db8::/32"), {"client_ip": "2001:db8::1"}),
        (leaf("tls.version", "equals", "TLSv1.3"), {"tls": "TLSv1.3"}),
        (leaf("text", "contains", "pay"), {"text": "Please pay"}),
        (leaf("file.extension", "equals", "exe"), {"files": [{"names": ["run.exe"]}]}),
        (leaf("file.macro", "equals", "auto_run"), {"files": [{"macro": "suspicious"}]}),
        (leaf("link.host", "equals", "evil.test"), {"links": [{"target": "https://evil.test/"}]}),
        (leaf("tag", "equals", "vip"), {"tags": ["vip"]}),
        (leaf("finding", "equals", "business_only:listed"), {"findings": ["business_only:listed"]}),
        (leaf("time.hour", "greater", 21), {"at": "2026-11-24T22:30:00Z"}),
    ],
)
def test_an_example_is_judged_by_what_it_says(when: dict[str, Any], example: dict[str, Any]) -> None:
    assert problems(when, {"expect": "match", **example}) == []
    ((path, message),) = problems(when, {"expect": "no_match", "name": "first", **example})
    assert path == "rules.0.examples.0"
    assert "example 'first' of rule 1 should be no_match, and is match" in message


def test_what_cannot_be_told_is_what_the_rule_says_of_it() -> None:
    unknown = leaf("client.listed", "equals", True, name="bl.example")
    for when_unknown in ("match", "no_match", "defer"):
        assert problems(unknown, {"expect": when_unknown}, when_unknown=when_unknown) == []


@pytest.mark.parametrize("more", [{"mode": "off"}, {"mode": "shadow"}, {"expires_at": "2020-01-01T00:00:00Z"}])
def test_examples_of_rules_that_do_not_run_are_checked_as_well(more: dict[str, Any]) -> None:
    assert problems(HELLO, {"expect": "match"}, **more) == []
    assert problems(HELLO, {"expect": "no_match"}, **more) != []


def test_a_rule_for_another_direction_does_not_match() -> None:
    assert (
        problems(HELLO, {"expect": "no_match"}, {"expect": "match", "direction": "outbound"}, direction="outbound")
        == []
    )


@pytest.mark.parametrize("example", [{"recipients": ["nobody"]}, {"mail_from": "@"}, {"client_ip": "here"}])
def test_an_example_that_cannot_be_read_is_named(example: dict[str, Any]) -> None:
    assert [path for path, _ in problems(HELLO, {"expect": "match", **example})] == ["rules.0.examples.0"]
