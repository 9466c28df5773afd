"""S28: the policy is hot: published, it holds in every worker within two seconds, and for whole messages."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.commands.policy import check_document
from gateway.policy.document import Document
from gateway.store import policies
from tests import make
from tests.flows.conftest import Start
from tests.flows.edge import arrival
from tests.flows.gateway import WORKERS, Gateway, document, processes
from tests.flows.peer import BOB, answer
from tests.nexthop import NextHop
from tests.product import wait_until

EFFECT_SECONDS = 2.0


def policy(inside: NextHop, *domains: str, **changes: Any) -> dict[str, Any]:
    names = ("corp.example", *domains)
    return document(inside, **{"domains": {name: {"any_recipient": True} for name in names}, **changes})


@pytest.fixture(scope="module")
def gateway(arrange: Start, inside: NextHop) -> Gateway:
    return arrange(policy(inside))


def is_taken(gateway: Gateway, domain: str) -> bool:
    with gateway.partner() as peer:
        assert peer.ask("MAIL FROM:<ann@partner.example>").startswith("250 ")
        return peer.ask(f"RCPT TO:<bob@{domain}>").startswith("250 ")


# -- publish to effect


def test_a_published_policy_holds_in_every_worker_within_two_seconds(gateway: Gateway, inside: NextHop) -> None:
    version = gateway.publish_here(policy(inside, "second.example"))
    with gateway.database() as database:
        published = next(row.published_at for row in policies.versions(database) if row.version == version)
    everywhere = {*WORKERS, "deliver"}
    loaded = wait_until(lambda: loaded_everywhere(gateway, version, everywhere), 20, f"version {version} everywhere")
    late = {process: at - published for process, at in loaded.items() if at - published > effect()}
    assert late == {}
    # Connections are spread over the workers: whichever takes one, the new domain is known.
    assert Counter(is_taken(gateway, "second.example") for _ in range(16)) == {True: 16}


def effect() -> timedelta:
    return timedelta(seconds=EFFECT_SECONDS)


def loaded_everywhere(gateway: Gateway, version: int, processes: set[str]) -> dict[str, datetime] | None:
    loaded = gateway.loaded_at(version)
    return loaded if loaded.keys() >= processes else None


def test_a_roll_back_is_a_publication_like_any_other(gateway: Gateway, inside: NextHop) -> None:
    before = gateway.put_in_force(policy(inside))
    gateway.put_in_force(policy(inside, "third.example"))
    assert is_taken(gateway, "third.example")
    with gateway.database() as database:
        version = policies.rollback(database, before, "tests", now=datetime.now(UTC), check=check_document)
    wait_until(lambda: loaded_everywhere(gateway, version, set(WORKERS)), EFFECT_SECONDS, "the old policy")
    assert not is_taken(gateway, "third.example")


# -- one message, one policy


def test_a_message_keeps_the_version_that_it_began_with(gateway: Gateway, inside: NextHop) -> None:
    edits = {"inbound": {"add": [{"name": "X-Edit", "value": "new"}]}}
    hygiene = {"header_hygiene": {"mode": "enforce", "options": edits}, "loop": {"mode": "enforce"}}
    old = gateway.put_in_force(policy(inside, "kept.example"))
    with gateway.partner() as begun, gateway.partner() as idle:
        assert begun.ask("MAIL FROM:<ann@partner.example>").startswith("250 ")
        new = gateway.put_in_force(policy(inside, filters=hygiene))
        # Both connections are older than the new version; only the message that had begun stays with the old one.
        assert begun.ask("RCPT TO:<bob@kept.example>").startswith("250 ")
        assert begun.ask("DATA").startswith("354 ")
        begun.send(make.message() + b".\r\n")
        first = answer(begun.reply())
        second = idle.offer(make.message(), BOB)
        third = begun.offer(make.message(), BOB)
        assert begun.offer(make.message(), "bob@kept.example").code == 550
    assert [gateway.message(one.ref).policy_version for one in (first, second, third)] == [old, new, new]
    (verdict,) = gateway.trace(first.ref).verdicts
    assert verdict.policy_version == old
    assert "loop" in gateway.trace(first.ref).off
    assert "loop" not in gateway.trace(second.ref).off
    assert b"X-Edit" not in arrival(inside, first.ref).raw
    assert b"X-Edit: new\r\n" in arrival(inside, second.ref).raw


def test_between_two_messages_of_one_connection_the_policy_may_change(gateway: Gateway, inside: NextHop) -> None:
    with gateway.partner() as peer:
        for name in ("one.example", "two.example"):
            version = gateway.put_in_force(policy(inside, name))
            found = peer.offer(make.message(), f"bob@{name}")
            assert found.code == 250
            assert gateway.message(found.ref).policy_version == version


# -- a policy that does not compile


def test_a_policy_that_does_not_compile_is_not_published(gateway: Gateway, inside: NextHop) -> None:
    before = gateway.put_in_force(policy(inside))
    bad = policy(inside, inbound_route="nowhere", filters={"no_such_filter": {}})
    done = gateway.publish(bad, check=False)
    assert done.returncode == 1
    assert "inbound_route: no such route: 'nowhere'" in done.stderr
    assert "filters.no_such_filter: no such filter" in done.stderr
    with gateway.database() as database:
        assert policies.load(database)[0] == before


def test_a_policy_that_does_not_compile_never_replaces_a_good_one(gateway: Gateway, inside: NextHop) -> None:
    good = gateway.put_in_force(policy(inside))
    # As another release or a hand in the database may leave it: published unchecked, and not just now.
    bad = Document.model_validate(policy(inside, filters={"no_such_filter": {}}))
    with gateway.database() as database:
        version = policies.publish(
            database, bad, by="nobody", comment="tests", now=datetime.now(UTC) - timedelta(minutes=1)
        )
    wait_until(lambda: refused_by(gateway, version) >= set(WORKERS), 20, "policy.refused in every worker")
    found = gateway.receive(make.message())
    assert found.code == 250
    assert gateway.message(found.ref).policy_version == good
    wait_until(lambda: gateway.health()[0] == 503, 20, "/health says so")
    check = gateway.health()[1]["policy"]
    assert not check["ok"]
    assert f"version {version}" in check["says"]
    assert gateway.put_in_force(policy(inside)) > version
    wait_until(lambda: gateway.health()[0] == 200, 20, "/health is well again")


def refused_by(gateway: Gateway, version: int) -> set[str]:
    return processes(event for event in gateway.events("policy.refused") if event["version"] == version)
