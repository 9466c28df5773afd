"""Finding the fields of a header, and reading and writing one."""

import re
import time
from email import message_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail.errors import Malformed
from gateway.mail.fields import (
    DEFECTS,
    MAX_FIELDS,
    MAX_PLAIN,
    fold,
    plain_fields,
    scan_header,
    text_of_value,
    unfold,
)


def scanned(raw: bytes, max_bytes: int = 1 << 20) -> tuple[list[tuple[str, str]], bytes, tuple[str, ...]]:
    """Return the fields as name and unfolded value, the body, and the defects."""
    spans, body_start, defects = scan_header(raw, max_bytes)
    return [(span.name, unfold(raw[span.value_start : span.end])) for span in spans], raw[body_start:], defects


@pytest.mark.parametrize(
    ("raw", "fields", "body", "defects"),
    [
        (b"A: 1\r\nB: 2\r\n\r\nbody\r\n", [("A", "1"), ("B", "2")], b"body\r\n", ()),
        (b"Subject: one\r\n two\r\n\tthree\r\n\r\n", [("Subject", "one two\tthree")], b"", ()),
        (b"Subject:\r\n one\r\n\r\n", [("Subject", "one")], b"", ()),
        (b"Subject:\r\nTo:x\r\n\r\n", [("Subject", ""), ("To", "x")], b"", ()),
        (b"A: b: c\r\n\r\n", [("A", "b: c")], b"", ()),
        (b"A!#$%&'*+-.^_`|~9: x\r\n\r\n", [("A!#$%&'*+-.^_`|~9", "x")], b"", ()),
        (b"\r\nbody", [], b"body", ()),
        (b"", [], b"", ("no_body",)),
        (b"A: 1\r\n", [("A", "1")], b"", ("no_body",)),
        (b"A: 1", [("A", "1")], b"", ("no_body",)),
        (b"A: 1\r\n 2", [("A", "1 2")], b"", ("no_body",)),
        (b"A : 1\r\nB\t: 2\r\n\r\n", [("A", "1"), ("B", "2")], b"", ("space_before_colon",)),
        (b"A: 1\r\nno field\r\nB: 2\r\n\r\n", [("A", "1"), ("B", "2")], b"", ("not_a_field",)),
        (b"A: 1\r\nno field\r\n with: continuation\r\nB: 2\r\n\r\n", [("A", "1"), ("B", "2")], b"", ("not_a_field",)),
        (b"A: 1\r\n: 2\r\n\r\n", [("A", "1")], b"", ("not_a_field",)),
        (b"A b: 1\r\n\r\n", [], b"", ("not_a_field",)),
        ("Größe: 1\r\nA: 2\r\n\r\n".encode(), [("A", "2")], b"", ("not_a_field",)),
        (b"From a@b.example Mon\r\nA: 1\r\n\r\n", [("A", "1")], b"", ("mbox_line",)),
        (b"From a@b.example Mon 10:00\r\nA: 1\r\n\r\n", [("A", "1")], b"", ("mbox_line",)),
        (b"From : a@b.example\r\nA: 1\r\n\r\n", [("From", "a@b.example"), ("A", "1")], b"", ("space_before_colon",)),
        (b"From \t : a@b.example\r\n\r\n", [("From", "a@b.example")], b"", ("space_before_colon",)),
        (b" A: 1\r\nB: 2\r\n\r\n", [("B", "2")], b"", ("leading_continuation",)),
        (b"A: 1\r\n \t\r\nB: 2\r\n\r\n", [("A", "1"), ("B", "2")], b"", ("blank_continuation",)),
        (b"A: 1\r\n \t\r\n 2\r\n\r\n", [("A", "1 \t 2")], b"", ("blank_continuation",)),
        (b"A: 1\rB: 2\r\nC: 3\r\n\r\n", [("A", "1\rB: 2"), ("C", "3")], b"", ()),
    ],
)
def test_a_header_is_scanned(raw: bytes, fields: list[tuple[str, str]], body: bytes, defects: tuple[str, ...]) -> None:
    assert scanned(raw) == (fields, body, defects)


