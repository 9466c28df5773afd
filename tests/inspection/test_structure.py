"""The MIME structure: every plausible reader's leaves are found, and a code says where readers differ."""

import base64
import email
import email.message
import email.policy
import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspection import structure as structure_module
from gateway.inspection.scan import scan
from gateway.inspection.structure import DEFECTS, MAX_TASKS, Structure, structure, structure_of
from gateway.inspection.task import Task
from gateway.inspection.transfer import decodings

ODD_MAIL = Path(__file__).resolve().parents[3] / "shared" / "data" / "mime-odd"
HEADER = b"From: a@x.example\r\nMIME-Version: 1.0\r\n"
SECRET = b"MZ hidden file " + bytes(range(128))
CODED = base64.encodebytes(SECRET).replace(b"\n", b"\r\n")
TEXT = b"Content-Type: text/plain\r\n\r\nhello\r\n"
FILE = (
    b"Content-Type: application/octet-stream; name=a.exe\r\nContent-Transfer-Encoding: base64\r\n"
    b"Content-Disposition: attachment\r\n\r\n" + CODED
)


def read(raw: bytes) -> Structure:
    facts = scan(raw)
    return structure(raw, facts.body_start, facts.fields)


def mixed(body: bytes, value: bytes = b"multipart/mixed; boundary=b") -> bytes:
    return HEADER + b"Content-Type: " + value + b"\r\n\r\n" + body


def two(boundary: bytes = b"b") -> bytes:
    return b"--%b\r\n%b--%b\r\n%b--%b--\r\n" % (boundary, TEXT, boundary, FILE, boundary)


def decoded(raw: bytes, tasks: tuple[Task, ...]) -> set[bytes]:
    return {data for task in tasks for data, _ in decodings(raw[task.start : task.end], task.encodings)}


def holds_secret(raw: bytes) -> bool:
    return SECRET in decoded(raw, read(raw).tasks)


def test_a_message_without_parts_is_one_leaf() -> None:
    raw = HEADER + b'Content-Type: text/html; charset="UTF-8"\r\nContent-Transfer-Encoding: Base64\r\n\r\n' + CODED
    found = read(raw)
    assert found.tasks == (Task("1", raw.index(b"\r\n\r\n") + 4, len(raw), ("base64",), ("text/html",), ("utf-8",)),)
    assert found.defects == ()


def test_entities_point_to_headers_bodies_and_delimiters() -> None:
    raw = mixed(two())
    whole, text, file = read(raw).entities
    assert (whole.path, whole.parent, whole.kinds, text.path, file.path) == ("", -1, ("multipart/mixed",), "1", "2")
    assert [raw[start:end] for start, end in whole.delimiters] == [b"--b\r\n", b"\r\n--b\r\n", b"\r\n--b--\r\n"]
    assert raw[text.start : text.body_start] == b"Content-Type: text/plain\r\n\r\n"
    assert raw[text.body_start : text.end] == b"hello"
    assert raw[file.body_start : file.end] == CODED.removesuffix(b"\r\n")
    assert file.parent == 0


def test_nested_parts_and_attached_messages_have_paths() -> None:
    inner = b"Content-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n" + TEXT + b"--c\r\n" + TEXT + b"--c--\r\n"
    attached = b"Content-Type: message/rfc822\r\n\r\n" + mixed(two(b"d"), b"multipart/mixed; boundary=d")
    single = b"Content-Type: message/rfc822\r\n\r\n" + HEADER + TEXT
    raw = mixed(b"--b\r\n" + inner + b"--b\r\n" + attached + b"\r\n--b\r\n" + single + b"\r\n--b--\r\n")
    found = read(raw)
    assert [task.path for task in found.tasks] == ["1.1", "1.2", "2.1", "2.2", "3.1"]
    assert found.defects == ()


