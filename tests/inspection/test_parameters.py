"""Parameters of MIME fields: what is by the book is read once, and what is not in all ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspection import parameters
from gateway.inspection.parameters import MAX_READINGS, read_value
from gateway.inspection.part_header import find_header, read_header


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("text/plain", "text/plain", {}),
        ('Text/HTML; Charset="UTF-8"; format=flowed', "text/html", {"charset": ("UTF-8",), "format": ("flowed",)}),
        ("attachment; filename=a.txt;", "attachment", {"filename": ("a.txt",)}),
        ('multipart/mixed; boundary="----=_Part_1?.2"', "multipart/mixed", {"boundary": ("----=_Part_1?.2",)}),
    ],
)
def test_an_ordinary_value_has_one_reading(text: str, kind: str, found: dict[str, tuple[str, ...]]) -> None:
    value = read_value(text)
    assert (value.kinds, value.parameters, value.is_odd) == ((kind,), found, False)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('x/y; name="a.exe"', {"a.exe"}),
        ("x/y; name=a b.exe", {"a", "a b.exe"}),
        ("x/y; name='a.exe'", {"'a.exe'", "a.exe"}),
        ('x/y; name="a\\"b.exe"', {'a"b.exe', 'a\\"b.exe'}),
        (r'x/y; name="C:\dir\a.exe"', {"C:dira.exe", r"C:\dir\a.exe"}),
        ('x/y; name="a.txt"; name="b.exe"', {"a.txt", "b.exe"}),
        ('x/y; name="a.txt"b.exe', {"a.txt", "a.txtb.exe"}),
        ('x/y; name="a;b.exe"', {"a;b.exe"}),
        ("x/y; name = (comment) a.exe", {"a.exe"}),
        ("x/y name=a.exe", {"a.exe"}),
        ('x/y; name="a.exe', {"a.exe"}),
        ("x/y; NAME=a.exe", {"a.exe"}),
        ("x/y; name*=utf-8''a%2Eexe", {"a.exe", "a%2Eexe"}),
        ("x/y; name*=iso-8859-1'de'%FC.exe", {"\u00fc.exe"}),
        ("x/y; name*0=a.; name*1=exe", {"a.exe"}),
        ("x/y; name*1=exe; name*0=a.", {"a.exe", "exea."}),
        ("x/y; name*0*=utf-8''a%2E; name*1=e%78e", {"a.e%78e"}),
        ("x/y; name=a.txt; name*=utf-8''b.exe", {"a.txt", "b.exe"}),
        ("x/y; name=a%2Eexe", {"a%2Eexe", "a.exe"}),
        ('x/y; name="=?utf-8?B?YS5leGU=?="', {"a.exe", "=?utf-8?B?YS5leGU=?="}),
        ("x/y; name==?utf-8?Q?a=2Eexe?=", {"a.exe"}),
        ('x/y; name="=?utf-8?Q?a=2E?= =?utf-8?Q?exe?="', {"a.exe"}),
    ],
)
def test_all_names_that_readers_show_are_found(text: str, names: set[str]) -> None:
    assert names <= set(read_value(text).parameters["name"])


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("(x) text/html", {"text/html"}),
        ("text / html", {"text/html"}),
        ('"text/html"', {"text/html"}),
        ("text/html charset=utf-8", {"text/html"}),
        ("; text/html", {"text/html"}),
        ("text(a)/html", {"text/html"}),
    ],
)
def test_a_type_that_is_written_oddly_is_found(text: str, kinds: set[str]) -> None:
    value = read_value(text)
    assert kinds <= set(value.kinds)
    assert value.is_odd


@given(st.text(alphabet="abn;=*'\"\\()%20 /\t?name", max_size=80) | st.text(max_size=80))
def test_any_text_can_be_read_in_a_bounded_number_of_readings(text: str) -> None:
    value = read_value("x/y; " + text)
    assert len(value.kinds) <= MAX_READINGS
    assert all(0 < len(readings) <= MAX_READINGS for readings in value.parameters.values())


def test_more_parameters_than_are_read_cost_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameters, "MAX_PARAMETERS", 10)
    value = read_value("x/y;" + ";".join(f" (x) p{number}=v" for number in range(1000)))
    assert len(value.parameters) <= 10


def test_names_come_from_both_fields_the_dispositions_first() -> None:
    header = read_header([("content-type", "x/y; name=a.exe"), ("content-disposition", "attachment; filename=b.txt")])
    assert header.names == ("b.txt", "a.exe")
    assert header.is_attachment
    assert header.defects == ("ambiguous_name",)


def test_a_long_name_keeps_its_end() -> None:
    header = read_header([("content-type", "x/y; name=" + "a" * 5000 + ".exe")])
    assert header.names[0].endswith(".exe")
    assert header.defects == ("long_name",)


@pytest.mark.parametrize(
    ("values", "encodings"),
    [
        (["base64"], ("base64",)),
        (["BASE64"], ("base64",)),
        (["base64 "], ("base64", "7bit")),
        (['"base64"'], ("base64", "7bit")),
        (["base64;"], ("base64", "7bit")),
        (["base64 (comment)"], ("base64", "7bit")),
        (["base-64"], ("base64", "7bit")),
        (["8bit base64"], ("8bit", "base64", "7bit")),
        (["x-uue"], ("x-uuencode",)),
        (["7bit", "base64"], ("7bit", "base64")),
        (["other"], ("7bit",)),
        (["quoted printable"], ("quoted-printable", "7bit")),
    ],
)
def test_transfer_encodings(values: list[str], encodings: tuple[str, ...]) -> None:
    assert read_header([("content-transfer-encoding", value) for value in values]).encodings == encodings


@pytest.mark.parametrize(
    ("raw", "starts", "defects"),
    [
        (b"\r\nbody", [2], ()),
        (b"\nbody", [1], ()),
        (b"A: b\r\n\r\nbody", [8], ()),
        (b"A: b\n\nbody", [6], ()),
        (b"A: b\r\nbody\r\n\r\nmore", [6, 14], ("no_blank_line",)),
        (b"A: b\r\n \t\r\nC: d\r\n\r\nbody", [18, 10], ("line_of_blanks",)),
        (b"body alone", [0], ()),
    ],
)
def test_a_body_begins_where_readers_begin_it(raw: bytes, starts: list[int], defects: tuple[str, ...]) -> None:
    found = find_header(raw, 0, len(raw))
    assert (list(found.body_starts), found.defects) == (starts, defects)


def test_a_field_may_be_folded_at_any_blank() -> None:
    raw = b"content-type:\r\n\ttext/plain;\r\n  name\r\n =a.exe\r\n\r\n"
    found = find_header(raw, 0, len(raw))
    header = read_header(found.fields)
    assert (header.kinds, header.names) == (("text/plain",), ("a.exe",))


@pytest.mark.parametrize("blank", ["\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u2003", "\u3000", "\xa0;name=a.exe"])
def test_blanks_that_are_none_in_mail_are_no_type_and_stop_nothing(blank: str) -> None:
    value = read_value(blank)
    assert (value.kinds, value.is_odd) == ((), True)
