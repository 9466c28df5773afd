"""S16, S17 and S21 over real sockets: who holds the key gets in, nobody else; it changes by the month and by hand.

The key opens the refusal of unknown senders here; whatever else it opens is judged in the same way.
"""

import base64
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.masterkey import load_master_key
from gateway.policy.keys import BypassKey
from gateway.policy.periods import begins_at, next_period, period_of, zone_of
from gateway.store import audit, bypass_keys, counters, revisions
from gateway.store.bypass_keys import KeySecrets, Revealed
from gateway.verdict import Action
from tests import make
from tests.faults.sender import stuffed
from tests.flows.conftest import Start
from tests.flows.edge import arrival
from tests.flows.gateway import PORTAL, WORKERS, Gateway, document, server
from tests.flows.peer import BOB, Answer, answer
from tests.nexthop import NextHop
from tests.product import wait_until

KEY = make.KEY
STRANGER_IP = "203.0.113.66"
STRANGER = "eve@unknown.example"
SNAPSHOT_SECONDS = 1.5  # until a process has told which revision it uses
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
FILTERS = {
    name: {"mode": "enforce"} for name in ("bypass_key", "business_only", "own_domain", "loop", "header_hygiene")
}
CLASSES = {
    "files": {"opens": ["business", "attachment"]},
    "attachments": {"opens": ["attachment"]},
    "strict": {"opens": ["business"], "grace_days": 0, "monthly": False},
}
REFUSAL = r"5\.7\.1 Sender is not a known business partner \(ref [0-9A-Z]{4}-[0-9A-Z]{4}\) " + re.escape(PORTAL)


@pytest.fixture(scope="module")
def gateway(start: Start, inside: NextHop, outside: NextHop) -> Gateway:
    """A product of our own: its database is taken away. The key of the tests is live in it."""
    policy = document(inside, outside, filters=FILTERS, key_classes=CLASSES, time_zone="Europe/Zurich")
    gateway = start(policy, [server(), make.partner("partner.example")])
    add_key(gateway, KEY)
    return gateway


def sealing(gateway: Gateway) -> KeySecrets:
    return KeySecrets(load_master_key(gateway.data / "master.key"))


def key_of(**changes: Any) -> BypassKey:
    """A key as the row says it. Without a month it is personal, and the scheduler leaves it alone."""
    usual = {"key_class": "files", "length": 12, "valid_from": NOW - DAY, "expires_at": NOW + 30 * DAY}
    return BypassKey(**{"id": "", "digest": "", **usual, **changes})


def add_key(gateway: Gateway, clear: str = "", **changes: Any) -> Revealed:
    """Add a key and wait until every worker knows it."""
    with gateway.database() as database:
        made = bypass_keys.add(database, sealing(gateway), key_of(**changes), by="tests", now=NOW, clear=clear)
    wait_for_ledger(gateway)
    return made


def wait_for_ledger(gateway: Gateway) -> None:
    """Wait until every worker uses the ledger as it is now: the change within two seconds, and the word of it."""
    with gateway.database() as database:
        revision = revisions.current(database).ledger_revision

    def is_in_force() -> bool:
        told = re.findall(r'^gatepost_ledger_revision\{process="([a-z0-9-]+)"\} (\d+)', gateway.metrics(), re.MULTILINE)
        return {process for process, number in told if int(number) >= revision} >= set(WORKERS)

    wait_until(is_in_force, 2 + SNAPSHOT_SECONDS, f"ledger revision {revision} in force")


def receive(gateway: Gateway, *fields: tuple[str, str], to: tuple[str, ...] = (BOB,), **values: Any) -> Answer:
    raw = make.message(*fields, **{"from_": STRANGER, **values})
    return gateway.receive(raw, *to, ip=STRANGER_IP, mail_from=STRANGER)


def is_refused(one: Answer) -> bool:
    return one.code == 550 and re.fullmatch(REFUSAL, one.text) is not None


def codes(gateway: Gateway, one: Answer) -> list[str]:
    return [finding.code for finding in gateway.trace(one.ref).findings if finding.filter == "bypass_key"]


