"""S3: the operator edits header fields in both directions, by the options of the filter `header_hygiene`."""

import time
from typing import Any

import pytest

from gateway.verdict import Change
from tests import make
from tests.flows.conftest import Start
from tests.flows.edge import arrival
from tests.flows.gateway import Gateway, document, server
from tests.nexthop import NextHop, Taken
from tests.product import wait_until

EFFECT_SECONDS = 2.0
OUTBOUND = {
    "remove": ["X-Foo"],
    "replace": [{"name": "Organization", "value": "Corp"}],
    "add": [{"name": "X-Bar", "value": "added going out"}],
}
INBOUND = {"remove": ["X-Spam-*"], "add": [{"name": "X-Bar", "value": "added coming in"}]}


def policy(inside: NextHop, outside: NextHop, **edits: Any) -> dict[str, Any]:
    return document(inside, outside, filters={"header_hygiene": {"mode": "enforce", "options": edits}})


@pytest.fixture(scope="module")
def gateway(arrange: Start, inside: NextHop, outside: NextHop) -> Gateway:
    return arrange(policy(inside, outside, outbound=OUTBOUND, inbound=INBOUND), [server()])


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
    fields = (("X-Foo", "first"), ("Organization", "Corp, Dept. 7"), ("X-FOO", "second"), ("X-Other", "stays"))
    taken = arrival(outside, send_out(gateway, *fields))
    assert values(taken, "X-Foo") == []
    assert values(taken, "X-Bar") == ["added going out"]
    assert values(taken, "Organization") == ["Corp"]
    assert values(taken, "X-Other") == ["stays"]


def test_incoming_mail_loses_and_gains_fields_of_its_own(gateway: Gateway, inside: NextHop) -> None:
    raw = make.message(("X-Foo", "stays"), ("X-Spam-Status", "No"), ("x-spam-score", "-1"))
    taken = arrival(inside, gateway.receive(raw).ref)
    assert values(taken, "X-Foo") == ["stays"]
    assert values(taken, "X-Spam-Status") + values(taken, "X-Spam-Score") == []
    assert values(taken, "X-Bar") == ["added coming in"]


def test_the_body_and_the_other_fields_pass_untouched(gateway: Gateway, outside: NextHop) -> None:
    odd = ("X-Odd", "  two blanks,\r\n\tfolded  \r\n by hand")
    raw = make.message(odd, from_="bob@corp.example", body=b"..\r\n.dot\r\n\r\n\xff trailing blanks  \r\n")
    with gateway.server() as peer:
        ref = peer.offer(raw, "ann@partner.example", mail_from="bob@corp.example", parameters="BODY=8BITMIME").ref
    assert arrival(outside, ref).raw.endswith(raw)


def test_the_trace_names_the_policy_version_and_the_lines_before_and_after(gateway: Gateway) -> None:
    ref = send_out(gateway, ("X-Foo", "first"), ("Organization", "Corp, Dept. 7"))
    trace = gateway.trace(ref)
    (verdict,) = trace.verdicts
    assert verdict.policy_version == gateway.message(ref).policy_version > 0
    to = make.addresses("ann@partner.example")
    assert set(trace.changes) == {
        Change(to, "X-Foo: first", None),
        Change(to, "Organization: Corp, Dept. 7", "Organization: Corp"),
        Change(to, None, "X-Bar: added going out"),
    }


def test_explain_shows_version_and_lines_to_the_operator(gateway: Gateway) -> None:
    ref = send_out(gateway, ("X-Foo", "first"))
    version = gateway.message(ref).policy_version
    shown = gateway.command("explain", ref).stdout
    assert f"version {version}\n" in shown
    assert "- X-Foo: first\n" in shown
    assert "+ X-Bar: added going out\n" in shown


def test_the_next_message_within_two_seconds_of_publishing_shows_the_edit(
    gateway: Gateway, inside: NextHop, outside: NextHop
) -> None:
    edits = {"add": [{"name": "X-Baz", "value": "new"}]}
    gateway.publish(policy(inside, outside, outbound=edits))
    published = time.monotonic()

    def shows() -> bool:
        return values(arrival(outside, send_out(gateway)), "X-Baz") == ["new"]

    wait_until(shows, EFFECT_SECONDS, "X-Baz at the sink")
    assert time.monotonic() - published < EFFECT_SECONDS
