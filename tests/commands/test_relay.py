"""`gatepost relay`: who inside may send through us, with owner, purpose and sender domains."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.store import relay_sources
from gateway.store.database import Database
from tests.commands.conftest import Run

Ask = Callable[..., Any]

OWNED = ("--owner", "dora", "--purpose", "order confirmations")


def test_a_source_is_approved_and_listed(run: Run, database: Database) -> None:
    limits = ("--domain", "Shop.Example", "--max-per-hour", "100")
    run("relay", "add", "10.1.2.3", *OWNED, "--kind", "application", *limits)
    [listed] = relay_sources.list_entries(database)
    assert (listed.entry.network, listed.entry.kind) == ("10.1.2.3/32", "application")
    assert (listed.entry.allowed_domains, listed.entry.max_per_hour) == (("shop.example",), 100)
    shown = run("relay", "list").stdout
    for words in ("10.1.2.3/32", "order confirmations", "shop.example", "100", "dora"):
        assert words in shown


def test_without_domains_a_source_may_use_ours(run: Run, database: Database) -> None:
    run("relay", "add", "10.0.0.0/24", *OWNED)
    run("relay", "add", "10.0.1.0/24", *OWNED, "--any-sender")
    shown = run("relay", "list").stdout
    assert "our domains" in shown
    assert "anybody" in shown


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["10.1.2.3/24", *OWNED], 1, "10.1.2.3/24: not a network"),
        (["server5", *OWNED], 1, "server5: not a network"),
        (["10.1.2.3", "--owner", "dora"], 2, "Missing option '--purpose'"),
        (["10.1.2.3", *OWNED, "--kind", "toaster"], 2, "Invalid value for '--kind'"),
        (["10.1.2.3", *OWNED, "--domain", "shop example"], 1, "shop example: "),
        (["10.1.2.3", *OWNED, "--max-per-hour", "-1"], 2, "Invalid value for '--max-per-hour'"),
    ],
)
def test_wrong_input_is_named_and_changes_nothing(
    run: Run, database: Database, arguments: list[str], status: int, says: str
) -> None:
    assert says in run("relay", "add", *arguments, status=status).stderr
    assert relay_sources.list_entries(database) == []


def test_an_approval_ends_and_gets_another_end(run: Run, ask: Ask, database: Database) -> None:
    id = ask("relay", "add", "10.1.2.3", *OWNED, "--until", "30d")["id"]
    assert run("relay", "renew", id).stdout == "10.1.2.3/32 may relay without an end.\n"
    assert run("relay", "end", id, "-m", "switched off").stdout == f"Entry {id} has ended.\n"
    assert run("relay", "list").stdout == "No source may relay.\n"
    assert [row["ended_by"] != "" for row in ask("relay", "list", "--ended")] == [True, True]
    assert f"no current relay source entry {id}" in run("relay", "renew", id, status=1).stderr


def test_a_network_is_approved_once(run: Run, database: Database) -> None:
    run("relay", "add", "10.1.2.3", *OWNED)
    assert "there is such a relay source entry already" in run("relay", "add", "10.1.2.3/32", *OWNED, status=1).stderr