def subject_at(hop: NextHop, one: Answer) -> bytes:
    found = re.search(rb"\r\nSubject: ?((?:[^\r]|\r\n[ \t])*)", arrival(hop, one.ref).raw)
    assert found
    return found[1]


def b(text: str) -> str:
    return f"=?utf-8?B?{base64.b64encode(text.encode()).decode()}?="


def q(text: str) -> str:
    return "=?utf-8?Q?" + "".join(f"={octet:02X}" for octet in text.encode()) + "?="


# -- S16, S21: who holds the key gets in


@pytest.mark.parametrize(
    ("subject", "arrives_as"),
    [
        (f"Files for the web server {KEY}", b"Files for the web server"),
        (f"Files {KEY.lower()}", b"Files"),
        (b(f"Files {KEY}"), b"Files"),
        (q(f"Files {KEY}"), b"Files"),
        (f"{b('Files FF9A02')}\r\n {b('2BC918')}", b"Files"),
        (f"{q('Files FF9A02')} {b('2BC918')}", b"Files"),
        (f"Files for the\r\n web server\r\n\t{KEY}", b"Files for the web server"),
        (f"Files ({KEY})", b"Files"),
        (f'["{KEY}"] Files', b"Files"),
        (f"Files {KEY}.", b"Files."),
        ("Files FF9A-022B-C918", b"Files"),
        ("Files FF9A 022B C918", b"Files"),
        (f"{b('Gr' + chr(252) + 'n')} {KEY}", b("Gr" + chr(252) + "n").replace("B?", "b?").encode()),
    ],
)
def test_with_the_key_an_unknown_sender_is_delivered_and_the_key_is_gone(
    gateway: Gateway, inside: NextHop, subject: str, arrives_as: bytes
) -> None:
    one = receive(gateway, subject=subject)
    assert one.code == 250, one
    assert subject_at(inside, one) == arrives_as
    assert codes(gateway, one) == ["strip", "key"]


def test_without_the_key_he_is_refused(gateway: Gateway) -> None:
    assert is_refused(receive(gateway, subject="Files for the web server"))


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ([], {"subject": f"Files {KEY}AB"}),
        ([], {"subject": f"Files AB{KEY}"}),
        ([], {"body": f"{KEY}\r\n".encode()}),
        ([], {"from_": f'"{KEY}" <{STRANGER}>'}),
        ([("X-Subject", f"Files {KEY}")], {}),
        ([("Subject", f"Files {KEY}")], {}),
    ],
    ids=["longer", "longer", "body", "From name", "another field", "second Subject"],
)
def test_the_key_anywhere_else_opens_nothing(gateway: Gateway, fields: Any, values: Any) -> None:
    assert is_refused(receive(gateway, *fields, **values))


def test_the_key_in_an_attachment_opens_nothing(gateway: Gateway) -> None:
    body = f"--x\r\nContent-Type: text/plain; name={KEY}.txt\r\n\r\n{KEY}\r\n--x--\r\n".encode()
    assert is_refused(receive(gateway, ("Content-Type", 'multipart/mixed; boundary="x"'), body=body))


def test_two_subject_fields_are_flagged(gateway: Gateway) -> None:
    one = receive(gateway, ("Subject", "Files"), subject=f"Files {KEY}")
    assert is_refused(one)
    assert codes(gateway, one) == ["strip", "two_subjects"]


def test_the_key_opens_what_its_class_lists(gateway: Gateway) -> None:
    other = add_key(gateway, key_class="attachments")
    assert is_refused(receive(gateway, subject=f"Files {other.key}"))


def test_the_key_never_opens_the_safety_floor(gateway: Gateway) -> None:
    forged = receive(gateway, subject=f"Files {KEY}", from_="boss@corp.example")
    assert (forged.code, gateway.trace(forged.ref).verdicts[0].reason) == (550, "own_domain:forged")
    hops = [("Received", "from a.example by b.example; Tue, 24 Nov 2026 09:00:00 +0000")] * 120
    looping = receive(gateway, *hops, subject=f"Files {KEY}")
    assert (looping.code, gateway.trace(looping.ref).verdicts[0].reason) == (554, "loop:hops")
    assert gateway.receive(make.message(subject=KEY), "ann@world.example", ip=STRANGER_IP).code == 550  # relaying


