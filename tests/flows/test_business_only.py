"""S20: known business partners come in, everybody else is refused in session, and an entry wants its proof."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.policy.ledger import Identity, Proof
from gateway.store import whitelist
from gateway.verdict import Action, Verdict
from tests import make
from tests.flows.conftest import Start
from tests.flows.edge import arrival, arrivals
from tests.flows.gateway import PORTAL, Gateway, document, server
from tests.flows.peer import BOB, PARTNER_IP, Answer
from tests.nexthop import NextHop
from tests.product import wait_until

STRANGER_IP = "203.0.113.66"
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
REFUSAL = r"5\.7\.1 Sender is not a known business partner \(ref [0-9A-Z]{4}-[0-9A-Z]{4}\) " + re.escape(PORTAL)


def policy(inside: NextHop, outside: NextHop, mode: str = "enforce", **changes: Any) -> dict[str, Any]:
    return document(inside, outside, filters={"business_only": {"mode": mode}}, **changes)


@pytest.fixture(scope="module")
def gateway(arrange: Start, inside: NextHop, outside: NextHop) -> Gateway:
    entries = [
        server(),
        make.partner("partner.example", networks=(f"{PARTNER_IP}/32", "2001:db8:25::/48")),
        make.partner("weak.example", proof=Proof.NONE, networks=(), owner="ben", reason="tax adviser"),
        make.partner("group.example", subdomains=True),
        make.partner("one@person.example"),
        make.partner("bulk.example", identity=Identity.ENVELOPE_DOMAIN),
        make.partner("past.example", expires_at=YESTERDAY),
    ]
    return arrange(policy(inside, outside), entries)


def receive(
    gateway: Gateway, author: str, *to: str, ip: str = PARTNER_IP, mail_from: str | None = None, **fields: str
) -> Answer:
    raw = make.message(from_=author, **fields)
    return gateway.receive(raw, *(to or (BOB,)), ip=ip, mail_from=author if mail_from is None else mail_from)


def verdict_of(gateway: Gateway, answer: Answer) -> Verdict:
    (verdict,) = gateway.trace(answer.ref).verdicts
    return verdict


def is_refused(answer: Answer) -> bool:
    return answer.code == 550 and re.fullmatch(REFUSAL, answer.text) is not None


# -- who is in and who is not


def test_a_listed_partner_with_its_proof_is_delivered(gateway: Gateway, inside: NextHop) -> None:
    answer = receive(gateway, "ann@partner.example")
    assert answer.code == 250
    assert arrival(inside, answer.ref).recipients == [BOB]
    assert [f.reason for f in gateway.trace(answer.ref).findings] == ["business_only:listed"]


def test_an_unknown_sender_is_refused_in_session_with_the_reason_and_the_portal(gateway: Gateway) -> None:
    answer = receive(gateway, "eve@unknown.example", ip=STRANGER_IP)
    assert is_refused(answer), answer


def test_what_is_refused_is_not_delivered_and_its_trace_says_why(gateway: Gateway, inside: NextHop) -> None:
    answer = receive(gateway, "eve@unknown.example", ip=STRANGER_IP)
    verdict = verdict_of(gateway, answer)
    assert (verdict.action, verdict.reason) == (Action.REJECT, "business_only:unknown-sender")
    assert "eve@unknown.example" in verdict.detail
    assert gateway.outcomes(answer.ref) == []
    assert arrival(inside, receive(gateway, "ann@partner.example").ref)
    assert arrivals(inside, answer.ref) == []


# -- proof


def test_a_forged_partner_is_refused(gateway: Gateway) -> None:
    answer = receive(gateway, "ann@partner.example", ip=STRANGER_IP)
    assert is_refused(answer), answer
    assert verdict_of(gateway, answer).reason == "business_only:proof-missing"


def test_a_partner_is_pinned_to_its_ipv6_networks_as_well(gateway: Gateway) -> None:
    assert receive(gateway, "ann@partner.example", ip="2001:db8:25:1::7").code == 250
    assert is_refused(receive(gateway, "ann@partner.example", ip="2001:db8:26::7"))


def test_an_entry_without_proof_admits_from_anywhere(gateway: Gateway) -> None:
    assert receive(gateway, "tax@weak.example", ip=STRANGER_IP).code == 250


def test_an_entry_without_proof_is_shown_as_weak_wherever_it_stands(gateway: Gateway) -> None:
    answer = receive(gateway, "tax@weak.example", ip=STRANGER_IP)
    (finding,) = gateway.trace(answer.ref).findings
    assert finding.reason == "business_only:weak-proof"
    lines = gateway.command("whitelist", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines if "WEAK (none)" in line] == ["weak.example"]


def test_adding_an_entry_without_proof_says_that_it_is_weak(gateway: Gateway) -> None:
    done = gateway.command("whitelist", "add", "new.example", "--owner", "ben", "--reason", "tests")
    assert "weak" in done.stderr
    wait_until(lambda: receive(gateway, "ann@new.example", ip=STRANGER_IP).code == 250, 2, "the entry's effect")


@pytest.mark.parametrize(
    "from_",
    [
        "ann@partner.example, eve@evil.example",
        "eve@evil.example\r\nFrom: ann@partner.example",
        '"ann@partner.example" <eve@evil.example>',
        "eve@evil.example <ann@partner.example",
        "ann@partner.example]@evil.example",
    ],
    ids=["two authors", "two From fields", "name like an address", "bracket left open", "bracket in the address"],
)
def test_an_author_that_readers_may_see_otherwise_does_not_count(gateway: Gateway, from_: str) -> None:
    answer = gateway.receive(make.message(from_=from_), mail_from="ann@evil.example")
    assert is_refused(answer), answer


def test_the_envelope_alone_does_not_make_a_partner(gateway: Gateway) -> None:
    assert is_refused(receive(gateway, "eve@evil.example", mail_from="ann@partner.example"))


# -- which names an entry means


def test_a_sub_domain_is_admitted_only_where_the_entry_says_so(gateway: Gateway) -> None:
    assert is_refused(receive(gateway, "ann@mail.partner.example"))
    assert receive(gateway, "ann@mail.group.example").code == 250
    assert receive(gateway, "ann@a.b.group.example").code == 250
    assert is_refused(receive(gateway, "ann@evilgroup.example"))


def test_the_entry_of_a_sub_domain_does_not_admit_the_domain_above(gateway: Gateway) -> None:
    assert is_refused(receive(gateway, "ann@example"))


def test_an_address_entry_admits_that_address_only(gateway: Gateway) -> None:
    assert receive(gateway, "ONE@person.example").code == 250
    assert is_refused(receive(gateway, "other@person.example"))


def test_an_envelope_entry_admits_by_the_return_path(gateway: Gateway) -> None:
    assert receive(gateway, "news@anything.example", mail_from="bounce-17@bulk.example").code == 250
    assert is_refused(receive(gateway, "news@bulk.example", mail_from="ann@evil.example"))


# -- bounces


def send_out(gateway: Gateway, message_id: str, *to: str) -> str:
    """Send one message of ours to the world, wait until the database knows it, and return its reference."""
    raw = make.message(from_=BOB, message_id=message_id)
    with gateway.server() as peer:
        answer = peer.offer(raw, *(to or ("ann@partner.example",)), mail_from=BOB)
    assert answer.code == 250
    assert gateway.message(answer.ref)
    return answer.ref


def test_a_bounce_to_mail_that_we_sent_passes(gateway: Gateway, inside: NextHop) -> None:
    send_out(gateway, "<offer-1@corp.example>")
    answer = gateway.receive(make.bounce("<offer-1@corp.example>"), ip=STRANGER_IP, mail_from="")
    assert answer.code == 250, answer
    assert arrival(inside, answer.ref).mail.startswith("FROM:<>")
    assert [f.reason for f in gateway.trace(answer.ref).findings] == ["business_only:bounce"]


@pytest.mark.parametrize(
    "raw",
    [
        make.bounce("<never-sent@corp.example>"),
        make.message(from_="MAILER-DAEMON@partner.example"),
        make.message(("References", "<never-sent@corp.example>"), from_="ann@partner.example"),
    ],
    ids=["of another's mail", "of nothing", "answer to nothing of ours"],
)
def test_another_bounce_does_not(gateway: Gateway, raw: bytes) -> None:
    answer = gateway.receive(raw, mail_from="")
    assert is_refused(answer), answer
    assert verdict_of(gateway, answer).reason == "business_only:unsolicited-bounce"


def test_an_automatic_answer_to_mail_that_we_sent_passes(gateway: Gateway) -> None:
    send_out(gateway, "<offer-2@corp.example>")
    raw = make.message(("In-Reply-To", "<offer-2@corp.example>"), from_="ann@away.example", subject="Out of office")
    assert gateway.receive(raw, ip=STRANGER_IP, mail_from="").code == 250


def test_a_bounce_passes_that_names_the_message_id_as_it_left(
    gateway: Gateway, inside: NextHop, outside: NextHop
) -> None:
    clean = {"business_only": {"mode": "enforce"}, "header_hygiene": {"mode": "enforce"}}
    with gateway.under(document(inside, outside, filters=clean)):
        ref = send_out(gateway, "<offer-3@shop.corp.internal>")
    (left_as,) = re.findall(r"\r\nMessage-ID: (<.*>)\r\n", arrival(outside, ref).raw.decode())
    assert left_as != "<offer-3@shop.corp.internal>"
    assert gateway.receive(make.bounce(left_as), ip=STRANGER_IP, mail_from="").code == 250


# -- from whom the company writes to


def test_suggest_builds_the_list_from_whom_the_company_writes_to(gateway: Gateway) -> None:
    for number, to in enumerate(
        ("ann@steady.example", "carl@steady.example", "ann@steady.example", "tax@weak.example")
    ):
        send_out(gateway, f"<learn-{number}@corp.example>", to)
    suggested = {row["domain"]: row for row in gateway.ask("whitelist", "suggest")}
    assert (suggested["steady.example"]["addresses"], suggested["steady.example"]["messages"]) == (2, 3)
    assert not {"weak.example", "partner.example", "corp.example"} & suggested.keys(), "listed already, or ours"
    # What was suggested is admitted as a list, with the proof that the operator adds.
    file = gateway.folder / "admitted.csv"
    file.write_text(f"value,owner,reason,networks\nsteady.example,ben,we write to them,{STRANGER_IP}/32\n")
    gateway.command("whitelist", "import", file)
    wait_until(lambda: receive(gateway, "ann@steady.example", ip=STRANGER_IP).code == 250, 2, "the entry's effect")
    assert is_refused(receive(gateway, "ann@steady.example", ip=PARTNER_IP))


# -- what an entry has


def rows_of(gateway: Gateway) -> dict[str, Any]:
    with gateway.database() as database:
        return {row.entry.value: row for row in whitelist.list_entries(database)}


def test_an_entry_has_owner_reason_and_expiry(gateway: Gateway) -> None:
    rows = rows_of(gateway)
    assert (rows["weak.example"].entry.owner, rows["weak.example"].entry.reason) == ("ben", "tax adviser")
    assert rows["past.example"].entry.expires_at == YESTERDAY


def test_an_entry_past_its_expiry_admits_nobody(gateway: Gateway) -> None:
    assert is_refused(receive(gateway, "ann@past.example"))


def test_an_entry_knows_its_last_use(gateway: Gateway) -> None:
    before = rows_of(gateway)["one@person.example"]
    answer = receive(gateway, "one@person.example")
    assert gateway.message(answer.ref)
    after = wait_until(
        lambda: now if (now := rows_of(gateway)["one@person.example"]).last_used_at != before.last_used_at else None,
        10,
        "the entry's last use",
    )
    assert abs(datetime.now(UTC) - after.last_used_at) < timedelta(minutes=1)
    assert after.use_count == before.use_count + 1


# -- how far it is switched on


@pytest.mark.parametrize("exempt", ["postmaster@corp.example", "abuse@corp.example", "Postmaster@corp.example"])
def test_postmaster_takes_mail_from_anybody(gateway: Gateway, inside: NextHop, exempt: str) -> None:
    answer = receive(gateway, "eve@unknown.example", exempt, ip=STRANGER_IP)
    assert answer.code == 250
    assert len(arrival(inside, answer.ref).recipients) == 1


def test_postmaster_without_a_domain_takes_mail_from_anybody(gateway: Gateway) -> None:
    assert receive(gateway, "eve@unknown.example", "postmaster", ip=STRANGER_IP).code == 250


def test_beside_postmaster_another_recipient_is_still_not_written_to(gateway: Gateway, inside: NextHop) -> None:
    answer = receive(gateway, "eve@unknown.example", "postmaster@corp.example", BOB, ip=STRANGER_IP)
    assert answer.code == 250, "one of them takes it; the other's share is held"
    assert arrival(inside, answer.ref).recipients == ["postmaster@corp.example"]
    actions = {str(one): verdict.action for verdict in gateway.trace(answer.ref).verdicts for one in verdict.recipients}
    assert actions == {"postmaster@corp.example": Action.DELIVER, BOB: Action.QUARANTINE}


def test_in_shadow_it_says_what_it_would_have_done_and_blocks_nothing(
    gateway: Gateway, inside: NextHop, outside: NextHop
) -> None:
    with gateway.under(policy(inside, outside, "shadow")):
        answer = receive(gateway, "eve@unknown.example", ip=STRANGER_IP)
    assert answer.code == 250
    assert arrival(inside, answer.ref)
    verdict = verdict_of(gateway, answer)
    assert (verdict.action, verdict.would) == (Action.DELIVER, Action.REJECT)
    assert verdict.would_reason == "business_only:unknown-sender"
    assert is_refused(receive(gateway, "eve@unknown.example", ip=STRANGER_IP))


def test_in_observe_mode_nobody_is_refused_for_being_unknown(
    gateway: Gateway, inside: NextHop, outside: NextHop
) -> None:
    with gateway.under(policy(inside, outside, observe=True)):
        answer = receive(gateway, "eve@unknown.example", ip=STRANGER_IP)
        with gateway.partner() as peer:
            assert peer.offer(make.message(), "ann@world.example").code == 550, "relaying stays refused"
    assert answer.code == 250
    assert arrival(inside, answer.ref)
    assert verdict_of(gateway, answer).would is Action.REJECT
