from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspection.marker import passes, sign
from gateway.inspection.scan import scan
from gateway.mail.authres import AuthResult
from gateway.mail.envelope import Direction
from gateway.transforms.apply import MAX_CHANGES, Applied, apply
from gateway.verdict import (
    Action,
    AddField,
    Case,
    PrefixSubject,
    RemoveFields,
    ReplaceField,
    SetField,
    Transform,
    Verdict,
)
from tests import make

RECEIVED = b"Received: from mail.partner.example by mx.corp.example; date\r\n"
RAW = make.message(("X-One", "1"), ("X-Two", "2"), ("X-One", "3"))
ONE, TWO, THREE = 5, 6, 7  # positions of the last three fields


def applied(*transforms: Transform, raw: bytes = RAW, direction: Direction = Direction.INBOUND, **how: Any) -> Applied:
    recipients = make.addresses("bob@corp.example")
    verdict = Verdict(recipients, Action.DELIVER, transforms=transforms)
    policy = how.pop("policy", make.policy())
    return apply(raw, make.case(raw), verdict, direction=direction, received=RECEIVED, policy=policy, **how)


def lines(found: Applied) -> list[str]:
    return b"".join(found.pieces).decode().partition("\r\n\r\n")[0].split("\r\n")


def told(found: Applied) -> list[tuple[str | None, str | None]]:
    return [(one.before, one.after) for one in found.changes]


MARKER = f"X-Gatepost-Hop: {sign(1, make.HOP_KEY)}"
TRACE = [RECEIVED.decode().strip(), MARKER]


def test_without_transforms_our_trace_comes_on_top_and_the_rest_is_as_received() -> None:
    found = applied()
    assert b"".join(found.pieces) == ("\r\n".join(TRACE) + "\r\n").encode() + RAW
    assert (found.changes, found.message_id) == ((), "")


def test_the_body_is_not_copied() -> None:
    found = applied(RemoveFields((ONE,)))
    views = [piece for piece in found.pieces if isinstance(piece, memoryview)]
    assert {view.obj for view in views} == {RAW}


def test_fields_are_removed_replaced_and_added_and_each_change_is_told() -> None:
    found = applied(RemoveFields((ONE, THREE)), ReplaceField(TWO, "two"), AddField("X-New", "n"))
    assert lines(found)[:3] == [*TRACE, "X-New: n"]
    assert lines(found)[-1] == "X-Two: two"
    assert told(found) == [("X-One: 1", None), ("X-One: 3", None), ("X-Two: 2", "X-Two: two"), (None, "X-New: n")]
    assert {one.recipients for one in found.changes} == {make.addresses("bob@corp.example")}


def test_of_two_changes_to_one_field_the_later_counts() -> None:
    assert lines(applied(RemoveFields((TWO,)), ReplaceField(TWO, "two")))[-2] == "X-Two: two"
    assert "X-Two" not in str(lines(applied(ReplaceField(TWO, "two"), RemoveFields((TWO,)))))


def test_the_message_id_under_which_it_leaves_is_told() -> None:
    assert applied(ReplaceField(4, "<hash@corp.example>")).message_id == "<hash@corp.example>"


CLAIMS = make.message(
    ("X-Gatepost-Key", "valid"),
    ("Authentication-Results", "mx.corp.example; dmarc=pass"),
    ("Authentication-Results", "mx.other.example; dmarc=pass"),
    ("X-MS-Exchange-Organization-SCL", "-1"),
)


def test_claims_of_our_trust_from_outside_are_cut_and_told() -> None:
    found = applied(raw=CLAIMS)
    assert lines(found)[len(TRACE) :] == [
        *[f"{name}: {value}" for name, value in make.FIELDS.items()],
        "Authentication-Results: mx.other.example; dmarc=pass",
    ]
    assert [before for before, _ in told(found)] == [
        "X-Gatepost-Key: valid",
        "Authentication-Results: mx.corp.example; dmarc=pass",
        "X-MS-Exchange-Organization-SCL: -1",
    ]


@pytest.mark.parametrize("direction", [Direction.OUTBOUND, Direction.INTERNAL, Direction.RETURNED])
def test_our_own_side_is_believed(direction: Direction) -> None:
    assert b"".join(applied(raw=CLAIMS, direction=direction).pieces).endswith(CLAIMS)


@pytest.mark.parametrize("direction", Direction)
def test_the_hop_marker_is_replaced_by_one_that_counts_on(direction: Direction) -> None:
    raw = make.message(("X-Gatepost-Hop", sign(2, make.HOP_KEY)), ("X-Gatepost-Hop", "v1 9 forged"))
    found = applied(raw=raw, direction=direction)
    markers = scan(b"".join(found.pieces)).markers
    assert len(markers) == 1
    assert passes(markers, make.HOP_KEY) == 3
    assert found.changes == ()


def test_without_a_key_no_marker_is_written() -> None:
    class Ours:
        hostname = "mx.corp.example"
        own_names = own_domains = frozenset[str]()
        hop_key = b""

    assert lines(applied(policy=Ours()))[:2] == [TRACE[0], "From: Ann Author <ann@partner.example>"]


def test_what_was_verified_stands_above_the_trace() -> None:
    found = applied(results=[AuthResult("spf", "pass", properties=(("smtp", "mailfrom", "partner.example"),))])
    assert lines(found)[0] == "Authentication-Results: mx.corp.example; spf=pass"
    assert "smtp.mailfrom=partner.example" in lines(found)[1]


