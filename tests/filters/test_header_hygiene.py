from typing import Any

import pytest
from pydantic import ValidationError

from gateway.filters.header_hygiene import FILTER, Options
from gateway.inspection.scan import MAX_FIELDS, MAX_VALUE
from gateway.mail.envelope import Direction
from gateway.verdict import Action, AddField, Case, Finding, RemoveFields, ReplaceField
from tests import make

# What an Exchange server behind us puts on a message, names made up.
EXCHANGE = (
    (
        "Received",
        "from EXCH01.corp.local (10.1.2.3) by EXCH02.corp.local\r\n (10.1.2.4) with Microsoft SMTP Server;\r\n date",
    ),
    ("Received", "from EXCH01.corp.local ([fe80::1]) by EXCH01.corp.local ([fe80::1%4]) with mapi id 15.2; date"),
    ("Thread-Topic", "Hello"),
    ("Thread-Index", "AdsAbCdEf=="),
    ("Accept-Language", "de-DE, en-US"),
    ("X-MS-Has-Attach", ""),
    ("X-MS-Exchange-Organization-AuthSource", "EXCH01.corp.local"),
    ("x-originating-ip", "[10.1.7.7]"),
    ("X-Mailer", "Microsoft Outlook 16.0"),
    ("User-Agent", "Thunderbird"),
    ("X-Custom", "built on db.corp.local"),
    ("X-Other", "peer 198.51.100.9"),
    ("X-Fine", "203.0.113.9 and bob@corp.example"),
    ("Content-Type", 'multipart/mixed; boundary="EXCH01.corp.local"'),
    ("MIME-Version", "1.0"),
    ("In-Reply-To", "<a@EXCH01.corp.local>"),
    ("References", "<a@EXCH01.corp.local>"),
    ("Cc", "eve@EXCH01.corp.local"),
)
GONE = ["Received", "Thread-Topic", "Thread-Index", "X-MS-Has-Attach", "X-MS-Exchange-Organization-AuthSource"]
GONE += ["x-originating-ip", "X-Mailer", "User-Agent", "X-Custom", "X-Other"]


def found(case: Case, **options: Any) -> list[Finding]:
    return make.judge_with(FILTER, Options(**options), case)


def removed(case: Case, **options: Any) -> list[str]:
    """The names of all fields that are taken out, each once, in their order."""
    indexes = sorted(
        index
        for one in found(case, **options)
        for transform in one.transforms
        if isinstance(transform, RemoveFields)
        for index in transform.indexes
    )
    return list(dict.fromkeys(case.facts.fields[index].name for index in indexes))


def replaced(case: Case, **options: Any) -> dict[str, str]:
    return {
        case.facts.fields[transform.index].name: transform.value
        for one in found(case, **options)
        for transform in one.transforms
        if isinstance(transform, ReplaceField)
    }


def test_outgoing_mail_loses_what_outsiders_need_not_know() -> None:
    case = make.outbound(make.message(*EXCHANGE))
    assert removed(case) == GONE
    assert [one.code for one in found(case)] == ["trace", "software", "internal"]
    assert {one.action for one in found(case)} == {Action.DELIVER}


def test_a_finding_names_the_fields() -> None:
    case = make.outbound(make.message(("X-Mailer", "x"), ("X-Mailer", "y"), ("User-Agent", "z")))
    assert [one.detail for one in found(case)] == ["removed fields of our own software: X-Mailer, User-Agent"]


def test_mail_that_does_not_leave_keeps_its_header() -> None:
    inbound = make.case(make.message(*EXCHANGE))
    internal = make.case(
        make.message(*EXCHANGE), envelope=make.envelope("a@corp.example", make.recipient(direction=Direction.INTERNAL))
    )
    assert (found(inbound), found(internal)) == ([], [])


def test_only_recipients_outside_get_the_clean_header() -> None:
    envelope = make.envelope(
        "bob@corp.example",
        make.recipient("ann@partner.example", Direction.OUTBOUND),
        make.recipient("eve@corp.example", Direction.INTERNAL),
    )
    case = make.case(make.message(("X-Mailer", "x")), envelope=envelope)
    assert [one.recipients for one in found(case)] == [make.addresses("ann@partner.example")]


@pytest.mark.parametrize(
    ("value", "is_removed"),
    [
        ("from exch.corp.local (10.1.2.3) by mx2 with ESMTP; date", True),
        ("from [192.168.1.5] by smarthost.other.example; date", True),
        ("from pc by exch01.corp.example with ESMTP; date", True),  # a host of ours that is not us
        ("from pc by exch01 with ESMTP; date", True),
        ("by exch01 with local; date", True),
        ("from mail.other.example (203.0.113.5) by mx.corp.example; date", False),  # we wrote it
        ("from mail.other.example (203.0.113.5) by relay.other.example; date", False),
    ],
)
def test_the_trace_of_our_own_machines_goes_and_that_of_others_stays(value: str, is_removed: bool) -> None:
    case = make.outbound(make.message(("Received", value)))
    assert removed(case) == (["Received"] if is_removed else [])
    assert removed(case, received="all") == ["Received"]
    assert removed(case, received="none") == []


def test_an_internal_message_id_is_replaced_by_the_same_one_each_time() -> None:
    internal = make.message(message_id="<ABC@EXCH01.corp.local>")
    first, again = replaced(make.outbound(internal)), replaced(make.outbound(internal, "eve@other.example"))
    assert first == again
    assert first["Message-ID"].endswith("@mx.corp.example>")
    assert "corp.local" not in first["Message-ID"]
    other = replaced(make.outbound(make.message(message_id="<ABD@EXCH01.corp.local>")))
    assert other["Message-ID"] != first["Message-ID"]


