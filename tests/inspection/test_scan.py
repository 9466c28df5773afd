import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspection.scan import DEFECTS, MAX_FIELDS, MAX_TEXT, MAX_VALUE, scan
from gateway.mail.address import Address
from tests import make

ANN = Address("ann", "partner.example")


def test_an_ordinary_message_has_its_facts_and_no_defects() -> None:
    raw = make.message(("Received", "from a by b; date"), ("In-Reply-To", "<x@y.example>"))
    facts = scan(raw)
    assert [field.name for field in facts.fields] == [*make.FIELDS, "Received", "In-Reply-To"]
    assert (facts.authors, facts.author, facts.from_count) == ((ANN,), ANN, 1)
    assert (facts.subject, facts.message_id, facts.hops) == ("Hello", "<m1@partner.example>", 1)
    assert facts.reply_ids == ("<x@y.example>",)
    assert raw[facts.body_start :] == b"Hello, Bob.\r\n"
    assert (facts.size, facts.defects) == (len(raw), ())
    assert (facts.eight_bit_header, facts.eight_bit_body) == (False, False)


def test_spans_cover_the_fields_with_their_line_ends() -> None:
    raw = make.message(("X-Folded", "one\r\n two"))
    field = scan(raw).fields[-1]
    assert raw[field.start : field.end] == b"X-Folded: one\r\n two\r\n"
    assert field.value == "one two"


def test_the_subject_is_decoded_and_the_first_one_counts() -> None:
    facts = scan(make.message(("Subject", "second"), subject="=?utf-8?q?caf=C3=A9?="))
    assert facts.subject == "café"
    assert facts.defects == ("repeated_field",)


def test_octets_beyond_ascii_are_told_apart_by_place() -> None:
    header = scan(make.message(subject="é"))
    body = scan(make.message(body="é\r\n".encode()))
    assert (header.eight_bit_header, header.eight_bit_body) == (True, False)
    assert (body.eight_bit_header, body.eight_bit_body) == (False, True)


def test_our_own_markers_are_kept_as_they_are() -> None:
    facts = scan(make.message(("X-Gatepost-Hop", "v1 1 ab"), ("x-gatepost-hop", "v1 2 cd")))
    assert facts.markers == ("v1 1 ab", "v1 2 cd")


def test_the_nearest_references_are_kept() -> None:
    many = " ".join(f"<{number}@x.example>" for number in range(200))
    facts = scan(make.message(("References", many)))
    assert facts.reply_ids == tuple(f"<{number}@x.example>" for number in range(150, 200))


@pytest.mark.parametrize(
    ("value", "message_id"),
    [("<a@b.example>", "<a@b.example>"), ("a@b.example", "a@b.example"), ("(x) <a@b.example> y", "<a@b.example>")],
)
def test_a_message_id_stands_in_its_brackets(value: str, message_id: str) -> None:
    assert scan(make.message(message_id=value)).message_id == message_id


def test_more_fields_than_are_kept_is_a_defect() -> None:
    facts = scan(make.message(*[("X", "y")] * (MAX_FIELDS + 10)))
    assert len(facts.fields) == MAX_FIELDS
    assert "too_many_fields" in facts.defects
    assert facts.author is None  # another From field may stand further down


@pytest.mark.parametrize(
    "fields",
    [
        [("From", "Eve <eve@other.example>"), ("Received", "from a"), ("Received", "from b")],
        [
            ("References", "<a@b.example>\r\n <c@d.example>"),
            ("In-Reply-To", "<e@f.example>"),
            ("References", "<g@h.example>"),
        ],
        [("X-Gatepost-Hop", "v1 1 a"), ("X-Gatepost-Hop", "v1 2 b"), ("Subject", "caf\u00e9")],
        [("X-Long", "x" * 5000), ("Content-Type", "multipart/report; boundary=x")],
    ],
)
def test_a_line_that_is_no_field_changes_nothing_of_what_the_fields_say(fields: list[tuple[str, str]]) -> None:
    raw = make.message(*fields)
    plain, odd = scan(raw), scan(raw.replace(b"\r\n\r\n", b"\r\nno field\r\n\r\n", 1))
    assert odd.fields[:-1] == plain.fields
    assert odd.defects == ("not_a_field", *plain.defects)
    for name in ("authors", "from_count", "subject", "message_id", "hops", "markers", "reply_ids", "dsn_message_ids"):
        assert getattr(odd, name) == getattr(plain, name), name


def test_values_are_cut_one_by_one_and_in_all() -> None:
    facts = scan(make.message(*[("X-Long", "y" * 10_000)] * 200))
    assert max(len(field.value) for field in facts.fields) == MAX_VALUE
    assert sum(len(field.value) for field in facts.fields) <= MAX_TEXT + MAX_VALUE