@pytest.mark.parametrize(
    ("raw", "codes"),
    [
        (mixed(two(), b'multipart / mixed; boundary = "b"'), ()),
        (mixed(two(), b"(x) multipart/mixed (y);\r\n\tboundary=(z)b"), ()),
        (mixed(two(), b"multipart/mixed boundary=b"), ()),
        (mixed(two(), b"multipart/mixed; boundary='b'"), ("ambiguous_boundary",)),
        (mixed(two(b"'b'"), b"multipart/mixed; boundary='b'"), ("ambiguous_boundary",)),
        (mixed(two(), b'multipart/mixed; boundary="b"garbage'), ("ambiguous_boundary",)),
        (mixed(two(), b"multipart/mixed; boundary=a; boundary=b"), ("ambiguous_boundary",)),
        (mixed(two(), b"multipart/mixed; boundary=b; boundary=a"), ("ambiguous_boundary",)),
        (mixed(two(), b"multipart/mixed; boundary*0=b"), ()),
        (mixed(two(b"bc"), b"multipart/mixed; boundary*1=c; boundary*0=b"), ("ambiguous_boundary",)),
        (mixed(two(), b"multipart/mixed; boundary*=us-ascii''b"), ()),
        (mixed(two(), b'multipart/mixed; boundary="b '), ()),
        (mixed(two(), b'multipart/mixed; boundary="b "'), ()),
        (mixed(two(b"b" * 90), b"multipart/mixed; boundary=" + b"b" * 90), ("long_boundary",)),
        (mixed(two(b""), b'multipart/mixed; boundary=""'), ("no_boundary",)),
        (mixed(two(), b"multipart/mixed"), ("no_boundary", "hidden_parts")),
        (mixed(two(), b"multipart/mixed; boundary=none"), ("no_delimiter", "hidden_parts")),
        (mixed(two(), b"text/plain; boundary=b"), ("unexpected_boundary",)),
        (mixed(two(), b"text/plain"), ("hidden_parts",)),
        (mixed(two(), b"x"), ("ambiguous_type", "hidden_parts")),
        (
            mixed(two(), b"text/plain\r\nContent-Type: multipart/mixed; boundary=b"),
            ("repeated_field", "ambiguous_type"),
        ),
        (
            mixed(two(), b"multipart/mixed; boundary=b\r\nContent-Type: text/plain"),
            ("repeated_field", "ambiguous_type"),
        ),
        (
            mixed(two(), b"multipart/mixed; boundary=a\r\nContent-Type: multipart/mixed; boundary=b"),
            ("repeated_field", "ambiguous_boundary"),
        ),
        (mixed(two().replace(b"--b--\r\n", b"")), ("no_close",)),
        (mixed(b"--b\r\n" + TEXT + b"--b--\r\n--b\r\n" + FILE + b"--b--\r\n"), ("early_close", "epilogue")),
        (mixed(b"--b\r\n" + TEXT + b"--bc\r\n" + FILE + b"--b--\r\n"), ("prefix_boundary",)),
        (mixed(b"--b \t\r\n" + TEXT + b"--b  \r\n" + FILE + b"--b-- \r\n"), ()),
        (mixed(b"--b\r\n" + TEXT.rstrip() + b"--b\r\n" + FILE + b"--b--\r\n"), ("inline_delimiter",)),
        (mixed(b"--b\r\n" + TEXT + b"--b--\r\n" + FILE), ("epilogue",)),
        (mixed(FILE + b"--b\r\n" + TEXT + b"--b--\r\n"), ("preamble",)),
        (mixed(CODED + b"--b\r\n" + TEXT + b"--b--\r\n"), ("preamble", "undeclared_base64")),
        (mixed(b"--b--\r\n" + FILE), ("no_delimiter", "epilogue")),
        (mixed(b"--b\r\n" + FILE.replace(b"attachment\r\n", b"attachment\r\nno field") + b"--b--"), ("no_blank_line",)),
        (mixed(b"--b\r\n" + FILE.replace(b"\r\n\r\n", b"\r\n \t\r\n", 1) + b"--b--"), ()),
        (mixed(b"--b\r\n" + CODED + b"--b--\r\n"), ("undeclared_base64",)),
        (mixed(two().replace(b": base64", b": base-64")), ("odd_encoding", "ambiguous_encoding")),
        (mixed(two().replace(b": base64", b': "base64"')), ("odd_encoding",)),
        (mixed(two().replace(b": base64", b": 8bit base64")), ("odd_encoding", "ambiguous_encoding")),
        (mixed(two().replace(b": base64", b": base64 (x)")), ("odd_encoding",)),
        (mixed(two().replace(b": base64", b": (x) BASE64")), ("odd_encoding",)),
        (mixed(two().replace(b": base64", b": other")), ("odd_encoding", "undeclared_base64")),
        (mixed(two().replace(b"g: base64", b"g: 7bit\r\nContent-Transfer-Encoding: base64")), ("ambiguous_encoding",)),
        (mixed(two().replace(b"g: base64", b"g: base64\r\nContent-Transfer-Encoding: 7bit")), ("ambiguous_encoding",)),
        (HEADER + b"\r\nSee this:\r\n\r\n" + CODED, ("undeclared_base64",)),
    ],
)
def test_a_file_is_found_however_readers_find_it(raw: bytes, codes: tuple[str, ...]) -> None:
    found = read(raw)
    assert SECRET in decoded(raw, found.tasks)
    assert set(codes) <= set(found.defects) <= set(DEFECTS)