def test_wrong_expired_and_absent_keys_get_the_same_words_and_guesses_are_counted(gateway: Gateway) -> None:
    expired = add_key(gateway, expires_at=NOW - timedelta(hours=1))
    before = guesses(gateway)
    subjects = ("Files", "Files FF9A022BC919", f"Files {expired.key}")
    answers = [receive(gateway, subject=subject) for subject in subjects]
    assert all(map(is_refused, answers))
    assert len({one.text.replace(one.ref, "REF").partition("/why")[0] for one in answers}) == 1
    assert [codes(gateway, one) for one in answers] == [[], ["wrong_key"], ["strip", "expired_key"]]
    assert guesses(gateway) == {code: before.get(code, 0) + 1 for code in ("wrong_key", "expired_key")}
    wait_until(lambda: 'finding="bypass_key:wrong_key"' in gateway.metrics(), 10, "the guess among the figures")


def guesses(gateway: Gateway) -> dict[str, int]:
    with gateway.database() as database:
        totals = counters.totals(database, "findings", since=NOW - timedelta(hours=1))
    return {name.partition(":")[2]: number for name, number in totals.items()}


def test_guesses_lock_nobody_out(gateway: Gateway) -> None:
    for number in range(20):
        assert is_refused(receive(gateway, subject=f"Files AB9A022BC9{number:02d}"))
    assert receive(gateway, subject=f"Files {KEY}").code == 250


# -- the key leaves no trace


def test_replies_of_our_people_leave_without_the_key(gateway: Gateway, outside: NextHop) -> None:
    raw = make.message(("Thread-Topic", f"Files {KEY}"), from_=BOB, subject=f"Re: Files {KEY}")
    with gateway.server() as peer:
        one = peer.offer(raw, "eve@unknown.example", mail_from=BOB)
    assert one.code == 250
    assert subject_at(outside, one) == b"Re: Files"
    assert KEY.encode() not in arrival(outside, one.ref).raw


def test_on_the_way_in_the_thread_topic_loses_it_too(gateway: Gateway, inside: NextHop) -> None:
    one = receive(gateway, ("Thread-Topic", f"Files {KEY}"), subject=f"Files {KEY}")
    assert b"\r\nThread-Topic: Files\r\n" in arrival(inside, one.ref).raw


