"""S3 by the operator's own rules: fields added, set and removed in both directions, held, refused and routed mail."""

import time
from typing import Any

import pytest

from gateway.accepted import State
from gateway.verdict import Change
from tests import make
from tests.flows.conftest import Start
from tests.flows.edge import arrival
from tests.flows.gateway import Gateway, document, server
from tests.nexthop import NextHop, Taken
from tests.product import wait_until

EFFECT_SECONDS = 2.0


def rule(number: int, section: str, *actions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"number": number, "section": section, "mode": "enforce", "actions": list(actions), **more}


def subject(text: str) -> dict[str, Any]:
    return {"field": "subject", "op": "contains", "value": text}


RULES = [
    rule(
        10,
        "transform",
        {"do": "remove_header", "name": "X-Foo", "pattern": "^secret"},
        {"do": "set_header", "name": "Organization", "value": "Corp"},
        {"do": "add_header", "name": "X-Bar", "value": "added going out"},
        direction="outbound",
    ),
    rule(
        11,
        "transform",
        {"do": "remove_header", "name": "X-Spam-Status"},
        {"do": "add_header", "name": "X-Bar", "value": "added coming in"},
        {"do": "subject", "prefix": "[EXT]"},
        direction="inbound",
    ),
    rule(20, "deny", {"do": "reject", "category": "business"}, when=subject("lottery")),
    rule(21, "deny", {"do": "defer"}, when=subject("later")),
    rule(22, "deny", {"do": "discard"}, when=subject("nothing")),
    rule(30, "hold", {"do": "quarantine", "kind": "review"}, when=subject("invoice")),
    rule(40, "route", {"do": "route", "route": "outside"}, when=subject("detour")),
    rule(50, "deny", {"do": "reject"}, when=subject("shadowy"), mode="shadow"),
]


def policy(inside: NextHop, outside: NextHop, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return document(inside, outside, rules=rules)


@pytest.fixture(scope="module")
def gateway(arrange: Start, inside: NextHop, outside: NextHop) -> Gateway:
    return arrange(policy(inside, outside, RULES), [server()])


def send_out(gateway: Gateway, *fields: tuple[str, str]) -> str:
    """Send one message to the world and return its reference."""
    with gateway.server() as peer:
        answer = peer.offer(
            make.message(*fields, from_="bob@corp.example"), "ann@partner.example", mail_from="bob@corp.example"
        )
    assert answer.code == 250
    return answer.ref


def values(taken: Taken, name: str) -> list[str]:
    """Return the values of the fields of that name, as they are on the wire."""
    header = taken.raw.partition(b"\r\n\r\n")[0].decode()
    return [line.partition(": ")[2] for line in header.split("\r\n") if line.lower().startswith(f"{name.lower()}:")]


def test_outgoing_mail_loses_and_gains_fields(gateway: Gateway, outside: NextHop) -> None:
    fields = (("X-Foo", "secret one"), ("Organization", "Corp, Dept. 7"), ("X-FOO", "open"), ("X-Other", "stays"))
    taken = arrival(outside, send_out(gateway, *fields))
    assert values(taken, "X-Foo") == ["open"]
    assert values(taken, "X-Bar") == ["added going out"]
    assert values(taken, "Organization") == ["Corp"]
    assert values(taken, "X-Other") == ["stays"]
    assert values(taken, "Subject") == ["Hello"]


def test_incoming_mail_loses_and_gains_fields_of_its_own(gateway: Gateway, inside: NextHop) -> None:
    taken = arrival(inside, gateway.receive(make.message(("X-Spam-Status", "No"), ("X-Foo", "secret"))).ref)
    assert values(taken, "X-Spam-Status") == []
    assert values(taken, "X-Foo") == ["secret"]
    assert values(taken, "X-Bar") == ["added coming in"]
    assert values(taken, "Subject") == ["[EXT] Hello"]


def test_the_trace_names_rule_version_and_lines_before_and_after(gateway: Gateway) -> None:
    ref = send_out(gateway, ("X-Foo", "secret"), ("Organization", "Corp, Dept. 7"))
    trace = gateway.trace(ref)
    (verdict,) = trace.verdicts
    assert verdict.policy_version == gateway.message(ref).policy_version > 0
    assert [one.reason for one in trace.findings if one.filter == "rule"] == ["rule:10"]
    to = make.addresses("ann@partner.example")
    assert set(trace.changes) == {
        Change(to, "X-Foo: secret", None),
        Change(to, "Organization: Corp, Dept. 7", "Organization: Corp"),
        Change(to, None, "X-Bar: added going out"),
    }


def test_explain_shows_the_rule_and_its_lines_to_the_operator(gateway: Gateway) -> None:
    ref = send_out(gateway, ("X-Foo", "secret"))
    assert gateway.message(ref).policy_version > 0
    shown = gateway.command("explain", ref).stdout
    assert "rule:10" in shown
    assert "- X-Foo: secret\n" in shown
    assert "+ X-Bar: added going out\n" in shown


def test_a_refusal_tells_its_category_and_no_rule(gateway: Gateway) -> None:
    answer = gateway.receive(make.message(subject="You won the LOTTERY"))
    assert (answer.code, answer.text.startswith("5.7.1 Sender is not a known business partner")) == (550, True)
    assert "rule" not in answer.text
    assert gateway.receive(make.message(subject="later")).code == 451


def test_held_mail_is_kept_under_the_rules_kind(gateway: Gateway, inside: NextHop) -> None:
    ref = gateway.receive(make.message(subject="Your invoice")).ref
    gateway.settled(ref, bob=State.HELD)
    (item,) = gateway.ask("quarantine", "list", "--kind", "review")
    assert (item["kind"], item["reason"], item["subject"]) == ("review", "rule:30", "Your invoice")


def test_a_route_leads_elsewhere(gateway: Gateway, outside: NextHop) -> None:
    taken = arrival(outside, gateway.receive(make.message(subject="A detour")).ref)
    assert values(taken, "Subject") == ["[EXT] A detour"]


def test_discarded_mail_is_accepted_and_shadow_lets_pass(gateway: Gateway, inside: NextHop) -> None:
    assert gateway.receive(make.message(subject="nothing")).code == 250
    assert arrival(inside, gateway.receive(make.message(subject="shadowy")).ref)
    assert not [one for one in inside.messages if b"Subject: [EXT] nothing" in one.raw]


def test_the_next_message_within_two_seconds_of_publishing_shows_the_edit(
    gateway: Gateway, inside: NextHop, outside: NextHop
) -> None:
    edit = rule(12, "transform", {"do": "add_header", "name": "X-Baz", "value": "new"}, direction="outbound")
    gateway.publish(policy(inside, outside, [edit]))
    published = time.monotonic()

    def shows() -> bool:
        return values(arrival(outside, send_out(gateway)), "X-Baz") == ["new"]

    wait_until(shows, EFFECT_SECONDS, "X-Baz at the sink")
    assert time.monotonic() - published < EFFECT_SECONDS


def test_a_rule_whose_example_fails_is_not_published(gateway: Gateway, inside: NextHop, outside: NextHop) -> None:
    before = gateway.ask("policy", "list")[0]["version"]
    wrong = rule(13, "deny", {"do": "reject"}, when=subject("x"), examples=[{"expect": "match"}])
    done = gateway.publish(policy(inside, outside, [wrong]), check=False)
    assert done.returncode != 0
    assert "rules.0.examples.0: example of rule 13 should be match, and is no_match" in done.stderr
    assert gateway.ask("policy", "list")[0]["version"] == before