def test_an_inner_multipart_may_have_the_boundary_of_the_outer_one() -> None:
    inner = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    assert holds_secret(mixed(b"--b\r\n" + inner + two() + b"--b--\r\n"))


def test_an_inner_boundary_may_begin_with_the_outer_one() -> None:
    inner = b"Content-Type: multipart/mixed; boundary=bc\r\n\r\n" + two(b"bc")
    raw = mixed(b"--b\r\n" + inner + b"--b--\r\n")
    assert holds_secret(raw)
    assert "prefix_boundary" in read(raw).defects


def test_a_part_without_a_type_in_a_digest_is_a_message() -> None:
    raw = mixed(b"--b\r\n\r\n" + HEADER + FILE + b"--b--\r\n", b"multipart/digest; boundary=b")
    (task,) = read(raw).tasks
    assert (task.path, task.names, task.encodings) == ("1.1", ("a.exe",), ("base64",))


@pytest.mark.parametrize(
    ("kind", "code", "leaves"),
    [
        (b"message/rfc822", "", 1),
        (b"message/partial; id=x; number=1", "partial_message", 2),
        (b"message/external-body; access-type=url", "external_body", 2),
    ],
)
def test_attached_messages_are_walked_into(kind: bytes, code: str, leaves: int) -> None:
    raw = HEADER + b"Content-Type: " + kind + b"\r\n\r\n" + HEADER + FILE
    found = read(raw)
    assert SECRET in decoded(raw, found.tasks)
    assert len(found.tasks) == leaves
    assert code in (*found.defects, "")


def test_an_encoded_message_is_a_leaf_for_the_box() -> None:
    coded = base64.encodebytes(HEADER + FILE).replace(b"\n", b"\r\n")
    raw = HEADER + b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + coded
    found = read(raw)
    assert [(task.path, task.encodings) for task in found.tasks] == [("1", ("base64",))]
    assert found.defects == ("encoded_message",)


def test_a_program_called_a_message_is_a_leaf() -> None:
    raw = HEADER + b"Content-Type: message/rfc822\r\n\r\nMZ\x90 no header\r\n"
    found = read(raw)
    assert found.defects == ("no_message",)
    assert decoded(raw, found.tasks) == {b"MZ\x90 no header\r\n"}


@pytest.mark.parametrize(
    ("block", "encoding", "name", "code"),
    [
        (b"begin 644 my file.exe\r\n#86)C\r\n`\r\nend", "x-uuencode", "my file.exe", "uuencode"),
        (b"begin-base64 644 b.exe\r\nTVo=\r\n====", "x-uuencode", "b.exe", "uuencode"),
        (b"=ybegin line=128 size=3 name=c.exe\r\nabc\r\n", "x-yenc", "c.exe", "yenc"),
        (b"(This file must be converted with BinHex 4.0)\r\n\r\n:abc:", "x-binhex40", "", "binhex"),
    ],
)
def test_encoded_files_in_text_are_leaves(block: bytes, encoding: str, name: str, code: str) -> None:
    tail = b"=yend size=3\r\n" if encoding == "x-yenc" else b"\r\nbye\r\n"
    raw = HEADER + b"\r\nHello,\r\n\r\n" + block + tail
    found = read(raw)
    assert [(task.path, task.encodings[0]) for task in found.tasks] == [("1", "7bit"), ("1.1", encoding)]
    assert found.tasks[1].names == ((name,) if name else ())
    assert raw[found.tasks[1].start : found.tasks[1].end] == block
    assert found.defects == (code,)


def test_a_few_words_before_and_after_the_parts_are_no_leaves() -> None:
    raw = mixed(b"This is a multi-part message in MIME format.\r\n" + two() + b"\r\n\r\n")
    assert [task.path for task in read(raw).tasks] == ["1", "2"]