def test_no_file_of_ours_holds_the_key(gateway: Gateway, inside: NextHop) -> None:
    key = add_key(gateway).key
    grouped = f"{key[:4]}-{key[4:8]}-{key[8:]}"
    answers = [
        receive(gateway, ("Thread-Topic", f"Files {key}"), subject=f"Files {key}"),
        receive(gateway, subject=f"Files {grouped}"),
        receive(gateway, subject=b(f"Files {key}")),
        receive(gateway, ("Subject", key), subject=f"Files {key}"),
        receive(gateway, from_=f"{key} <{STRANGER}>"),
        receive(gateway, ("X-Copy", f"Files {key}"), subject=f"Files {key}", from_="boss@corp.example"),
        gateway.receive(make.message(subject=f"Files {key}")),
    ]
    traces = [gateway.trace(one.ref) for one in answers]
    assert [one.code for one in answers] == [250, 250, 250, 550, 550, 550, 250]
    assert gateway.message(answers[0].ref).subject == f"Files {marker(traces[0].case.facts.subject)}"
    assert all("[key " in str(one.case.facts.fields) for one in traces)
    (change,) = [one for one in traces[1].changes if one.before and one.before.startswith("Subject")]
    assert change.before is not None
    assert (marker(change.before) in change.before, change.after) == (True, "Subject: Files")
    assert arrival(inside, answers[-1].ref)
    with gateway.database() as database:
        bypass_keys.reveal(
            database, sealing(gateway), traces[0].findings[-1].entry or key_id(gateway, key), by="t", now=NOW
        )
    spellings = [text.encode() for one in (key, grouped, b(f"Files {key}")) for text in (one, one.lower())]
    files = [path for path in gateway.folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        held = path.read_bytes()
        assert not [one for one in spellings if one in held], path


def key_id(gateway: Gateway, key: str) -> str:
    """Return the id of a key's row."""
    with gateway.database() as database:
        rows = bypass_keys.list_entries(database)
        return next(
            row.entry.id for row in rows if bypass_keys.digest_of(sealing(gateway).match_key, key) == row.entry.digest
        )


def marker(text: str) -> str:
    found = re.search(r"\[key [0-9a-f]{4}\]", text)
    assert found, text
    return found[0]


def test_the_use_of_a_key_is_noted_with_it(gateway: Gateway) -> None:
    made = add_key(gateway)
    one = receive(gateway, subject=f"Files {made.key}")
    assert gateway.message(one.ref)
    (row,) = [row for row in gateway.ask("key", "list") if row["id"] == made.entry.id]
    assert (row["state"], row["opened"]) == ("valid", 1)
    assert made.key not in gateway.command("key", "list").stdout


# -- S17: the monthly change


def test_the_scheduler_makes_the_months_keys_by_itself(gateway: Gateway) -> None:
    zone = zone_of("Europe/Zurich")
    month = period_of(datetime.now(UTC), zone)

    def made() -> list[BypassKey]:
        with gateway.database() as database:
            rows = bypass_keys.list_entries(database)
        return [row.entry for row in rows if row.entry.period == month]

    wait_until(lambda: len(made()) == 2, 30, "a key for each class that has one")
    assert {one.key_class for one in made()} == {"files", "attachments"}
    for one in made():
        assert (one.valid_from, one.expires_at) == (begins_at(month, zone), begins_at(next_period(month), zone))


def test_the_key_is_shown_to_the_operator_who_is_audited_and_it_opens(gateway: Gateway) -> None:
    test_the_scheduler_makes_the_months_keys_by_itself(gateway)
    wait_for_ledger(gateway)
    shown = gateway.ask("key", "show", "files")
    assert receive(gateway, subject=f"Files {shown['key']}").code == 250
    with gateway.database() as database:
        (entry,) = audit.entries(database, subject="bypass_key", subject_id=shown["id"], limit=1)
    assert entry.action == "reveal"


def test_rotated_by_hand_the_old_key_opens_nothing_and_the_new_one_does_within_two_seconds(gateway: Gateway) -> None:
    old = gateway.ask("key", "rotate", "files")["key"]
    wait_for_ledger(gateway)
    assert receive(gateway, subject=f"Files {old}").code == 250
    new = gateway.ask("key", "rotate", "files", "--comment", "leaked")["key"]
    wait_for_ledger(gateway)
    assert is_refused(receive(gateway, subject=f"Files {old}"))
    assert receive(gateway, subject=f"Files {new}").code == 250


def test_in_its_days_of_grace_the_key_of_last_month_still_opens(gateway: Gateway) -> None:
    last = add_key(gateway, valid_from=NOW - 40 * DAY, expires_at=NOW - 4 * DAY, period="2020-01")
    older = add_key(gateway, valid_from=NOW - 70 * DAY, expires_at=NOW - 6 * DAY, period="2020-02")
    assert receive(gateway, subject=f"Files {last.key}").code == 250
    assert is_refused(receive(gateway, subject=f"Files {older.key}"))


def test_the_relay_itself_switches_keys_at_their_instants(gateway: Gateway) -> None:
    now = datetime.now(UTC)
    change = now + timedelta(seconds=8)
    old = add_key(gateway, key_class="strict", expires_at=change)
    new = add_key(gateway, key_class="strict", valid_from=change)
    assert datetime.now(UTC) < change, "this machine is too slow for the test"
    before = [receive(gateway, subject=f"Files {one.key}") for one in (old, new)]
    if datetime.now(UTC) < change:
        assert [one.code for one in before] == [250, 550]
    with gateway.database() as database:
        revision = revisions.current(database).ledger_revision
    wait_until(lambda: datetime.now(UTC) >= change, 20, "the change")
    after = [receive(gateway, subject=f"Files {one.key}") for one in (old, new)]
    assert [one.code for one in after] == [550, 250]
    assert gateway.trace(after[1].ref).verdicts[0].ledger_revision == revision


def test_a_message_keeps_the_keys_that_its_transaction_began_with(gateway: Gateway) -> None:
    made = add_key(gateway)
    raw = make.message(from_=STRANGER, subject=f"Files {made.key}")
    with gateway.partner(STRANGER_IP) as peer:
        assert peer.ask(f"MAIL FROM:<{STRANGER}>").startswith("250 ")
        assert peer.ask(f"RCPT TO:<{BOB}>").startswith("250 ")
        assert peer.ask("DATA").startswith("354 ")
        gateway.command("key", "revoke", made.entry.id)
        wait_for_ledger(gateway)
        peer.socket.sendall(stuffed(raw))
        assert answer(peer.reply()).code == 250
        assert is_refused(peer.offer(raw, mail_from=STRANGER))


# -- personal keys and limited uses


def test_a_personal_key_is_for_its_recipient_and_sender(gateway: Gateway) -> None:
    made = gateway.ask(
        "key", "add", "files", "--recipient", BOB, "--sender", "unknown.example", "--until", "7d", "--owner", "anna"
    )
    wait_for_ledger(gateway)
    subject = f"Files {made['key']}"
    assert receive(gateway, subject=subject).code == 250
    assert is_refused(receive(gateway, subject=subject, to=("carol@corp.example",)))
    assert is_refused(receive(gateway, subject=subject, from_="eve@else.example"))


def test_of_two_recipients_he_for_whom_the_key_is_gets_the_message(gateway: Gateway, inside: NextHop) -> None:
    made = add_key(gateway, recipients=(BOB,))
    one = receive(gateway, subject=f"Files {made.key}", to=(BOB, "carol@corp.example"))
    assert one.code == 250
    assert arrival(inside, one.ref).recipients == [BOB]
    assert {verdict.action for verdict in gateway.trace(one.ref).verdicts} == {Action.DELIVER, Action.QUARANTINE}


def test_a_one_time_key_opens_for_one_message_and_for_its_repetition(gateway: Gateway) -> None:
    made = add_key(gateway, uses=1)
    same = {"subject": f"Files {made.key}", "message_id": "<one@unknown.example>"}
    # Who missed our 250 sends the same octets again.
    assert [receive(gateway, **same).code for _ in range(2)] == [250, 250]
    other = receive(gateway, subject=f"Files {made.key}", message_id="<two@unknown.example>")
    assert is_refused(other)
    assert codes(gateway, other) == ["strip", "uses_spent"]


def test_a_one_time_key_used_by_many_at_once_opens_for_exactly_one(gateway: Gateway) -> None:
    made = add_key(gateway, uses=1)
    barrier = threading.Barrier(8)
    answers: list[Answer] = []

    def send(number: int) -> None:
        raw = make.message(from_=STRANGER, subject=f"Files {made.key}", message_id=f"<{number}@unknown.example>")
        with gateway.partner(STRANGER_IP) as peer:
            barrier.wait(30)
            answers.append(peer.offer(raw, mail_from=STRANGER))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(one.code for one in answers) == [250] + [550] * 7
    assert all(is_refused(one) for one in answers if one.code == 550)


def test_a_partner_on_the_whitelist_takes_no_use(gateway: Gateway) -> None:
    made = add_key(gateway, uses=1)
    for _ in range(2):
        assert gateway.receive(make.message(subject=f"Files {made.key}")).code == 250
    assert receive(gateway, subject=f"Files {made.key}").code == 250


@contextmanager
def database_moved(gateway: Gateway, folder: Path) -> Iterator[None]:
    files = list(gateway.data.glob("gatepost.db*"))
    for file in files:
        file.rename(folder / file.name)
    try:
        yield
    finally:
        for file in files:
            (folder / file.name).rename(file)


def test_without_the_database_a_limited_key_defers_and_the_monthly_one_opens(gateway: Gateway, tmp_path: Path) -> None:
    made = add_key(gateway, uses=1)
    with database_moved(gateway, tmp_path):
        deferred = receive(gateway, subject=f"Files {made.key}")
        assert (deferred.code, deferred.text[:5]) == (451, "4.3.0"), deferred
        assert receive(gateway, subject=f"Files {KEY}").code == 250
        assert is_refused(receive(gateway, subject="Files"))
    assert receive(gateway, subject=f"Files {made.key}").code == 250
    assert is_refused(receive(gateway, subject=f"Files again {made.key}"))
