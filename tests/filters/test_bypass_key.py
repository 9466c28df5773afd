"""What a key in the Subject opens and for whom, what does not count, and how keys leave the header and the facts."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from gateway.filters.bypass_key import FILTER
from gateway.inspection.facts import Part
from gateway.inspection.words import decode_words
from gateway.judge import judge, questions, redact
from gateway.mail.envelope import Direction
from gateway.policy.compile import Policy
from gateway.policy.keys import BypassKey
from gateway.verdict import (
    Action,
    Answers,
    Case,
    Finding,
    KeyUseQuestion,
    Kind,
    ReplaceField,
    Unknown,
)
from tests import make

KEY = make.KEY
CLASSES = {"files": {"opens": ["business", "attachment"]}}
STRANGER = "eve@unknown.example"


def policy(*keys: BypassKey, **document: Any) -> Policy:
    return make.policy(
        *(keys or (make.bypass_key(),)),
        filters={"business_only": {}, "bypass_key": {}, "own_domain": {}, "loop": {}},
        **{"key_classes": CLASSES, **document},
    )


def case(
    *fields: tuple[str, str], to: tuple[str, ...] = ("bob@corp.example",), now: Any = make.NOW, **values: str
) -> Case:
    raw = make.message(*fields, **{"from_": STRANGER, **values})
    recipients = [make.recipient(one) for one in to]
    return make.case(raw, envelope=make.envelope(STRANGER, *recipients), now=now)


def keys_findings(a_case: Case, a_policy: Policy, answers: Answers | None = None) -> list[Finding]:
    findings = [one for one in judge(a_case, a_policy, answers or {}).findings if one.filter == "bypass_key"]
    assert {one.code for one in findings} <= set(FILTER.codes)
    return findings


def codes(a_case: Case, a_policy: Policy | None = None, answers: Answers | None = None) -> list[str]:
    return [one.code for one in keys_findings(a_case, a_policy or policy(), answers)]


def action(a_case: Case, a_policy: Policy | None = None) -> Action:
    (verdict,) = judge(a_case, a_policy or policy(), {}).verdicts
    return verdict.action


def encoded(text: str, way: str) -> str:
    if way == "b":
        return f"=?utf-8?B?{base64.b64encode(text.encode()).decode()}?="
    return "=?iso-8859-1?Q?" + "".join(f"={octet:02X}" for octet in text.encode("latin-1")) + "?="


ACCEPTED = [
    f"Files for the web server {KEY}",
    f"Files for the web server {KEY.lower()}",
    encoded(f"Files {KEY}", "b"),
    encoded(f"Files {KEY}", "q"),
    f"{encoded('Files FF9A02', 'b')} {encoded('2BC918', 'b')}",
    encoded("Files FF9A02", "q") + "\r\n " + encoded("2BC918 gr\u00fcn", "q"),
    f"{encoded('Files FF9A0', 'q')}\r\n\t{encoded('22BC918', 'b')}",
    f"Files for\r\n {KEY}",
    f"Files for\r\n\t{KEY}",
    f"Files ({KEY})",
    f"[{KEY}] Files",
    f'Files "{KEY}".',
    f"Files {KEY}!",
    "Files FF9A-022B-C918",
    "Files FF9A 022B C918",
    f"Gr\u00fc\u00dfe {KEY}",
]


@pytest.mark.parametrize("subject", ACCEPTED)
def test_a_key_in_the_subject_opens_and_is_removed(subject: str) -> None:
    a_case = case(subject=subject)
    strip, key = keys_findings(a_case, policy())
    assert (strip.code, key.code, key.entry) == ("strip", "key", "k1")
    assert key.exempts == (Kind.BUSINESS, Kind.ATTACHMENT)
    assert action(a_case) is Action.DELIVER
    (new,) = strip.transforms
    assert isinstance(new, ReplaceField)
    assert a_case.facts.fields[new.index].name == "Subject"
    left = "".join(filter(str.isalnum, decode_words(new.value))).upper()
    assert KEY not in left
    assert left.startswith(("FILES", "GR"))


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ((), {}),
        ((), {"subject": f"Files 0{KEY}"}),
        ((), {"subject": f"Files {KEY}00"}),
        ((), {"subject": f"Files x{KEY}"}),
        ((), {"from_": f"{KEY} <{STRANGER}>"}),
        ((("X-Subject", KEY), ("Comments", KEY), ("Keywords", KEY)), {}),
        ((("Thread-Topic", KEY),), {}),
        ((("Subject", f"Files {KEY}"),), {}),
        ((("Subject", "another"),), {"subject": f"Files {KEY}"}),
    ],
    ids=["none", "longer", "longer", "longer", "From name", "other fields", "Thread-Topic", "second", "first of two"],
)
def test_without_the_key_in_the_one_subject_nothing_opens(fields: Any, values: dict[str, str]) -> None:
    a_case = case(*fields, **values)
    assert "key" not in codes(a_case)
    assert action(a_case) is Action.REJECT


def test_a_key_in_the_body_alone_opens_nothing() -> None:
    raw = make.message(from_=STRANGER, body=KEY.encode() + b"\r\n")
    assert codes(make.case(raw, envelope=make.envelope(STRANGER))) == []


def test_two_subjects_are_flagged_and_both_lose_the_key() -> None:
    findings = {one.code: one for one in keys_findings(case(("Subject", f"b {KEY}"), subject=f"a {KEY}"), policy())}
    assert set(findings) == {"strip", "two_subjects"}
    assert [one.value for one in findings["strip"].transforms if isinstance(one, ReplaceField)] == ["a", "b"]


def test_a_header_that_was_not_read_to_its_end_may_have_another_subject() -> None:
    many = [("X-Filler", "x")] * 2100
    assert "key" not in codes(case(*many, subject=KEY))


def test_the_safety_floor_stays_shut() -> None:
    everything = policy(key_classes={"files": {"opens": [kind.value for kind in Kind]}})
    forged = case(subject=KEY, from_="boss@corp.example")
    (verdict,) = judge(forged, everything, {}).verdicts
    assert (verdict.action, verdict.reason) == (Action.REJECT, "own_domain:forged")
    looping = case(*[("Received", "from a by b; Tue, 24 Nov 2026 09:00:00 +0000")] * 120, subject=KEY)
    assert action(looping, everything) is Action.REJECT
    assert [one.code for one in keys_findings(case(subject=KEY), everything)] == ["strip", "key"]
    (open_verdict,) = judge(case(subject=KEY), everything, {}).verdicts
    assert open_verdict.transforms  # what the key opens is not its own removal


def test_a_key_that_stood_around_another_is_removed_as_well() -> None:
    (strip, _) = keys_findings(case(subject=f"Files FF9A {KEY} 022B C918"), policy())
    assert strip.transforms == (ReplaceField(2, "Files"),)


def test_the_key_is_removed_in_observe_mode_too() -> None:
    (verdict,) = judge(case(subject=f"Files {KEY}"), policy(observe=True), {}).verdicts
    assert verdict.action is Action.DELIVER
    assert verdict.transforms == (ReplaceField(2, "Files"),)


def test_only_what_the_class_lists_is_opened() -> None:
    a_policy = policy(key_classes={"files": {"opens": ["attachment"]}})
    assert action(case(subject=KEY), a_policy) is Action.REJECT


@pytest.mark.parametrize(
    ("key", "subject", "code"),
    [
        (make.bypass_key(), "Files FF9A022BC919", "wrong_key"),
        (make.bypass_key(expires_at=make.NOW - timedelta(days=6)), KEY, "expired_key"),
        (make.bypass_key(valid_from=make.NOW + timedelta(days=1)), KEY, "early_key"),
        (make.bypass_key(key_class="gone"), KEY, "expired_key"),
    ],
)
def test_other_keys_are_noted_and_have_no_effect(key: BypassKey, subject: str, code: str) -> None:
    findings = {one.code: one for one in keys_findings(case(subject=subject), policy(key))}
    assert code in findings
    assert not findings[code].has_effect
    assert "key" not in findings


def test_wrong_expired_and_absent_keys_get_the_same_words() -> None:
    expired = make.bypass_key("AAAA0000BBBB", id="k2", expires_at=make.NOW - timedelta(days=60))
    told = set()
    for subject in ("Files", "Files FF9A022BC919", "Files AAAA0000BBBB"):
        (verdict,) = judge(case(subject=subject), policy(make.bypass_key(), expired), {}).verdicts
        told.add((verdict.action, verdict.category, verdict.reason))
    assert told == {(Action.REJECT, "business", "business_only:unknown-sender")}


def test_the_key_of_last_month_opens_in_its_days_of_grace() -> None:
    december = datetime(2026, 12, 5, 23, tzinfo=UTC)
    assert codes(case(subject=KEY, now=december)) == ["strip", "key"]
    assert codes(case(subject=KEY, now=december + timedelta(days=1))) == ["strip", "expired_key"]


# -- for whom


@pytest.mark.parametrize(
    ("limits", "opens"),
    [
        ({}, True),
        ({"recipients": ("bob@corp.example",)}, True),
        ({"recipients": ("corp.example",)}, True),
        ({"recipients": ("carol@corp.example",)}, False),
        ({"senders": ("unknown.example",)}, True),
        ({"senders": ("eve@unknown.example",)}, True),
        ({"senders": ("partner.example",)}, False),
    ],
)
def test_a_key_opens_for_its_recipients_and_senders(limits: dict[str, Any], opens: bool) -> None:
    for a_policy in (
        policy(make.bypass_key(**limits)),
        policy(key_classes={"files": {**CLASSES["files"], **limits}}),
    ):
        assert ("key" in codes(case(subject=KEY), a_policy)) is opens
        assert ("not_for" in codes(case(subject=KEY), a_policy)) is not opens


def test_a_key_with_senders_needs_one_author() -> None:
    two = case(subject=KEY, from_="eve@unknown.example, ann@partner.example")
    assert "key" not in codes(two, policy(make.bypass_key(senders=("unknown.example",))))
    assert "key" in codes(two)


def test_of_several_recipients_the_key_opens_for_its_own() -> None:
    a_case = case(subject=KEY, to=("bob@corp.example", "carol@corp.example"))
    verdicts = judge(a_case, policy(make.bypass_key(recipients=("bob@corp.example",))), {}).verdicts
    actions = {str(address): one.action for one in verdicts for address in one.recipients}
    assert actions == {"bob@corp.example": Action.DELIVER, "carol@corp.example": Action.REJECT}


@pytest.mark.parametrize(
    ("names", "opens"),
    [
        (["report.xlsm"], True),
        (["report.XLSM", "b.docm"], True),
        (["report.xlsm", "tool.exe"], False),
        (["report"], False),
        ([], True),
    ],
)
def test_a_key_for_file_types_opens_no_other_attachments(names: list[str], opens: bool) -> None:
    a_case = case(subject=KEY)
    parts = tuple(Part(f"{number}", names=(name,), is_attachment=True) for number, name in enumerate(names))
    a_case = msgspec.structs.replace(a_case, facts=msgspec.structs.replace(a_case.facts, parts=parts))
    for a_policy in (
        policy(make.bypass_key(types=("xlsm", "docm"))),
        policy(key_classes={"files": {**CLASSES["files"], "types": [".XLSM", "docm"]}}),
    ):
        (key,) = [one for one in keys_findings(a_case, a_policy) if one.code == "key"]
        assert (Kind.ATTACHMENT in key.exempts) is opens
        assert Kind.BUSINESS in key.exempts


# -- limited uses

ONCE = make.bypass_key(uses=1, period="")
QUESTION = KeyUseQuestion("k1", 1, ("bob@corp.example",))


def test_a_limited_key_asks_for_its_uses_and_others_do_not() -> None:
    assert questions(case(subject=KEY), policy(ONCE)) == (QUESTION,)
    assert questions(case(subject=KEY), policy()) == ()
    assert questions(case(subject="none"), policy(ONCE)) == ()


@pytest.mark.parametrize(
    ("answer", "found", "outcome"),
    [
        (("bob@corp.example",), ["strip", "key"], Action.DELIVER),
        ((), ["strip", "uses_spent"], Action.REJECT),
        (Unknown("database away"), ["strip", "cannot_tell"], Action.DEFER),
    ],
)
def test_the_uses_decide(answer: Any, found: list[str], outcome: Action) -> None:
    answers: Answers = {QUESTION: answer}
    assert codes(case(subject=KEY), policy(ONCE), answers) == found
    (verdict,) = judge(case(subject=KEY), policy(ONCE), answers).verdicts
    assert verdict.action is outcome


def test_a_key_that_opens_everything_still_waits_for_its_uses() -> None:
    answers: Answers = {QUESTION: Unknown("database away")}
    everything = policy(ONCE, key_classes={"files": {"opens": [kind.value for kind in Kind]}})
    (verdict,) = judge(case(subject=KEY), everything, answers).verdicts
    assert verdict.action is Action.DEFER


def test_what_a_key_does_not_open_is_refused_though_its_uses_cannot_be_told() -> None:
    answers: Answers = {QUESTION: Unknown("database away")}
    (verdict,) = judge(case(subject=KEY, from_="boss@corp.example"), policy(ONCE), answers).verdicts
    assert verdict.action is Action.REJECT


# -- the way out, and what is stored


@pytest.mark.parametrize("name", ["Subject", "Thread-Topic"])
def test_a_key_is_removed_from_what_our_people_send(name: str) -> None:
    fields = [] if name == "Subject" else [(name, f"Files {KEY}")]
    subject = f"Re: Files {KEY}" if name == "Subject" else "Re: Files"
    a_case = make.outbound(make.message(*fields, from_="bob@corp.example", subject=subject))
    (strip,) = keys_findings(a_case, policy())
    (new,) = strip.transforms
    assert isinstance(new, ReplaceField)
    assert (a_case.facts.fields[new.index].name, new.value) == (
        name,
        subject.replace(f" {KEY}", "") if not fields else "Files",
    )


def test_internal_mail_keeps_the_key_and_its_facts_do_not() -> None:
    inside = make.recipient("bob@corp.example", Direction.INTERNAL)
    a_case = make.case(make.message(subject=KEY), envelope=make.envelope("ann@corp.example", inside))
    (seen,) = keys_findings(a_case, policy())
    assert (seen.code, seen.transforms) == ("seen", ())
    assert KEY.encode() not in stored(a_case, policy())


def stored(a_case: Case, a_policy: Policy) -> bytes:
    judgement, facts = redact(judge(a_case, a_policy, {}), a_case.facts)
    return msgspec.json.encode((judgement, facts)).upper()


@pytest.mark.parametrize("subject", [*ACCEPTED, f"{KEY} and again {KEY.lower()} and FF9A-022B-C918"])
def test_nothing_that_is_stored_holds_the_key(subject: str) -> None:
    kept = stored(case(("Thread-Topic", f"Files {KEY}"), ("X-Copy", f"of {KEY}"), subject=subject), policy())
    for spelling in (KEY, "FF9A-022B-C918", "FF9A 022B C918", base64.b64encode(KEY.encode()).decode().upper()):
        assert spelling.encode() not in kept


def test_a_key_in_the_name_of_the_author_is_not_stored_either() -> None:
    assert KEY.encode() not in stored(case(from_=f"{KEY} <{STRANGER}>"), policy())


@pytest.mark.parametrize("subject", ACCEPTED)
def test_judged_again_from_what_was_stored_the_outcome_is_the_same(subject: str) -> None:
    a_case = case(("Thread-Topic", f"Files {KEY}"), subject=subject)
    first = judge(a_case, policy(), {})
    judgement, facts = redact(first, a_case.facts)
    again = judge(msgspec.structs.replace(a_case, facts=facts), policy(), {})
    assert [(one.reason, one.exempts, one.entry) for one in again.findings] == [
        (one.reason, one.exempts, one.entry) for one in judgement.findings
    ]
    assert [one.action for one in again.verdicts] == [one.action for one in judgement.verdicts]
    assert [one.transforms for one in again.findings] == [one.transforms for one in first.findings]


def test_a_marker_that_a_sender_writes_is_no_key() -> None:
    digest = make.bypass_key().digest
    a_case = case(subject=f"Files [key {digest[:4]}] {digest}")
    assert "key" not in codes(a_case)


def test_without_any_key_nothing_is_looked_at() -> None:
    a_policy = make.policy(filters={"bypass_key": {}}, key_classes=CLASSES)
    assert codes(case(subject=KEY), a_policy) == []
