from datetime import timedelta
from typing import Any

import pytest

from gateway.filters.business_only import FILTER, Bounces, Options
from gateway.mail.envelope import Direction, ListenerKind
from gateway.policy.ledger import Identity, LedgerEntry, Proof
from gateway.verdict import Action, Answer, Case, Finding, SentMessageQuestion, Unknown
from tests import make

WEAK: dict[str, Any] = {"proof": Proof.NONE, "networks": ()}


def found(case: Case, *entries: LedgerEntry, **options: Any) -> list[Finding]:
    return make.judge_with(FILTER, Options(**options), case, *entries)


def codes(findings: list[Finding]) -> list[str]:
    return [one.code for one in findings]


def test_a_listed_partner_with_its_proof_is_admitted() -> None:
    findings = found(make.case(), make.partner())
    assert [(one.code, one.action, one.entry) for one in findings] == [("listed", Action.DELIVER, "w1")]


def test_everybody_else_is_refused() -> None:
    findings = found(make.case())
    assert [(one.code, one.action, one.category) for one in findings] == [("unknown-sender", Action.REJECT, "business")]


def test_a_forged_partner_is_refused() -> None:
    findings = found(make.case(session=make.session(peer_ip="203.0.113.9")), make.partner())
    assert [(one.code, one.action, one.entry) for one in findings] == [("proof-missing", Action.REJECT, "w1")]


def test_an_entry_without_proof_admits_and_is_called_weak() -> None:
    findings = found(make.case(session=make.session(peer_ip="203.0.113.9")), make.partner(**WEAK))
    assert [(one.code, one.action, one.entry) for one in findings] == [("weak-proof", Action.DELIVER, "w1")]


def test_a_proven_entry_is_preferred_to_a_weak_one() -> None:
    findings = found(make.case(), make.partner("ann@partner.example", id="weak", **WEAK), make.partner(id="strong"))
    assert [(one.code, one.entry) for one in findings] == [("listed", "strong")]


@pytest.mark.parametrize(
    ("author", "mail_from", "entry", "code"),
    [
        ("ann@partner.example", "x@other.example", make.partner("ann@partner.example"), "listed"),
        ("eve@partner.example", "x@other.example", make.partner("ann@partner.example"), "unknown-sender"),
        ("ann@sub.partner.example", "x@other.example", make.partner(), "unknown-sender"),
        ("ann@sub.partner.example", "x@other.example", make.partner(subdomains=True), "listed"),
        ("x@other.example", "r@partner.example", make.partner(), "unknown-sender"),
        ("x@other.example", "r@partner.example", make.partner(identity=Identity.ENVELOPE_DOMAIN), "listed"),
        (
            "x@other.example",
            "r@partner.example",
            make.partner("r@partner.example", identity=Identity.ENVELOPE_ADDRESS),
            "listed",
        ),
        ("ann@partner.example", "", make.partner(expires_at=make.NOW - timedelta(days=1)), "unknown-sender"),
    ],
)
def test_what_an_entry_names_must_be_there(author: str, mail_from: str, entry: LedgerEntry, code: str) -> None:
    envelope = make.envelope(mail_from or "x@other.example")
    assert codes(found(make.case(make.message(from_=author), envelope=envelope), entry)) == [code]


@pytest.mark.parametrize(
    "values",
    [
        ["ann@partner.example", "x@evil.example"],
        ["x@evil.example", "ann@partner.example"],
        ["ann@partner.example", "ann@partner.example"],
        ["ann@partner.example, x@evil.example"],
        ["Group: ann@partner.example, bea@partner.example;"],
        ["x@evil.example]@partner.example"],
        ["=?utf-8?q?ann=40partner.example?="],
        ["<ann@partner.example> <x@evil.example>"],
        [""],
        [],
    ],
)
def test_only_one_clear_author_is_a_pass(values: list[str]) -> None:
    raw = make.message(*[("From", value) for value in values], without=["From"])
    findings = found(make.case(raw), make.partner(), make.partner(identity=Identity.ENVELOPE_DOMAIN, id="w2"))
    assert [(one.code, one.action) for one in findings] == [("unclear-author", Action.REJECT)]


def test_an_author_in_a_display_name_admits_nobody() -> None:
    raw = make.message(from_='"ann@partner.example" <x@evil.example>')
    assert codes(found(make.case(raw), make.partner())) == ["unknown-sender"]