REPORT = b"""--b\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.other.example\r
\r
Final-Recipient: rfc822; someone@other.example\r
Action: failed\r
Status: 5.1.1\r
\r
--b\r
Content-Type: text/rfc822-headers\r
\r
Message-ID: <sent@corp.example>\r
Subject: x\r
\r
--b--\r
"""
PLAIN = (
    b"Sorry.\r\n--- Below this line is a copy of the message.\r\n\r\nSubject: x\r\nMessage-Id: <sent@corp.example>\r\n"
)


def test_a_report_tells_the_message_that_it_is_about() -> None:
    raw = make.message(content_type='multipart/report; report-type=delivery-status; boundary="b"', body=REPORT)
    assert scan(raw).dsn_message_ids == ("<sent@corp.example>",)


def test_a_bounce_without_structure_is_searched_only_behind_the_null_path() -> None:
    raw = make.message(body=PLAIN)
    assert scan(raw, envelope=make.envelope("")).dsn_message_ids == ("<sent@corp.example>",)
    assert scan(raw, envelope=make.envelope()).dsn_message_ids == ()


CORP = Address("ceo", "corp.example")
EVIL = Address("x", "evil.example")


@pytest.mark.parametrize(
    ("values", "authors", "author"),
    [
        (["Ann <ann@partner.example>"], {ANN}, ANN),
        (["ann@partner.example"], {ANN}, ANN),
        (['"ceo@corp.example" <x@evil.example>'], {EVIL}, EVIL),  # a display name is no mailbox
        (["ceo@corp.example", "x@evil.example"], {CORP, EVIL}, None),
        (["x@evil.example", "ceo@corp.example"], {CORP, EVIL}, None),
        (["ceo@corp.example", "ceo@corp.example"], {CORP}, None),  # two fields, one mailbox: still two fields
        (["ceo@corp.example, x@evil.example"], {CORP, EVIL}, None),
        (["x@evil.example]@corp.example"], None, None),
        (["<ceo@corp.example> <x@evil.example>"], {CORP, EVIL}, None),
        (["Board: ceo@corp.example, x@evil.example;"], {CORP, EVIL}, None),
        (["=?utf-8?q?=3Cceo=40corp.example=3E?= <x@evil.example>"], {EVIL}, EVIL),
        (["=?utf-8?q?ceo=40corp.example?="], {CORP}, None),
        (["ceo@corp.example (x@evil.example)"], {CORP}, CORP),
        (["Board:;"], set(), None),
        ([""], set(), None),
        ([], set(), None),
    ],
)
def test_every_author_that_a_reader_may_show_is_found(
    values: list[str], authors: set[Address] | None, author: Address | None
) -> None:
    facts = scan(make.message(*[("From", value) for value in values], without=["From"]))
    assert facts.author == author
    if authors is None:  # which ones is the address parser's affair; both domains must be there
        assert {one.domain for one in facts.authors} == {"corp.example", "evil.example"}
    else:
        assert set(facts.authors) == authors


PIECES = (
    b"From|Subject|:| |\t|\r\n|\r\n\r\n|\n|\r|\0|<|>|@|,|\xff|=?utf-8?q?|?=|a.example|--b|Message-ID: <"
    b"|Content-Type: multipart/report; boundary=b"
).split(b"|")
HOSTILE = st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join)


@given(st.one_of(st.binary(max_size=400), HOSTILE))
def test_whatever_comes_in_there_are_facts(raw: bytes) -> None:
    facts = scan(raw, envelope=make.envelope(""))
    assert facts.size == len(raw)
    assert 0 <= facts.body_start <= len(raw)
    assert set(facts.defects) <= set(DEFECTS)
    for field in facts.fields:
        assert 0 <= field.start < field.end <= facts.body_start
        field.value.encode()  # it can be stored


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (b" lost\r\n\tlines\r\nFrom: a@b.example\r\n\r\nbody", [("", "lost\tlines"), ("From", "a@b.example")]),
        (b"From a@b.example Tue\r\nFrom: a@b.example\r\n\r\n", [("", "From a@b.example Tue"), ("From", "a@b.example")]),
        (b"A: 1\r\nno field\r\n at all\r\nB: 2\r\n\r\n", [("A", "1"), ("", "no field at all"), ("B", "2")]),
        (b"A: 1\r\nno field\r\n\r\nC: 3\r\n", [("A", "1"), ("", "no field")]),
        (b"A: 1\r\nno field", [("A", "1"), ("", "no field")]),
    ],
)
def test_lines_of_the_header_that_are_no_field_are_told_without_a_name(
    raw: bytes, fields: list[tuple[str, str]]
) -> None:
    found = scan(raw).fields
    assert [(field.name, field.value) for field in found] == fields
    assert [field.end for field in found[:-1]] == [field.start for field in found[1:]], "no octet between them"