def test_a_span_covers_the_field_from_its_name_to_its_last_line_end() -> None:
    raw = b"A: 1\r\nSubject: one\r\n two\r\nB: 2\r\n\r\nbody"
    spans, _, _ = scan_header(raw, 1000)
    assert [raw[span.start : span.end] for span in spans] == [b"A: 1\r\n", b"Subject: one\r\n two\r\n", b"B: 2\r\n"]
    assert [raw[span.value_start : span.end] for span in spans] == [b" 1\r\n", b" one\r\n two\r\n", b" 2\r\n"]


def test_fields_beyond_the_limit_are_not_listed_but_the_body_is_found() -> None:
    raw = b"A: 1\r\nB: 2\r\nC: 3\r\n\r\nbody"
    assert scanned(raw, 14) == ([("A", "1"), ("B", "2")], b"body", ("header_too_long",))
    assert scanned(raw, 3) == ([], b"body", ("header_too_long",))
    assert scanned(b"A: 1\r\nB: 2\r\n 3\r\n 4\r\n\r\n", 18) == ([("A", "1")], b"", ("header_too_long",))


def test_no_more_than_the_first_ten_thousand_fields_are_listed() -> None:
    fields, body, defects = scanned(b"A: 1\r\n" * (MAX_FIELDS + 1) + b"\r\nbody")
    assert (len(fields), body, defects) == (MAX_FIELDS, b"body", ("too_many_fields",))
    assert scanned(b"A: 1\r\n" * MAX_FIELDS + b"\r\n")[2] == ()


@pytest.mark.parametrize(
    "piece",
    [b"a:\r\n", b"a\r\n", b"a: b\r\n \r\n", b"\r\n b", b"\r", b" \r\n", b":", b"a", b"\r\n\t ", b"\r\na", b"a "],
)
def test_a_huge_hostile_header_is_scanned_in_little_time(piece: bytes) -> None:
    raw = piece * (1_000_000 // len(piece))
    started = time.perf_counter()
    for header in (raw, b"a:" + raw, raw + b"\r\n\r\n", b"a:" + raw + b"\r\n\r\n"):
        scan_header(header, 1 << 20)
    assert time.perf_counter() - started < 2.0  # some 0.05 s


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"A", b"b", b":", b" ", b"\t", b"\r\n", b"\r", b"\n", b"\xc3", b"From ", b"\r\n\r\n"]),
        max_size=30,
    )
)
def test_whatever_the_octets_spans_are_in_order_and_within_the_header(pieces: list[bytes]) -> None:
    raw = b"".join(pieces)
    spans, body_start, defects = scan_header(raw, 20)
    assert 0 <= body_start <= len(raw)
    assert set(defects) <= set(DEFECTS)
    at = 0
    for span in spans:
        assert at <= span.start < span.value_start <= span.end <= min(body_start, 20)
        assert raw[span.start : span.start + len(span.name)] == span.name.encode()
        at = span.end


_names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
_values = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(_names, st.lists(_values, min_size=1, max_size=4)), min_size=1, max_size=8))
def test_a_well_formed_header_is_read_as_python_reads_it(fields: list[tuple[str, list[str]]]) -> None:
    raw = "".join(f"{name}: " + "\r\n ".join(lines) + "\r\n" for name, lines in fields).encode() + b"\r\nbody"
    found, body, defects = scanned(raw)
    expected = [(name, re.sub(r"\r?\n", "", value)) for name, value in message_from_bytes(raw).items()]
    assert (found, body, defects) == (expected, b"body", ())


_pieces = st.sampled_from(
    [b"A: 1\r\n", b"b:", b" ", b"\t", b"\r\n", b"\r\n ", b"\r", b"\n", b"\0", b"\xc3\xa9", b"\xe9", b"x y", b"\r\n\r\n"]
)


