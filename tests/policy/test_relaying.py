"""Whose names a relay source may use as author."""

from typing import Any

import pytest

from gateway.judge import judge
from gateway.mail.envelope import Direction, ListenerKind
from gateway.policy.relaying import CODES, judge_author, may_use
from gateway.verdict import Action, Case, Kind
from tests import make

RIGHT, UNCLEAR = "", "unclear-author"
STRANGE = "author-not-allowed"


def sent(raw: bytes, mail_from: str = "bob@corp.example", **session: Any) -> Case:
    """A message from the relay source s1 to the world."""
    envelope = make.envelope(mail_from, make.recipient("ann@partner.example", Direction.OUTBOUND))
    usual = {"listener": ListenerKind.OUTBOUND, "peer_ip": "10.1.2.3", "source": "s1", **session}
    return make.case(raw, envelope=envelope, session=make.session(**usual))


def written(*authors: str, mail_from: str = "bob@corp.example", **session: Any) -> Case:
    """One with these From fields."""
    raw = make.message(*[("From", one) for one in authors], without=["From"])
    return sent(raw, mail_from, **session)


def code_of(case: Case, **source: Any) -> str:
    findings = judge_author(case, make.policy(make.relay_source(**source)))
    assert {one.code for one in findings} <= set(CODES)
    return findings[0].code if findings else ""


@pytest.mark.parametrize(
    ("source", "domain", "is_allowed"),
    [
        ({}, "corp.example", True),
        ({}, "sub.corp.example", False),
        ({}, "bank.example", False),
        ({"allowed_domains": ("shop.example",)}, "shop.example", True),
        ({"allowed_domains": ("shop.example",)}, "corp.example", False),
        ({"any_sender": True}, "bank.example", True),
    ],
)
def test_a_source_uses_its_domains_or_else_ours(source: dict[str, Any], domain: str, is_allowed: bool) -> None:
    assert may_use(make.relay_source(**source), domain, make.policy()) is is_allowed
    assert code_of(written(f"x@{domain}"), **source) == (RIGHT if is_allowed else STRANGE)


@pytest.mark.parametrize(
    ("authors", "code"),
    [
        (["Bob <bob@corp.example>"], RIGHT),
        (["Bob <bob@CORP.example.>"], RIGHT),
        (["bob@corp.example, carol@corp.example"], RIGHT),
        (["bob@corp.example", "carol@corp.example"], RIGHT),
        (['"ceo@bank.example" <bob@corp.example>'], RIGHT),
        (["ceo@bank.example <bob@corp.example>"], STRANGE),
        (["bob@corp.example, ceo@bank.example"], STRANGE),
        (["bob@corp.example", "ceo@bank.example"], STRANGE),
        (["Board: bob@corp.example, ceo@bank.example;"], STRANGE),
        (["=?utf-8?q?ceo=40bank.example?="], STRANGE),
        (
            [", ".join([*["bob@corp.example"] * 10, *[f"b{n}@corp.example" for n in range(200)]])],
            UNCLEAR,
        ),  # not all seen
        (["bob@corp.example (" + "x" * 70_000 + ")"], UNCLEAR),
        (["printer@[10.1.2.3]"], STRANGE),
        (["b\u00fccher@b\u00fccher.example"], STRANGE),
        (["Bob <bob@corp.example"], UNCLEAR),
        (["root"], UNCLEAR),
        ([""], UNCLEAR),
        (["<>"], UNCLEAR),
        (["undisclosed:;"], UNCLEAR),
        ([], RIGHT),
    ],
)
@pytest.mark.parametrize("mail_from", ["bob@corp.example", ""])
def test_every_author_in_every_reading_must_be_allowed(authors: list[str], code: str, mail_from: str) -> None:
    assert code_of(written(*authors, mail_from=mail_from)) == code
    assert code_of(written(*authors, mail_from=mail_from), any_sender=True) == RIGHT


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"From : CEO <ceo@bank.example>", STRANGE),  # obsolete syntax, and not the line of a mailbox file
        (b"From \t: ceo@bank.example", STRANGE),
        (b"\xef\xbb\xbfFrom: ceo@bank.example", UNCLEAR),
        (b"From\x0b: ceo@bank.example", UNCLEAR),
        (b" From: ceo@bank.example", UNCLEAR),
        (b"From", UNCLEAR),
    ],
)
def test_an_odd_first_line_names_an_author_too(line: bytes, code: str) -> None:
    assert code_of(sent(line + b"\r\n" + make.message(without=["From"]))) == code
    # Beside a From a line that is no field is not what readers show; a field in obsolete syntax is.
    beside = sent(line + b"\r\n" + make.message(from_="bob@corp.example"))
    assert code_of(beside) == (STRANGE if code == STRANGE else RIGHT)


@pytest.mark.parametrize("name", ["Sender", "Resent-From", "Resent-Sender"])
def test_without_from_no_field_may_stand_in_for_it(name: str) -> None:
    assert code_of(sent(make.message((name, "ceo@bank.example"), without=["From"]))) == UNCLEAR
    assert code_of(sent(make.message((name, "root@web1.corp.local"), from_="bob@corp.example"))) == RIGHT


def test_an_author_may_not_stand_where_nobody_looked() -> None:
    fields = [("X-Many", "x")] * 2000
    assert code_of(sent(make.message(*fields, ("From", "ceo@bank.example"), from_="bob@corp.example"))) == UNCLEAR


def test_an_own_domain_outside_of_ascii_is_the_same_in_either_form() -> None:
    case = written("info@b\u00fccher.example")
    assert code_of(case, allowed_domains=("xn--bcher-kva.example",)) == RIGHT


@pytest.mark.parametrize("kind", list(ListenerKind))
def test_only_where_a_source_sends_its_own_mail(kind: ListenerKind) -> None:
    limited = kind in (ListenerKind.OUTBOUND, ListenerKind.ANY)
    assert code_of(written("ceo@bank.example", listener=kind)) == (STRANGE if limited else RIGHT)
    assert code_of(written("ceo@bank.example", listener=kind, source="")) == RIGHT


def test_a_source_that_is_not_in_the_ledger_any_more_has_no_limit_to_judge_by() -> None:
    assert judge_author(written("ceo@bank.example"), make.policy()) == ()


@pytest.mark.parametrize("observe", [False, True])
def test_it_is_refused_whatever_is_off_and_whatever_passes(observe: bool) -> None:
    entries = (make.relay_source(), make.partner("bank.example"), make.waiver(["relay:author-not-allowed"]))
    case = written("ceo@bank.example")
    for filters in ({}, make.ALL_FILTERS):
        policy = make.policy(*entries, filters=filters, observe=observe)
        judgement = judge(case, policy, {}, sha256="ab" * 32)
        verdict, found = judgement.verdicts[0], judgement.findings[0]
        assert (verdict.action, verdict.reason) == (Action.REJECT, "relay:author-not-allowed")
        assert verdict.category == "author:bank.example"
        assert (found.floor, found.kind, found.entry) == (True, Kind.PROTOCOL, "s1")
        assert found.detail == "the author is in bank.example, which the relay source 10.1.2.0/24 may not use"
