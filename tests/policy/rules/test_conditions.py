"""Every field with a value that it has and one that it has not."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from gateway.inspection.facts import Link, Lock, Macro, Part
from gateway.mail.envelope import Direction, ListenerKind, Tls
from gateway.policy.rules.conditions.files import extension_of
from gateway.policy.rules.conditions.identity import shown_names
from gateway.policy.rules.conditions.links import host_of
from gateway.policy.rules.view import View
from gateway.policy.rules.vocabulary import vocabulary
from gateway.verdict import Action, Case, DnsQuestion, SentMessageQuestion, Unknown
from tests import make
from tests.policy.rules.ruled import leaf, truth

FILES = (
    Part("1", active=("redirect",)),
    Part(
        "2", ("application/pdf",), ("pdf", "zip"), ("Offer.PDF. ",), 1000, "ab" * 32, macro=Macro.AUTO_RUN,
        is_attachment=True,
    ),
    Part("2/1", (), ("exe",), ("run.exe",), 20, lock=Lock.LOCKED, problems=("odd_name",), is_attachment=True),
)  # fmt: skip
LINKS = (
    Link("1", "https://good.example@evil.test/x", "https://good.example/login"),
    Link("1", "http://0x7f.1/a", "click here"),
    Link("1", "mailto:bob@corp.example"),
)
RAW = make.message(
    ("X-Mailer", "=?utf-8?Q?B=C3=A4r?="),
    ("X-Mailer", "two"),
    ("List-Id", "News <news.partner.example>"),
    ("Cc", "Cy <cy@third.example>"),
    ("Sender", "sec@partner.example"),
    ("In-Reply-To", "<ours@corp.example>"),
    ("Received", "from a.example by b.example; date"),
    from_='"Chief, The" <ann@mail.partner.example>',
    reply_to="other@free.example",
    subject="=?utf-8?B?R3LDvMOfZQ==?= from Ann",
)
SENT = SentMessageQuestion(("<ours@corp.example>",))
LISTED = DnsQuestion("10.2.0.192.bl.example", "A")
FINDING = make.finding("listed", action=Action.QUARANTINE)


def case() -> Case:
    session = make.session(tls=Tls("TLSv1.3", "x", "relay.partner.example"), user="svc", source="s1", helo="Mail.Test")
    usual = make.case(RAW, session=session, envelope=make.envelope(declared_size=5000))
    return msgspec.structs.replace(
        usual, facts=msgspec.structs.replace(usual.facts, parts=FILES, links=LINKS, text="Please pay NOW")
    )


# Field, operator, a value that holds and one that does not, and what else the condition has.
TABLE: list[tuple[str, str, Any, Any, dict[str, Any]]] = [
    ("client.ip", "in_network", "192.0.2.0/24", "192.0.3.0/24", {}),
    ("client.name", "in_domain", "*.partner.example", "partner.example", {}),
    ("client.listed", "equals", True, False, {"name": "bl.example"}),
    ("helo", "equals", "mail.test", "other.test", {}),
    ("listener", "equals", "inbound", "portal", {}),
    ("tls", "equals", True, False, {}),
    ("tls.version", "starts", "tlsv1", "ssl", {}),
    ("tls.client_name", "equals", "relay.partner.example", "x.example", {}),
    ("user", "equals", "SVC", "root", {}),
    ("source.known", "equals", True, False, {}),
    ("mail_from", "equals", "Ann@Partner.Example", "bob@partner.example", {}),
    ("mail_from.domain", "in_domain", "partner.example", "*.partner.example", {}),
    ("is_bounce", "equals", False, True, {}),
    ("rcpt", "equals", "bob@corp.example", "ann@corp.example", {}),
    ("rcpt.domain", "in_domain", "corp.example", "other.example", {"of": "all"}),
    ("rcpt.direction", "equals", "inbound", "outbound", {}),
    ("rcpt.count", "less", 2, 1, {}),
    ("size", "greater", 100, 100_000, {}),
    ("declared_size", "equals", 5000, 5001, {}),
    ("header", "contains", "BÄR", "bear", {"name": "x-mailer"}),
    ("header", "contains", "=?utf-8?Q?B", "bär", {"name": "X-Mailer", "raw": True}),
    ("header", "equals", "bär", "two", {"name": "X-Mailer", "of": "first"}),
    ("header", "equals", 2, 1, {"name": "X-Mailer", "of": "count"}),
    ("header", "exists", True, False, {"name": "X-Mailer"}),
    ("header", "exists", False, True, {"name": "X-Nobody"}),
    ("from.address", "equals", "ann@mail.partner.example", "x@y.example", {}),
    ("from.domain", "in_domain", "*.partner.example", "partner.example", {}),
    ("from.count", "equals", 1, 2, {}),
    ("from.name", "equals", "the chief", "ann", {}),
    ("from.foreign_name", "one_of", ["The Chief", "Bob Boss"], ["Bob Boss"], {}),
    ("from.is_ours", "equals", False, True, {}),
    ("author", "ends", "@mail.partner.example", "@partner.example.com", {}),
    ("author.domain", "equals", "mail.partner.example", "partner.example", {}),
    ("reply_to.address", "equals", "other@free.example", "ann@mail.partner.example", {}),
    ("reply_to_ours", "equals", True, False, {}),
    ("sender.address", "equals", "sec@partner.example", "x@y.example", {}),
    ("to.address", "equals", "bob@corp.example", "x@y.example", {}),
    ("cc.address", "equals", "cy@third.example", "x@y.example", {}),
    ("subject", "starts", "grüsse", "grüße an", {}),
    ("message_id", "contains", "m1@", "m2@", {}),
    ("list_id", "contains", "news.partner.example", "olds", {}),
    ("received.count", "equals", 1, 0, {}),
    ("defects", "exists", False, True, {}),
    ("text", "matches", r"pay\s+now", r"pay\s+later", {}),
    ("body.size", "equals", 13, 14, {}),
    ("link.target", "contains", "evil.test", "good.test", {}),
    ("link.text", "equals", "Click Here", "here", {}),
    ("link.host", "one_of", ["evil.test", "z.example"], ["good.example"], {}),
    ("link.host", "equals", "127.0.0.1", "127.0.0.2", {}),
    ("link.count", "equals", 3, 2, {}),
    ("link.ip_literal", "equals", True, False, {}),
    ("link.mismatch", "equals", True, False, {}),
    ("file.name", "ends", ".exe", ".com", {}),
    ("file.extension", "one_of", ["exe", "scr"], ["scr"], {}),
    ("file.extension", "equals", "pdf", "doc", {"of": "any"}),
    ("file.extension", "one_of", ["exe", "pdf"], ["exe"], {"of": "all"}),
    ("file.extension", "equals", "scr", "exe", {"of": "none"}),
    ("file.found_type", "equals", "exe", "elf", {}),
    ("file.declared_type", "equals", "application/pdf", "text/plain", {}),
    ("file.size", "greater", 999, 1000, {}),
    ("file.sha256", "equals", "AB" * 32, "cd" * 32, {}),
    ("file.count", "equals", 1, 2, {}),
    ("file.lock", "equals", "locked", "opened", {}),
    ("file.depth", "equals", 1, 2, {}),
    ("file.in_archive", "equals", True, False, {}),
    ("file.macro", "equals", "present", "suspicious", {}),
    ("file.active", "equals", "redirect", "launch", {}),
    ("file.problems", "equals", "odd_name", "damaged", {}),
    ("time.hour", "equals", 10, 9, {}),
    ("time.weekday", "equals", "tuesday", "sunday", {}),
    ("tag", "equals", "Seen", "other", {}),
    ("finding", "equals", "some:listed", "some:other", {}),
    ("finding.kind", "equals", "protocol", "malware", {}),
]


@pytest.mark.parametrize(("field", "op", "holds", "fails", "more"), TABLE)
def test_a_condition_holds_and_fails(field: str, op: str, holds: Any, fails: Any, more: dict[str, Any]) -> None:
    told: dict[str, Any] = {
        "answers": {SENT: ("<ours@corp.example>",), LISTED: ("127.0.0.2",)},
        "findings": [FINDING],
        "time_zone": "Europe/Berlin",
    }
    assert truth(leaf(field, op, holds, **more), case(), **told) is True
    assert truth(leaf(field, op, fails, **more), case(), **told) is False


def test_every_field_is_in_the_table_and_has_help() -> None:
    fields = vocabulary().fields
    assert set(fields) - {row[0] for row in TABLE} == {"source.owner"}
    assert all(spec.help for spec in fields.values())


def test_the_owner_of_a_source_is_the_ledgers() -> None:
    source = make.relay_source(id="s1", owner="Dave")
    compiled = make.policy(source)
    spec = vocabulary().fields["source.owner"]
    assert spec.read(View(case(), compiled, UTC), "") == ("Dave",)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({LISTED: ("127.0.0.2",)}, True),
        ({LISTED: ()}, False),
        ({LISTED: ("192.0.2.99",)}, False),  # a parked zone
        ({LISTED: Unknown("timed out")}, None),
        ({}, None),
    ],
)
def test_a_dns_list_that_does_not_answer_is_unknown(answers: Any, expected: bool | None) -> None:
    assert truth(leaf("client.listed", "equals", True, name="bl.example"), case(), answers=answers) is expected


def test_a_message_that_answers_nothing_is_no_reply_of_ours_without_asking() -> None:
    assert truth(leaf("reply_to_ours", "equals", True), make.case()) is False


def test_several_readings_of_an_author_are_all_authors_and_none_is_the_one() -> None:
    odd = make.case(make.message(("From", "eve@evil.test")))
    assert truth(leaf("from.domain", "equals", "evil.test"), odd) is True
    assert truth(leaf("author", "exists"), odd) is False


@pytest.mark.parametrize("domain", ["corp.example", "sub.corp.example"])
def test_a_name_beside_an_address_of_ours_is_not_foreign(domain: str) -> None:
    ours = make.case(make.message(from_=f"The Chief <chief@{domain}>"))
    assert truth(leaf("from.foreign_name", "equals", "The Chief"), ours) is False


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("a@b.example", []),
        ("Ann  Author <a@b.example>", ["Ann Author"]),
        ('"Author, Ann" <a@b.example>', ["Author, Ann", "Ann Author"]),
        ("=?utf-8?Q?J=C3=B6?= <a@b.example>, Bo <b@c.example>", ["Jö", "Bo"]),
        ("<a@b.example>", []),
        ("<" * 4000, []),
    ],
)
def test_display_names(value: str, names: list[str]) -> None:
    assert shown_names([value]) == names


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://User:pw@Bank.Example:8443/x", "bank.example"),
        ("http:\\\\evil.test\\x", "evil.test"),
        (" ht\ttp://ev\nil.test./", "evil.test"),
        ("https://[2001:DB8::1]/", "2001:db8::1"),
        ("http://2130706433/", "127.0.0.1"),
        ("http://0177.0.0.1/", "127.0.0.1"),
        ("http://300.1.1.1.1/", "300.1.1.1.1"),
        ("https://m\u00fcller.example/", "xn--mller-kva.example"),
        ("http://%65vil.test/", "evil.test"),
        ("mailto:a@b.example", ""),
        ("", ""),
    ],
)
def test_the_host_of_a_link(url: str, host: str) -> None:
    assert host_of(url) == host


@pytest.mark.parametrize(
    ("name", "extension"), [("a.tar.GZ", "gz"), ("x.exe. ", "exe"), ("none", ""), ("dir.d\\plain", ""), (".", "")]
)
def test_extensions(name: str, extension: str) -> None:
    assert extension_of(name) == extension


def test_conditions_on_recipients_are_about_each_unless_told_otherwise() -> None:
    both = make.case(envelope=make.envelope("a@b.example", make.recipient(), make.recipient("eve@corp.example")))
    bob = leaf("rcpt", "equals", "bob@corp.example")
    assert truth(bob, both) is None  # it depends on whom
    assert truth({**bob, "of": "any"}, both) is True
    assert truth({**bob, "of": "all"}, both) is False
    assert truth(leaf("rcpt.domain", "equals", "corp.example"), both) is True


def test_the_time_is_the_companys() -> None:
    late = make.case(now=datetime(2026, 11, 24, 23, 30, tzinfo=UTC))
    assert truth(leaf("time.weekday", "equals", "wednesday"), late, time_zone="Europe/Berlin") is True
    assert truth(leaf("time.weekday", "equals", "tuesday"), late) is True


def test_mail_from_and_direction_of_our_own() -> None:
    ours = make.outbound()
    assert truth(leaf("rcpt.direction", "equals", Direction.OUTBOUND), ours) is True
    assert truth(leaf("listener", "equals", ListenerKind.OUTBOUND), ours) is True