def test_what_happens_to_unknown_senders_is_an_option() -> None:
    assert [one.action for one in found(make.case(), action=Action.QUARANTINE)] == [Action.QUARANTINE]


def test_postmaster_and_abuse_take_mail_from_anybody() -> None:
    mixed = make.envelope("x@y.example", *map(make.recipient, ("Abuse@corp.example", "bob@corp.example")))
    assert found(make.case(envelope=make.envelope("x@y.example", make.recipient("postmaster@corp.example")))) == []
    assert [one.recipients for one in found(make.case(envelope=mixed))] == [make.addresses("bob@corp.example")]


def test_the_open_mailboxes_are_an_option() -> None:
    case = make.case(envelope=make.envelope("x@y.example", make.recipient("Jobs@corp.example")))
    assert found(case, exempt=("JOBS",)) == []
    assert codes(found(case)) == ["unknown-sender"]


@pytest.mark.parametrize("direction", [Direction.OUTBOUND, Direction.INTERNAL, Direction.RETURNED])
def test_only_mail_from_outside_is_asked_for_its_partner(direction: Direction) -> None:
    case = make.case(envelope=make.envelope("x@y.example", make.recipient(direction=direction)))
    assert found(case) == []


def test_what_the_portal_hands_in_has_been_admitted() -> None:
    assert found(make.case(session=make.session(listener=ListenerKind.PORTAL))) == []


BOUNCE = make.message(("In-Reply-To", "<sent@corp.example>"), from_="MAILER-DAEMON <daemon@mx.other.example>")
SENT = SentMessageQuestion(("<sent@corp.example>",))


def bounced(raw: bytes = BOUNCE) -> Case:
    return make.case(raw, envelope=make.envelope(""))


def asked(case: Case, **options: Any) -> list[object]:
    return list(FILTER.ask(case, Options(**options), make.policy()))


@pytest.mark.parametrize(
    ("answer", "code", "action"),
    [
        (("<sent@corp.example>",), "bounce", Action.DELIVER),
        ((), "unsolicited-bounce", Action.REJECT),
        (Unknown("database away"), "cannot-tell", Action.DEFER),
    ],
)
def test_only_bounces_to_mail_that_we_sent_come_in(answer: Answer, code: str, action: Action) -> None:
    case = bounced()
    assert asked(case) == [SENT]
    findings = make.judge_with(FILTER, Options(), case, answers={SENT: answer})
    assert [(one.code, one.action) for one in findings] == [(code, action)]


def test_the_returned_header_of_a_notification_is_asked_for() -> None:
    body = (
        b"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x.example\r\n\r\n"
        b"Final-Recipient: rfc822; a@x.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"
        b"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <sent@corp.example>\r\n\r\n--b--\r\n"
    )
    report = 'multipart/report; report-type=delivery-status; boundary="b"'
    raw = make.message(content_type=report, from_="daemon@x.example", body=body)
    assert asked(bounced(raw)) == [SENT]


def test_a_bounce_that_names_no_message_is_refused_without_asking() -> None:
    case = bounced(make.message(from_="daemon@x.example"))
    assert asked(case) == []
    assert codes(found(case)) == ["unsolicited-bounce"]


def test_a_listed_partner_may_not_bounce_what_we_never_sent() -> None:
    case = bounced(make.message(from_="daemon@partner.example"))
    assert codes(found(case, make.partner())) == ["unsolicited-bounce"]
    assert codes(found(case, make.partner(), bounces=Bounces.PARTNERS)) == ["listed"]
    assert codes(found(case, bounces=Bounces.PARTNERS)) == ["unsolicited-bounce"]


def test_bounces_from_anybody_are_an_option() -> None:
    assert codes(found(bounced(), bounces=Bounces.ANY)) == ["bounce"]
    assert asked(bounced(), bounces=Bounces.ANY) == []


def test_what_to_do_when_nobody_can_tell_is_an_option() -> None:
    findings = make.judge_with(
        FILTER, Options(unknown_action=Action.DELIVER), bounced(), answers={SENT: Unknown("database away")}
    )
    assert [(one.code, one.action) for one in findings] == [("cannot-tell", Action.DELIVER)]


def test_ordinary_mail_asks_nothing() -> None:
    assert asked(make.case(BOUNCE)) == []


def test_a_bounce_that_is_not_from_outside_asks_nothing() -> None:
    envelope = make.envelope("", make.recipient("ann@partner.example", Direction.OUTBOUND))
    assert asked(make.case(BOUNCE, envelope=envelope)) == []
