"""`gatepost whitelist`: partners admitted with owner, reason, proof and end; wrong input changes nothing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.mail.envelope import Direction
from gateway.policy.ledger import Identity, Proof
from gateway.store import whitelist
from gateway.store.database import Database
from tests import make
from tests.commands.conftest import Run
from tests.judged import keep

Ask = Callable[..., Any]

OWNED = ("--owner", "anna", "--reason", "supplier")


def entries(database: Database) -> list[Any]:
    return [listed.entry for listed in whitelist.list_entries(database)]


def test_a_pinned_partner_is_admitted(run: Run, database: Database) -> None:
    pinned = ("--network", "192.0.2.0/24", "--network", "2001:db8::/32")
    result = run("whitelist", "add", "Northwind.Example", *OWNED, *pinned)
    [entry] = entries(database)
    assert (entry.value, entry.identity, entry.proof) == (
        "northwind.example",
        Identity.AUTHOR_DOMAIN,
        Proof.PINNED_ADDRESS,
    )
    assert entry.networks == ("192.0.2.0/24", "2001:db8::/32")
    assert result.stdout == f"northwind.example is admitted (author_domain), entry {entry.id}.\n"
    assert result.stderr == ""


def test_a_partner_without_proof_is_shown_as_weak(run: Run, database: Database) -> None:
    result = run("whitelist", "add", "treuhand.example", *OWNED, "--until", "90d")
    assert "Its proof is weak" in result.stderr
    assert "WEAK (none)" in run("whitelist", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "identity"),
    [
        (["a@b.example"], Identity.AUTHOR_ADDRESS),
        (["b.example", "--envelope"], Identity.ENVELOPE_DOMAIN),
        (["a@b.example", "--envelope"], Identity.ENVELOPE_ADDRESS),
    ],
)
def test_what_is_admitted_may_be_an_address_or_the_envelope(
    run: Run, ask: Ask, database: Database, arguments: list[str], identity: Identity
) -> None:
    assert ask("whitelist", "add", *arguments, *OWNED)["identity"] == identity


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["north wind", *OWNED], 1, "north wind: "),
        (["a@@b.example", *OWNED], 1, "a@@b.example: "),
        (["b.example", "--owner", "anna"], 2, "Missing option '--reason'"),
        (["b.example", "--owner", " ", "--reason", "x"], 1, "the owner is missing"),
        (["b.example", *OWNED, "--network", "192.0.2.7/24"], 1, "192.0.2.7/24: not a network"),
        (["b.example", *OWNED, "--network", "internet"], 1, "internet: not a network"),
        (["b.example", *OWNED, "--proof", "pinned_address"], 1, "pinned_address goes with --network"),
        (["b.example", *OWNED, "--proof", "none", "--network", "192.0.2.7"], 1, "--network with pinned_address"),
        (["b.example", *OWNED, "--proof", "dmarc"], 2, "Invalid value for '--proof'"),
        (["b.example", *OWNED, "--until", "soon"], 2, "Invalid value for '--until': 'soon' should be a day like"),
        (["b.example", *OWNED, "--until", "2020-01-01"], 2, "'2020-01-01' lies in the past"),
        (["b.example", *OWNED, "--until", "99999999999d"], 2, "should be a day like 2027-06-30"),
    ],
)
def test_wrong_input_is_named_and_changes_nothing(
    run: Run, database: Database, arguments: list[str], status: int, says: str
) -> None:
    assert says in run("whitelist", "add", *arguments, status=status).stderr
    assert entries(database) == []


def test_the_same_entry_twice_is_a_conflict(run: Run, database: Database) -> None:
    run("whitelist", "add", "b.example", *OWNED)
    assert "there is such a whitelist entry already" in run("whitelist", "add", "B.example", *OWNED, status=1).stderr


def test_an_entry_ends_and_is_kept_as_ended(run: Run, database: Database) -> None:
    run("whitelist", "add", "b.example", *OWNED)
    [entry] = entries(database)
    assert run("whitelist", "end", entry.id, "-m", "no customer any more").stdout == f"Entry {entry.id} has ended.\n"
    assert run("whitelist", "list").stdout == "No exceptions: everything unknown is refused.\n"
    assert "ended 2" in run("whitelist", "list", "--ended").stdout
    assert f"no current whitelist entry {entry.id}" in run("whitelist", "end", entry.id, status=1).stderr


def test_an_entry_gets_another_end(run: Run, database: Database) -> None:
    run("whitelist", "add", "b.example", *OWNED, "--until", "2d")
    [entry] = entries(database)
    day = (datetime.now(UTC) + timedelta(days=100)).date()
    assert run("whitelist", "renew", entry.id, "--until", str(day)).stdout == f"b.example is admitted until {day}.\n"
    assert run("whitelist", "renew", entry.id).stdout == "b.example is admitted without an end.\n"


def test_entries_are_imported_from_a_table(run: Run, ask: Ask, database: Database) -> None:
    Path("partners.csv").write_text(
        "value,owner,reason,networks,until\n"
        "a.example,anna,supplier,192.0.2.0/24 198.51.100.7,90d\n"
        "b@b.example,ben,adviser\n"
    )
    assert ask("whitelist", "import", "partners.csv") == {"read": 2, "added": 2}
    first, second = sorted(entries(database), key=lambda entry: entry.value)
    assert (first.networks, first.proof) == (("192.0.2.0/24", "198.51.100.7/32"), Proof.PINNED_ADDRESS)
    assert (second.identity, second.expires_at) == (Identity.AUTHOR_ADDRESS, None)
    assert run("whitelist", "import", "partners.csv").stdout == "0 of 2 entries are new.\n"


def test_a_wrong_line_stops_the_whole_import(run: Run, database: Database) -> None:
    table = (
        "value,owner,reason,networks,until\na.example,anna,supplier\nb b,ben,x\nc.example,,x\nd.example,d,x,internet\n"
    )
    result = run("whitelist", "import", "-", input=table, status=1)
    lines = result.stderr.splitlines()
    assert lines[0] == "gatepost: -: nothing was added"
    assert [line.strip()[:7] for line in lines[1:]] == ["line 3:", "line 4:", "line 5:"]
    assert "the owner is missing" in lines[2]
    assert entries(database) == []


@pytest.mark.parametrize("table", ["", "domain,who\n", "value,owner\n"])
def test_a_table_without_its_columns_is_told(run: Run, database: Database, table: str) -> None:
    result = run("whitelist", "import", "-", input=table, status=1)
    assert "the first line should name the columns value, owner, reason, networks, until" in result.stderr


def test_whom_we_write_to_is_suggested(run: Run, ask: Ask, database: Database) -> None:
    now = datetime.now(UTC)
    for to in ("ann@partner.example", "x@known.example"):
        envelope = make.envelope("bob@corp.example", make.recipient(to, Direction.OUTBOUND))
        keep(database, make.case(envelope=envelope, now=now), results={to: {}})
    run("whitelist", "add", "known.example", *OWNED)
    assert [row["domain"] for row in ask("whitelist", "suggest")] == ["partner.example"]
    assert "partner.example" in run("whitelist", "suggest").stdout
    assert run("whitelist", "suggest", "--least", "5").stdout.startswith("Nobody outside the whitelist")
    assert "Invalid value for '--days'" in run("whitelist", "suggest", "--days", "0", status=2).stderr


def test_who_may_send_as_us(run: Run, ask: Ask, database: Database) -> None:
    added = ask("whitelist", "ourselves", "add", "corp.example", "--network", "198.51.100.7", *OWNED)
    assert added["networks"] == ["198.51.100.7/32"]
    assert "198.51.100.7/32" in run("whitelist", "ourselves", "list").stdout
    assert "has ended" in run("whitelist", "ourselves", "end", added["id"]).stdout
    assert run("whitelist", "ourselves", "list").stdout == "Nobody outside may send as us.\n"
    wrong = run("whitelist", "ourselves", "add", "corp.example", "--network", "x", *OWNED, status=1)
    assert "x: not a network" in wrong.stderr
    wrong = run("whitelist", "ourselves", "add", "corp example", "--network", "192.0.2.1", *OWNED, status=1)
    assert "corp example: " in wrong.stderr