def test_a_body_without_an_empty_line_before_it_is_found() -> None:
    raw = HEADER + b"Content-Type: multipart/mixed; boundary=b\r\n" + two()
    found = read(raw)
    assert SECRET in decoded(raw, found.tasks)
    assert "no_blank_line" in found.defects


def test_mime_fields_beyond_the_listed_ones_count() -> None:
    raw = HEADER + b"X: y\r\n" * 2500 + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + two()
    assert [task.path for task in read(raw).tasks] == ["1", "2"]


def test_a_long_field_is_read_whole() -> None:
    raw = mixed(two(), b"multipart/mixed;" + b"\r\n x=yyyyyyyyyyyyyyyy;" * 300 + b" boundary=b")
    assert holds_secret(raw)


def test_lines_may_end_in_lf_alone_where_no_listener_was_asked() -> None:
    raw = mixed(two()).replace(b"\r\n", b"\n")
    found = structure_of(raw)
    assert [task.path for task in found.tasks] == ["1", "2"]
    assert SECRET in decoded(raw, found.tasks)


# --- Limits -----------------------------------------------------------------------------------------------------------

SIZE = 1 << 20
HOSTILE = {
    "hyphens": mixed(b"--\r\n" * (SIZE // 4)),
    "delimiters": mixed(b"--b\r\n" * (SIZE // 5)),
    "prefixes": mixed(b"--bc\r\n" * (SIZE // 6)),
    "one line": mixed(b"x--b" * (SIZE // 4)),
    "headers": mixed(b"--b\r\nContent-Type: text/plain\r\n" * (SIZE // 33)),
    "nested": b"".join(
        b"Content-Type: multipart/mixed; boundary=%b\r\n\r\n--%b\r\n" % (b"b" * n, b"b" * n) for n in range(1, 200)
    )
    + b"x" * SIZE,
    "messages": b"From: a@x.example\r\nContent-Type: message/rfc822\r\n\r\n" * (SIZE // 50),
    "unknown boundaries": HEADER
    + b"\r\n"
    + b"".join(b"--%d\r\nContent-Type: text/plain\r\n\r\n" % n for n in range(SIZE // 40)),
    "no fields": b"x\r\n" * (SIZE // 3),
    "begin lines": HEADER + b"\r\n" + b"begin 644 a\r\n" * (SIZE // 13),
    "yenc": HEADER + b"\r\n" + b"=ybegin " * (SIZE // 8),
    "blanks": HEADER + b"\r\n" + b" " * SIZE,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_structures_yield_a_bounded_number_of_octets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = HOSTILE[name]
    looked = 0
    find = structure_module.find_delimiters

    def counting(raw: bytes, boundary: bytes, start: int, end: int) -> object:
        nonlocal looked
        looked += end - start
        return find(raw, boundary, start, end)

    monkeypatch.setattr(structure_module, "find_delimiters", counting)
    found = structure_of(raw)
    assert len(found.tasks) <= MAX_TASKS + 1
    assert len(found.entities) <= structure_module.MAX_ENTITIES
    free = structure_module.FREE_OCTETS
    assert looked <= structure_module.MAX_PASSES * len(raw) + free
    assert sum(task.end - task.start for task in found.tasks) <= structure_module.MAX_COPIES * len(raw) + free


@pytest.mark.parametrize(("name", "code"), [("delimiters", "too_many_parts"), ("nested", "too_deep")])
def test_a_limit_that_is_reached_has_a_code(name: str, code: str) -> None:
    assert code in structure_of(HOSTILE[name]).defects


def test_what_lies_beyond_the_number_of_parts_is_a_leaf_itself() -> None:
    raw = mixed(b"--b\r\n\r\nx\r\n" * (MAX_TASKS + 100) + b"--b\r\n" + FILE + b"--b--\r\n")
    found = read(raw)
    assert "too_many_parts" in found.defects
    assert SECRET in decoded(raw, found.tasks)


# --- Against other readers --------------------------------------------------------------------------------------------

TYPES = st.sampled_from(
    [
        b"multipart/mixed; boundary=%b",
        b'multipart/mixed; boundary="%b"',
        b"multipart/related; boundary=x; boundary=%b",
        b'multipart/alternative; boundary="%b"; boundary=x',
        b"text/plain\r\nContent-Type: multipart/mixed; boundary=%b",
        b"multipart/mixed;\r\n boundary*0=%b",
        b"multipart/mixed\r\n\t; boundary = %b",
        b"multipart/mixed; boundary='%b'",
        b"Multipart/Mixed boundary=%b",
    ]
)
BOUNDARIES = st.sampled_from([b"b", b"bb", b"b--", b"=_b", b"b'"])
TAILS = st.sampled_from([b"", b" ", b"\t ", b"x", b"--", b"--x"])
BREAKS = st.sampled_from([b"\r\n", b"\r\n\r\n", b"", b"\r\n \r\n"])
ENCODINGS = st.sampled_from(
    [b"base64", b"BASE64", b"base64 (x)", b'"base64"', b"base64\r\nContent-Transfer-Encoding: 7bit", b"8bit base64"]
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Draw a message with one file hidden in some structure."""
    boundary = draw(BOUNDARIES)
    part = b"Content-Type: application/x\r\nContent-Transfer-Encoding: " + draw(ENCODINGS) + b"\r\n\r\n" + CODED
    for _ in range(draw(st.integers(0, 3))):
        pieces = draw(st.permutations([part, TEXT, b"", b"prose\r\n"]))
        delimiter = b"--" + boundary
        body = draw(BREAKS)
        for piece in pieces:
            body += delimiter + draw(TAILS) + draw(BREAKS) + piece + draw(BREAKS)
        kind = draw(TYPES) % boundary
        part = b"Content-Type: " + kind + b"\r\n\r\n" + body + draw(st.sampled_from([b"", delimiter + b"--\r\n"]))
        boundary = draw(BOUNDARIES)
    return HEADER + part


def found_by_email(raw: bytes, policy: email.policy.Policy) -> bool:
    message = email.message_from_bytes(raw, policy=policy)
    return any(part.get_payload(decode=True) == SECRET for part in message.walk() if not part.is_multipart())


def found_by_searching(raw: bytes) -> bool:
    """Find the file as a lenient reader does: runs of base64 lines wherever they are."""
    runs = re.findall(rb"(?:[A-Za-z0-9+/]{20,}={0,2}\r\n)+", raw)
    return any(SECRET in base64.b64decode(run + b"==") for run in runs)


@given(messages())
def test_what_other_readers_find_is_found(raw: bytes) -> None:
    found = decoded(raw, read(raw).tasks)
    if found_by_email(raw, email.policy.compat32) or found_by_email(raw, email.policy.default):
        assert SECRET in found
    if found_by_searching(raw):
        assert any(SECRET in data for data in found)


@pytest.mark.skipif(not ODD_MAIL.is_dir(), reason="the collection of odd mail is not beside the checkout")
def test_odd_mail_has_bounded_structures_and_no_attachment_is_lost() -> None:
    for path in sorted(ODD_MAIL.rglob("*")):
        if path.is_file() and path.suffix != ".jsonl":
            raw = re.sub(rb"\r\n|\r|\n", b"\r\n", path.read_bytes())
            found = read(raw)
            assert len(found.tasks) <= MAX_TASKS + 1
            assert set(found.defects) <= set(DEFECTS)
            lost = attachments(raw) - {digest(data) for data in decoded(raw, found.tasks)}
            assert not lost, path


def digest(data: bytes) -> str:
    return hashlib.sha256(data.replace(b"\r\n", b"\n").strip()).hexdigest()


def attachments(raw: bytes) -> set[str]:
    """Return the digests of what Python's reader finds and calls an attachment, decoded."""
    message = email.message_from_bytes(raw, policy=email.policy.compat32)
    leaves = [part for part in message.walk() if not part.is_multipart() and part.get_filename()]
    found = [part.get_payload(decode=True) for part in leaves if not is_undecoded(part)]
    return {digest(data) for data in found if isinstance(data, bytes) and data.strip()}


def is_undecoded(part: email.message.Message) -> bool:
    """What Python cannot decode from base64 it gives as it stands, but for the line ends: no file that anybody sees."""
    as_it_stands = "".join(str(part.get_payload()).splitlines()).encode("ascii", "replace")
    is_base64 = str(part.get("Content-Transfer-Encoding", "")).strip().lower() == "base64"
    return is_base64 and part.get_payload(decode=True) == as_it_stands
