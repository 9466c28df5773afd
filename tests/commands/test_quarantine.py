"""`gatepost quarantine`: what is held, and what a person does with it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.accepted import Kept, Objection, State
from gateway.mail.reference import reference
from gateway.masterkey import load_master_key
from gateway.relay.held_mail import pack
from gateway.settings import Settings
from gateway.store import audit, held
from gateway.store.database import Database
from gateway.vault import Vault
from tests import make
from tests.commands.conftest import Run
from tests.store.make import ADA, BOB, accepted, item, states, store

Ask = Callable[..., Any]

NOW = datetime.now(UTC)
WHY = ("--reason", "because")
RAW = make.message(from_="eve@sender.example", subject="Offer")
UNKNOWN = Objection("business_only:unknown-sender", "nobody knows eve@sender.example")
FORGED = Objection("own_domain:forged", "claims corp.example", is_floor=True)


def hold(database: Database, settings: Settings, *to: Any, objections: tuple[Objection, ...] = (UNKNOWN,)) -> str:
    """Put a held message into the vault; return its id."""
    to = to or (ADA,)
    envelope = make.envelope("eve@sender.example", *[make.recipient(str(one)) for one in to])
    kept = Kept(make.session(), envelope, objections)
    one = accepted(
        *to, at=NOW, held="business_only", held_reason=objections[0].reason, subject="Offer", author="eve", kept=kept
    )
    store(database, item(one))
    vault = Vault(settings.vault, load_master_key(settings.master_key))
    held.set_vault_name(database, one.id, 0, vault.put("held", f"0-{one.id}", pack(one, RAW)))
    return one.id


def test_what_is_held_is_listed_with_its_reasons_and_its_end(
    run: Run, ask: Ask, database: Database, settings: Settings
) -> None:
    id = hold(database, settings, objections=(UNKNOWN, FORGED))
    shown = run("quarantine", "list").stdout
    until = NOW + timedelta(days=30)
    for words in (
        reference(id),
        f"{until:%Y-%m-%d}",
        "eve",
        "ada@corp.example",
        "Offer",
        UNKNOWN.reason,
        FORGED.reason,
    ):
        assert words in shown
    [row] = ask("quarantine", "list", "--kind", "business_only", "--to", "ada@corp.example")
    assert (row["message_id"], row["objections"][1]["is_floor"]) == (id, True)
    assert run("quarantine", "list", "--to", "bob@corp.example").stdout == "Nothing is held.\n"


def test_one_item_is_shown_without_the_message(run: Run, database: Database, settings: Settings) -> None:
    id = hold(database, settings, objections=(UNKNOWN, FORGED))
    shown = run("quarantine", "show", reference(id)).stdout
    assert f"reason     {UNKNOWN.reason}: {UNKNOWN.detail}\n" in shown
    assert f"reason     {FORGED.reason}: {FORGED.detail} (safety floor: no release opens it)" in shown
    assert "Hello, Bob" not in shown
    assert audit.entries(database, subject="held item") == []


def test_several_are_released_and_one_that_cannot_be_leaves_the_others_alone(
    run: Run, database: Database, settings: Settings
) -> None:
    first, floor, second = (
        hold(database, settings),
        hold(database, settings, objections=(FORGED,)),
        hold(database, settings),
    )
    result = run("quarantine", "release", *map(reference, (first, floor, second)), *WHY, status=1)
    assert result.stdout.splitlines() == [f"{reference(id)}: released for ada@corp.example" for id in (first, second)]
    assert result.stderr == (
        f"gatepost: {reference(floor)}: own_domain:forged belongs to the safety floor: no release opens it\n"
    )
    assert states(database, first) == states(database, second) == {"ada@corp.example": State.QUEUED}
    assert states(database, floor) == {"ada@corp.example": State.HELD}


def test_one_recipient_and_one_reason_may_be_meant(run: Run, ask: Ask, database: Database, settings: Settings) -> None:
    id = hold(database, settings, ADA, BOB)
    order = ["quarantine", "release", reference(id), "--to", "bob@corp.example", "--waive", UNKNOWN.reason, *WHY]
    [done] = ask(*order)["done"]
    assert (done["waived"], len(done["released"])) == ([UNKNOWN.reason], 1)
    assert states(database, id) == {"ada@corp.example": State.HELD, "bob@corp.example": State.QUEUED}
    assert "is not among what holds it" in run(
        "quarantine", "release", reference(id), "--waive", "loop:hops", *WHY, status=1
    ).stderr  # fmt: skip


def test_what_was_undeliverable_is_delivered_again(run: Run, database: Database, settings: Settings) -> None:
    one = accepted(at=NOW, held="undeliverable")
    store(database, item(one))
    vault = Vault(settings.vault, load_master_key(settings.master_key))
    held.set_vault_name(database, one.id, 0, vault.put("held", f"0-{one.id}", pack(one, RAW)))
    assert run("quarantine", "release", reference(one.id), *WHY).stdout == (
        f"{reference(one.id)}: released for ada@corp.example\n"
    )
    assert states(database, one.id) == {"ada@corp.example": State.QUEUED}
    assert len(list(settings.spool.glob("*/*.seg"))) == 1


def test_judging_again_notes_what_objects_today(run: Run, database: Database, settings: Settings) -> None:
    id = hold(database, settings)  # the policy in force has no filter
    shown = run("quarantine", "judge", reference(id), *WHY).stdout
    assert shown == f"{reference(id)}: nothing objects any more\n"
    assert held.get(database, id, 0).objections == ()
    assert states(database, id) == {"ada@corp.example": State.HELD}


def test_several_are_deleted_for_one_recipient_or_all(run: Run, database: Database, settings: Settings) -> None:
    first, second = hold(database, settings, ADA, BOB), hold(database, settings, ADA, BOB)
    refs = (reference(first), reference(second))
    assert run("quarantine", "delete", *refs, "--to", "ada@corp.example", *WHY).stdout == "2 deliveries are deleted.\n"
    assert states(database, first) == {"ada@corp.example": State.DELETED, "bob@corp.example": State.HELD}
    assert run("quarantine", "delete", *refs, *WHY).stdout == "2 deliveries are deleted.\n"
    assert {entry.action for entry in audit.entries(database, subject="held item")} == {"delete"}


def test_the_message_is_exported_as_received_and_that_is_written_down(
    run: Run, database: Database, settings: Settings, tmp_path: Path
) -> None:
    id = hold(database, settings)
    file = tmp_path / "message.eml"
    run("quarantine", "export", reference(id), "--output", file, *WHY)
    assert file.read_bytes() == RAW
    assert file.stat().st_mode & 0o777 == 0o600
    assert run("quarantine", "export", reference(id), *WHY).stdout_bytes == RAW
    orders = audit.entries(database, subject="held item")
    assert [(one.action, one.by, one.comment) for one in orders] == [("export", "ann", "because")] * 2
    assert "File exists" in run("quarantine", "export", reference(id), "-o", file, *WHY, status=1).stderr


def test_what_is_past_its_kinds_retention_expires(run: Run, database: Database, settings: Settings) -> None:
    old = accepted(at=NOW - timedelta(days=31), held="business_only")
    store(database, item(old))
    new = hold(database, settings)
    assert run("quarantine", "expire").stdout == "1 item has expired.\n"
    assert states(database, old.id) == {"ada@corp.example": State.DELETED}
    assert states(database, new) == {"ada@corp.example": State.HELD}


def test_what_happened_to_held_mail_is_explained(run: Run, ask: Ask, database: Database, settings: Settings) -> None:
    id = hold(database, settings)
    shown = run("explain", reference(id)).stdout
    assert f"group 0: business_only, since {NOW:%Y-%m-%d %H:%M}\n" in shown
    assert f"{UNKNOWN.reason}: {UNKNOWN.detail}" in shown
    run("quarantine", "release", reference(id), *WHY)
    shown = run("explain", reference(id)).stdout
    assert "released" in shown
    assert f"release by ann for ada@corp.example: because (waived {UNKNOWN.reason}; policy 1)" in shown
    [told] = ask("explain", reference(id))
    assert ([one["state"] for one in told["held"]], [one["action"] for one in told["orders"]]) == (
        ["released"],
        ["release"],
    )


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["release", "7KQ2-M9PX", *WHY], 1, "not held: 7KQ2-M9PX"),
        (["release", "7KQ2-M9PX"], 2, "Missing option '--reason'"),
        (["release", *WHY], 2, "Missing argument"),
        (["delete", "no-ref", *WHY], 1, "not held: no-ref"),
        (["list", "--to", "nobody"], 1, "nobody: "),
        (["export", "7KQ2-M9PX", *WHY], 1, "not held: 7KQ2-M9PX"),
        (["export", "7KQ2-M9PX"], 2, "Missing option '--reason'"),
    ],
)
def test_wrong_input_is_named(run: Run, database: Database, arguments: list[str], status: int, says: str) -> None:
    assert says in run("quarantine", *arguments, status=status).stderr


def test_a_second_release_says_who_was_first(run: Run, database: Database, settings: Settings) -> None:
    id = hold(database, settings)
    run("quarantine", "release", reference(id), *WHY)
    again = run("quarantine", "release", reference(id), *WHY, status=1).stderr
    assert again == f"gatepost: not held: {reference(id)} (released by ann)\n"


def test_mail_that_the_vault_has_lost_is_not_released(run: Run, database: Database) -> None:
    one = accepted(held="business_only")
    store(database, item(one))
    held.set_vault_name(database, one.id, 0, "held/aa/0-LOST00")
    result = run("quarantine", "release", reference(one.id), *WHY, status=1)
    assert "the vault has no held/aa/0-LOST00" in result.stderr
    assert states(database, one.id) == {"ada@corp.example": State.HELD}


def test_a_full_disk_is_told(run: Run, database: Database, settings: Settings) -> None:
    id = hold(database, settings)
    settings.spool.parent.mkdir(exist_ok=True)
    settings.spool.touch()  # where a folder should be
    result = run("quarantine", "release", reference(id), *WHY, status=1)
    assert result.stderr.startswith("gatepost: the spool cannot be written: ")
    assert states(database, id) == {"ada@corp.example": State.HELD}