def test_a_flood_of_changes_is_told_in_bounds() -> None:
    raw = make.message(*[("X-Gatepost-A", "x" * 5000)] * 500)
    found = applied(raw=raw)
    assert len(found.changes) == MAX_CHANGES + 1
    assert told(found)[-1][0] == "(400 more lines)"
    assert max(len(before or "") for before, _ in told(found)) <= 1000
    assert b"X-Gatepost-A" not in b"".join(found.pieces)


FIELDS = st.lists(
    st.tuples(
        st.sampled_from(["X-A", "x-gatepost-b", "Authentication-Results", "Subject", "X-Gatepost-Hop", "Received"]),
        st.sampled_from(["x", "mx.corp.example; a=b", "a\r\n b", "", "é", "mx.other.example; none"]),
    ),
    max_size=12,
)


@given(FIELDS, st.data())
def test_exactly_the_fields_that_were_meant_are_gone(fields: list[tuple[str, str]], data: st.DataObject) -> None:
    raw = make.message(*fields)
    case: Case = make.case(raw)
    count = len(case.facts.fields)
    meant = data.draw(st.sets(st.integers(0, count - 1)))
    found = applied(RemoveFields(tuple(sorted(meant))), raw=raw, direction=Direction.OUTBOUND)
    kept = [
        raw[field.start : field.end]
        for index, field in enumerate(case.facts.fields)
        if index not in meant and field.name != "X-Gatepost-Hop"
    ]
    out = b"".join(found.pieces)
    after = scan(out)
    assert [out[field.start : field.end] for field in after.fields[2:]] == kept
    assert out[after.body_start :] == raw[case.facts.body_start :]


@pytest.mark.parametrize("first", [b" dkim=pass header.d=bank.example\r\n", b"\t\r\n", b" one\r\n two\r\n"])
def test_a_continuation_at_the_beginning_continues_no_field_of_ours(first: bytes) -> None:
    found = applied(AddField("X-New", "n"), raw=first + RAW)
    assert b"".join(found.pieces).endswith(b"\r\nX-New: n\r\nX-Gatepost-Stray:" + first + RAW)


def test_a_continuation_at_the_beginning_that_is_removed_leaves_the_next_field_whole() -> None:
    found = applied(RemoveFields((0,)), raw=b" at app5.corp.local\r\n" + RAW)
    assert b"".join(found.pieces).endswith(f"{MARKER}\r\n".encode() + RAW)
    assert told(found) == [("at app5.corp.local", None)]


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ((), ["X-One: new", "X-Two: 2"]),
        ((RemoveFields((ONE,)),), ["X-Two: 2", "X-One: new"]),
        ((ReplaceField(THREE, "third"),), ["X-One: new", "X-Two: 2"]),
    ],
)
def test_a_field_that_is_set_stands_once(before: tuple[Transform, ...], expected: list[str]) -> None:
    found = applied(*before, SetField("x-one", "new"))
    assert [line for line in lines(found) if line.lower().startswith(("x-one", "x-two"))] == expected


def test_a_field_that_is_not_there_is_added_when_it_is_set_and_replaces_what_was_added_before() -> None:
    found = applied(AddField("X-New", "1"), AddField("X-New", "2"), SetField("X-New", "3"))
    assert lines(found)[: len(TRACE) + 1] == [*TRACE, "X-New: 3"]
    assert told(found) == [(None, "X-New: 3")]


@pytest.mark.parametrize(
    ("subject", "prefix", "expected"),
    [
        ("Hello", "[EXT]", "[EXT] Hello"),
        ("Re: [EXT] Hello", "[EXT]", "Re: [EXT] Hello"),
        ("=?utf-8?Q?J=C3=B6?=", "[EXT]", "[EXT] =?utf-8?Q?J=C3=B6?="),
        ("Hello", "Außen", "=?utf-8?B?QXXDn2Vu?= Hello"),
        # RFC 2047 section 6.2: a blank between encoded words is not shown.
        ("=?utf-8?Q?J=C3=B6?=", "Außen", "=?utf-8?B?QXXDn2VuIA==?= =?utf-8?Q?J=C3=B6?="),
        ("=?utf-8?Q?[EXT]_J=C3=B6?=", "[EXT]", "=?utf-8?Q?[EXT]_J=C3=B6?="),
    ],
)
def test_words_before_the_subject(subject: str, prefix: str, expected: str) -> None:
    found = applied(PrefixSubject(prefix), raw=make.message(subject=subject))
    assert [line for line in lines(found) if line.startswith("Subject:")] == [f"Subject: {expected}"]


def test_words_before_no_subject_are_the_subject() -> None:
    found = applied(PrefixSubject("[EXT]"), raw=make.message(without=["subject"]))
    assert [line for line in lines(found) if line.startswith("Subject:")] == ["Subject: [EXT]"]


def test_changes_of_the_subject_add_up_in_their_order() -> None:
    found = applied(SetField("Subject", "Other"), PrefixSubject("[A]"), PrefixSubject("[B]"))
    assert "Subject: [B] [A] Other" in lines(found)
    assert told(found) == [("Subject: Hello", "Subject: [B] [A] Other")]