@pytest.mark.parametrize(
    ("message_id", "is_replaced"),
    [
        ("<a@EXCH01>", True),  # a name without a dot
        ("<a@localhost>", True),
        ("<a@[10.1.2.3]>", True),
        ("<a.exch01.corp.local@corp.example>", True),
        ("a@exch01.corp.local", True),
        ("<a@corp.example>", False),
        ("<a@mail.other.example>", False),
        ("<no-at-sign>", False),
    ],
)
def test_only_message_ids_of_internal_hosts_are_replaced(message_id: str, is_replaced: bool) -> None:
    case = make.outbound(make.message(message_id=message_id))
    assert bool(replaced(case)) is is_replaced
    assert replaced(case, message_id=False) == {}


def test_answers_keep_the_ids_that_they_refer_to_unless_asked() -> None:
    internal = "<a@EXCH01.corp.local>"
    case = make.outbound(make.message(("References", f"<x@y.example>\r\n\t{internal}"), message_id=internal))
    hidden = replaced(case)["Message-ID"]
    assert replaced(case) == {"Message-ID": hidden}
    assert replaced(case, references=True)["References"] == f"<x@y.example>\t{hidden}"


def test_a_list_of_references_that_was_cut_is_not_written_back() -> None:
    case = make.outbound(make.message(("References", "<a@EXCH01.corp.local> " * MAX_VALUE)))
    assert replaced(case, references=True) == {}


def test_what_people_wrote_is_never_touched() -> None:
    values = {"Subject": "10.1.2.3 down", "To": "x@db.corp.local", "From": "bob@corp.example", "Date": "corp.local"}
    case = make.outbound(make.message(*values.items(), ("X-Tool", "x"), without=list(values)))
    assert removed(case, remove=("Subject", "To", "From", "Date", "*o*", "*t*")) == ["X-Tool"]


def test_fields_to_keep_and_to_remove_are_options() -> None:
    case = make.outbound(make.message(("X-Mailer", "x"), ("X-Custom", "db.corp.local"), ("X-Tag", "y")))
    assert removed(case, keep=("x-mailer", "X-C*")) == []
    assert removed(case, remove=("x-t*",), values=False) == ["X-Tag"]


def test_the_hop_marker_stays_for_our_own_fields_to_replace() -> None:
    assert removed(make.outbound(make.message(("X-Gatepost-Hop", "v1 1 ab"), ("X-Gatepost-Key", "x")))) == [
        "X-Gatepost-Key"
    ]


def test_outgoing_mail_with_more_fields_than_are_looked_at_does_not_leave() -> None:
    findings = found(make.outbound(make.message(*[("X-Fine", "y")] * MAX_FIELDS)))
    assert [(one.code, one.action) for one in findings] == [("unseen", Action.REJECT)]


EDITS = {
    "remove": ["X-Foo", "X-B*"],
    "replace": [{"name": "x-old", "value": "new"}],
    "add": [{"name": "X-Bar", "value": "1"}, {"name": "X-Baz", "value": "2"}],
}
EDITED = make.message(("X-Foo", "a"), ("x-bar", "b"), ("X-Old", "c"), ("X-Other", "d"))


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_fields_are_edited_in_the_direction_that_was_asked_for(direction: str) -> None:
    here, there = (make.case(EDITED), make.outbound(EDITED))
    if direction == "outbound":
        here, there = there, here
    options = {direction: EDITS}
    assert [one.code for one in found(here, **options)] == ["edited"]
    assert removed(here, **options) == ["X-Foo", "x-bar"]
    assert replaced(here, **options) == {"X-Old": "new"}
    added = [one for finding in found(here, **options) for one in finding.transforms if isinstance(one, AddField)]
    assert added == [AddField("X-Bar", "1"), AddField("X-Baz", "2")]
    assert found(there, **options) == []


def test_an_edit_by_pattern_spares_the_trace_and_what_readers_need() -> None:
    raw = make.message(("Received", "x"), ("Content-Type", "text/plain"), ("Return-Path", "<>"), ("X-Foo", "a"))
    assert removed(make.case(raw), inbound={"remove": ["*o*", "R*", "C*"]}) == ["X-Foo"]
    assert removed(make.case(raw), inbound={"remove": ["Subject"]}) == ["Subject"]  # by its name, as the operator will


@pytest.mark.parametrize(
    "edit",
    [
        {"remove": ["Received"]},
        {"remove": ["Content-Type"]},
        {"remove": ["From"]},
        {"remove": ["*"]},
        {"remove": ["X Foo"]},
        {"remove": [""]},
        {"add": [{"name": "Received", "value": "x"}]},
        {"add": [{"name": "X-Gatepost-Hop", "value": "x"}]},
        {"add": [{"name": "X-A", "value": "a\r\nX-B: b"}]},
        {"add": [{"name": "X-A", "value": "é"}]},
        {"add": [{"name": "X:A", "value": "a"}]},
        {"add": [{"name": "X-*", "value": "a"}]},
        {"replace": [{"name": "Authentication-Results", "value": "a"}]},
        {"nosuch": 1},
    ],
)
def test_edits_that_would_break_mail_cannot_be_set(edit: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({"inbound": edit})
