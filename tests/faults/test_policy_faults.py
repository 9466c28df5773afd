"""A policy that cannot be used never replaces a good one, wherever it comes from."""

import time
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from gateway.policy.document import Document
from gateway.store import policies
from gateway.store.policies import policy_versions
from tests.faults.hop import NextHop
from tests.faults.sender import Refused, send_one
from tests.product import Product, wait_until


def slip_in(product: Product, text: str) -> int:
    """Put a document in force as a hand in the database would: unchecked."""
    document = Document.model_validate(product.policy)
    with product.database() as database:
        version = policies.publish(database, document, by="nobody", comment="slipped in", now=datetime.now(UTC))
        row = policy_versions.c.version == version
        with database.writing() as connection:
            connection.execute(update(policy_versions).where(row).values(document=text))
    return version


def is_refused_everywhere(product: Product, version: int) -> bool:
    processes = {event["process"] for event in product.events("policy.refused") if event["version"] == version}
    return {"smtp-1", "smtp-2"} <= processes


def with_filter(product: Product, name: str) -> dict[str, object]:
    return {**product.policy, "filters": {name: {"mode": "enforce"}}}


def test_publish_names_what_is_wrong_and_changes_nothing(product: Product, hop: NextHop) -> None:
    done = product.publish(with_filter(product, "no_such_filter"), check=False)
    assert done.returncode == 1
    assert "no_such_filter" in done.stderr
    send_one(product.port, "still")
    wait_until(lambda: hop.receptions, 20, "delivery")
    assert not product.events("policy.refused")


@pytest.mark.parametrize(
    "text",
    [
        Document.model_validate({"filters": {"no_such_filter": {"mode": "enforce"}}}).model_dump_json(),
        '{"domains": {"corp.example.com": {"any_recipient": "perhaps"}}}',
        "{ not JSON",
        "",
    ],
    ids=["unknown filter", "wrong value", "not JSON", "empty"],
)
def test_a_bad_document_in_the_database_leaves_the_good_one_in_force(product: Product, hop: NextHop, text: str) -> None:
    version = slip_in(product, text)
    wait_until(lambda: is_refused_everywhere(product, version), 20, f"policy.refused of version {version}")
    send_one(product.port, "after")
    wait_until(lambda: hop.receptions, 20, "delivery by the policy before")
    # The next good one is taken up again, by the processes that refused the bad one.
    domains = {"new.example.com": {"any_recipient": True}}
    product.publish({**product.policy, "domains": domains})
    began = time.monotonic()
    wait_until(lambda: is_taken(product, "anna@new.example.com"), 20, "the new domain")
    assert time.monotonic() - began < 5
    assert len(product.events("process.died")) == 0


def is_taken(product: Product, recipient: str) -> bool:
    try:
        send_one(product.port, f"probe-{time.monotonic_ns()}", (recipient,))
    except Refused:
        return False
    return True


def test_a_bad_document_does_not_survive_as_the_last_good_one(product: Product, hop: NextHop) -> None:
    version = slip_in(product, "{ not JSON")
    wait_until(lambda: is_refused_everywhere(product, version), 20, f"policy.refused of version {version}")
    product.kill_all()
    product.start()
    sent = send_one(product.port, "after")
    wait_until(lambda: hop.receptions, 20, "delivery by the last good policy")
    assert {recipient for one in hop.receptions for recipient in one.recipients} == set(sent.recipients)
    assert not is_taken(product, "anna@elsewhere.example.com")