@settings(max_examples=200)
@given(st.lists(_pieces, max_size=20).map(b"".join))
def test_an_ordinary_header_is_read_at_once_as_it_is_scanned_and_any_other_is_not(raw: bytes) -> None:
    spans, body_start, defects = scan_header(raw, 1 << 20)
    fields, body_at = plain_fields(raw)
    assert not fields or (spans and not defects)
    if b"\r" not in raw.replace(b"\r\n", b""):  # bare ones are refused at the door; the careful way reads them too
        assert bool(fields) is bool(spans and not defects)
    if fields:
        assert body_at == body_start
        assert [name for _, name, _ in fields] == [span.name for span in spans]
        assert [whole.encode("latin-1") for whole, _, _ in fields] == [raw[span.start : span.end] for span in spans]
        values = [unfold(raw[span.value_start : span.end]) for span in spans]
        assert [text_of_value(value) for _, _, value in fields] == values


def test_a_header_of_more_than_64_kib_is_not_read_at_once() -> None:
    raw = b"A: %b\r\n\r\n"
    fits = MAX_PLAIN - len(raw) + 2
    assert plain_fields(raw % (b"x" * fits))[1] == MAX_PLAIN
    assert plain_fields(raw % (b"x" * (fits + 1)))[0] == []


@pytest.mark.parametrize("piece", [b"a", b"a:\r\n", b"a:\r\n \t", b"\r\n ", b"a:\r"])
def test_a_hostile_header_is_read_at_once_in_little_time(piece: bytes) -> None:
    raw = (piece * MAX_PLAIN)[: MAX_PLAIN - 4] + b"\r\n\r\n"
    start = time.process_time()
    plain_fields(raw)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b" plain\r\n", "plain"),
        (b"\tone\r\n\ttwo \r\n", "one\ttwo"),
        (" Größe\r\n".encode(), "Größe"),
        (b" Gr\xf6\xdfe\r\n", "Größe"),  # Latin-1
        (b"", ""),
        (b" =?utf-8?q?x?=\r\n", "=?utf-8?q?x?="),
    ],
)
def test_a_value_is_unfolded(raw: bytes, text: str) -> None:
    assert unfold(raw) == text


def test_a_short_field_is_written_on_one_line() -> None:
    assert fold("X-Gatepost-Hop", "mx.corp.example") == b"X-Gatepost-Hop: mx.corp.example\r\n"
    assert fold("Subject", "") == b"Subject: \r\n"
    assert fold("Subject", "Größe") == "Subject: Größe\r\n".encode()


def test_a_long_field_is_folded_at_blanks_which_stay() -> None:
    assert fold("Subject", "word " * 20) == (b"Subject:" + b" word" * 14 + b"\r\n" + b" word" * 6 + b"\r\n")


@pytest.mark.parametrize("value", ["a\r\nBcc: x@y.example", "a\nb", "a\rb", "a\0b", "\n"])
def test_a_value_that_would_break_out_is_refused(value: str) -> None:
    with pytest.raises(Malformed):
        fold("Subject", value)


@pytest.mark.parametrize("name", ["", "A:", "A b", "A\r\nB", "Größe", "A\0"])
def test_an_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(Malformed):
        fold(name, "x")


_words = st.text(st.characters(exclude_characters="\r\n\0 \t", exclude_categories=["Cs"]), min_size=1, max_size=90)
_texts = st.lists(st.tuples(_words, st.sampled_from([" ", "\t", "  ", " \t "])), max_size=30)


@settings(max_examples=200, deadline=None)
@given(_texts)
def test_what_is_folded_is_unfolded_again(pieces: list[tuple[str, str]]) -> None:
    value = "".join(word + blanks for word, blanks in pieces).strip(" \t")
    raw = fold("X-Test", value)
    assert unfold(raw[7:]) == value
    assert scanned(raw + b"\r\n")[0] == [("X-Test", value)]
    lines = raw.removesuffix(b"\r\n").split(b"\r\n")
    assert all(line.strip(b" \t") for line in lines)
    assert all(len(line) <= 78 or not re.search(rb"[ \t]", line.strip(b" \t")) for line in lines[1:])


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("aü漢😀 \t"), max_size=300), st.integers(1, 40))
def test_no_line_is_ever_too_long_or_blank(text: str, times: int) -> None:
    raw = fold("X-Test", text * times)
    spans, _, defects = scan_header(raw + b"\r\n", 1 << 20)
    assert (len(spans), defects) == (1, ())
    for line in raw.removesuffix(b"\r\n").split(b"\r\n"):
        assert len(line) <= 998
        line.decode()  # no character is cut in two
