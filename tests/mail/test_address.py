"""Addresses of the envelope, of settings and of From fields."""

import time
from email.utils import getaddresses

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.mail.address import (
    NULL_PATH,
    Address,
    ip_in,
    network_key,
    parse_author_list,
    parse_mailbox,
    parse_path,
)
from gateway.mail.errors import Malformed


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (b"user@corp.example", "user@corp.example"),
        (b"John.Smith+tag@Mail.Corp.Example", "John.Smith+tag@mail.corp.example"),
        (b"!#$%&'*+-/=?^_`{|}~@corp.example", "!#$%&'*+-/=?^_`{|}~@corp.example"),
        (b"user@localhost", "user@localhost"),
        (b"user@a-b--c.example", "user@a-b--c.example"),
        (b"user@3com.example", "user@3com.example"),
        (b"a" * 128 + b"@corp.example", "a" * 128 + "@corp.example"),
        (b"u@" + b"a" * 63 + b".example", "u@" + "a" * 63 + ".example"),
        (b"user%other.example@corp.example", "user%other.example@corp.example"),  # syntax allows it, the gate does not
        (b"@a.example,@b.example:user@corp.example", "user@corp.example"),  # RFC 5321 appendix C
        (b'"john smith"@corp.example', '"john smith"@corp.example'),
        (b'"john"@corp.example', "john@corp.example"),  # quotes that are not needed
        (b'"jo\\hn"@corp.example', "john@corp.example"),
        (b'"a@b"@corp.example', '"a@b"@corp.example'),
        (b'"a\\"b\\\\"@corp.example', '"a\\"b\\\\"@corp.example'),
        (b'""@corp.example', '""@corp.example'),
        (b'".a"@corp.example', '".a"@corp.example'),
        (b"user@[192.0.2.1]", "user@[192.0.2.1]"),
        (b"user@[IPv6:2001:DB8:0::1]", "user@[IPv6:2001:db8::1]"),
        (b"user@[ipv6:::ffff:192.0.2.1]", "user@[IPv6:::ffff:c000:201]"),
    ],
)
def test_a_path_is_read_by_the_grammar(text: bytes, written: str) -> None:
    assert str(parse_path(text)) == written


@pytest.mark.parametrize(
    "text",
    [
        b"user",
        b"Postmaster",  # RCPT TO:<Postmaster> is the gate's affair
        b"@corp.example",
        b"user@",
        b"user@corp.example.",
        b"user@.corp.example",
        b"user@corp..example",
        b".user@corp.example",
        b"user.@corp.example",
        b"us..er@corp.example",
        b"us er@corp.example",
        b" user@corp.example",
        b"user@corp.example ",
        b"user@corp .example",
        b"<user@corp.example>",
        b"a@b@corp.example",
        b"user@corp_x.example",
        b"user@-corp.example",
        b"user@corp-.example",
        b"user@corp.example\x00",
        b"us\x00er@corp.example",
        b"user\r\n@corp.example",
        b"user@corp.example\r\nRCPT TO:<x@y.example>",
        b"us\x7fer@corp.example",
        b'"us\x01er"@corp.example',
        b'"user@corp.example',
        b'"us"er"@corp.example',
        b'"user\\"@corp.example',
        b"us(comment)er@corp.example",
        b"user@192.0.2.1",  # an address without brackets
        b"user@corp.example.1",
        b"user@[192.0.2.256]",
        b"user@[192.0.2.1",
        b"user@[192.0.02.1]",
        b"user@[IPv6:2001:db8::1%eth0]",
        b"user@[IPv6:fe80::1%25eth0]",
        b"user@[IPv6:18::1d%2b]",
        b"user@[IPv6:::ffff:192.0.2.1%1]",
        b"user@[192.0.2.1%1]",
        b"@[IPv6:fe80::1%eth0]:user@corp.example",
        b"user@[2001:db8::1]",
        b"user@[X-tag:content]",  # RFC 5321 section 4.1.3: no such tag is registered
        b"user@[]",
        b"user@[IPv6:]",
        b"user@[[192.0.2.1]]",
        b"@a.example:",
        b"@a.example:@b.example:user@corp.example",
        b"@a_b.example:user@corp.example",
        b"@a.example,user@corp.example",
        b"a" * 129 + b"@corp.example",
        b"u@" + b"a" * 64 + b".example",  # RFC 1035 section 2.3.4
        b"u@" + b"a." * 124 + b"example",
        "üser@corp.example".encode(),
        "user@bücher.example".encode(),
        b"\xff@corp.example",
    ],
)
def test_a_path_outside_of_the_grammar_is_refused(text: bytes) -> None:
    with pytest.raises(Malformed):
        parse_path(text)


def test_the_longest_path_of_the_standard_is_taken_and_one_octet_more_is_not() -> None:
    domain = ".".join(["d" * 61] * 3)
    local = "l" * (254 - 1 - len(domain))
    assert str(parse_path(f"{local[:64]}@{domain}".encode())) == f"{local[:64]}@{domain}"
    longest = f"{'l' * 50}@{'.'.join(['d' * 50] * 3)}.{'e' * 50}".encode()
    assert len(longest) == 254  # RFC 5321 section 4.5.3.1.3: 256 with the angle brackets
    assert parse_path(longest).local == "l" * 50
    with pytest.raises(Malformed):
        parse_path(b"l" + longest)


def test_the_empty_path_is_the_null_path() -> None:
    assert parse_path(b"") is NULL_PATH
    assert NULL_PATH.is_null
    assert (str(NULL_PATH), NULL_PATH.key) == ("", "")


@pytest.mark.parametrize(
    ("text", "written", "key"),
    [
        ("δοκιμή@παράδειγμα.example", "δοκιμή@παράδειγμα.example", "δοκιμή@xn--hxajbheg2az3al.example"),
        ("User@BÜCHER.example", "User@bücher.example", "user@xn--bcher-kva.example"),
        ("user@xn--bcher-kva.example", "user@xn--bcher-kva.example", "user@xn--bcher-kva.example"),
        ('"jörg müller"@corp.example', '"jörg müller"@corp.example', '"jörg müller"@corp.example'),
        ("plain@corp.example", "plain@corp.example", "plain@corp.example"),
    ],
)
def test_with_smtputf8_a_path_may_be_international(text: str, written: str, key: str) -> None:
    address = parse_path(text.encode(), smtputf8=True)
    assert (str(address), address.key) == (written, key)


@pytest.mark.parametrize(
    "text",
    [
        "us\u00a0er@corp.example",  # a blank
        "us\u202eer@corp.example",  # turns the direction of writing
        "us\u0085er@corp.example",  # a control
        "us\u2028er@corp.example",
        "user@\uff43orp.example",  # a compatibility form is no U-label
        "user@corp。example",
        "user@-ü.example",
        "user@a\u0300\u200b.example",
        "user@☃.example",
        "user@" + "ü" * 60 + ".example",  # too long as A-label
        "user@" + ".".join(["ü" * 20] * 7),
    ],
)
def test_with_smtputf8_odd_characters_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_path(text.encode(), smtputf8=True)


def test_addresses_are_compared_by_key() -> None:
    assert parse_mailbox("User@Corp.example").key == parse_mailbox("user@CORP.EXAMPLE").key
    assert parse_mailbox("u@bücher.example").key == parse_mailbox("u@XN--BCHER-KVA.example").key
    assert parse_mailbox("u@bücher.example").ascii_domain == "xn--bcher-kva.example"
    assert parse_mailbox("u@[192.0.2.1]").is_literal
    assert not parse_mailbox("u@corp.example").is_literal
    assert parse_mailbox("u@corp.example").is_ascii
    assert not parse_mailbox("ü@corp.example").is_ascii
    assert Address("u", "☃.Example").ascii_domain == "☃.example"  # what cannot be an A-label stays


def test_a_mailbox_of_a_setting_is_an_address_and_nothing_else() -> None:
    assert parse_mailbox(" user@corp.example\n") == Address("user", "corp.example")
    for text in ("", "  ", "corp.example", "@a.example:u@b.example", "U <u@b.example>", "u@b.example, v@b.example"):
        with pytest.raises(Malformed):
            parse_mailbox(text)


_ATEXT = "abcXYZ019!#$%&'*+-/=?^_`{|}~"
_dot_atoms = st.lists(st.text(_ATEXT, min_size=1, max_size=8), min_size=1, max_size=4).map(".".join)
_labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
_domains = st.builds(lambda labels: ".".join([*labels, "example"]), st.lists(_labels, min_size=1, max_size=3))


@settings(max_examples=200, deadline=None)
@given(_dot_atoms, _domains)
def test_every_plain_address_is_read_as_it_stands(local: str, domain: str) -> None:
    address = parse_path(f"{local}@{domain}".encode())
    assert (address.local, address.domain) == (local, domain)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20), _domains)
def test_every_quoted_local_part_is_read_and_written_back(text: str, domain: str) -> None:
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    address = parse_path(f"{quoted}@{domain}".encode())
    assert parse_path(str(address).encode()) == address
    assert address.local in (text, quoted)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80) | st.text('ab.@"\\[]: <>,\0ü', max_size=30).map(str.encode), st.booleans())
@example(b'"\\\xc3\xbc"@a.example', True)
def test_no_octets_break_the_reader_and_what_it_takes_it_takes_again(text: bytes, smtputf8: bool) -> None:
    try:
        address = parse_path(text, smtputf8=smtputf8)
    except Malformed:
        return
    assert not set(str(address)) & set("\r\n\0 ") or '"' in address.local
    assert parse_path(str(address).encode(), smtputf8=smtputf8) == address
    assert address.key == parse_path(address.key.encode(), smtputf8=smtputf8).key


# --- From and Sender --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("user@corp.example", ["user@corp.example"]),
        ("<user@corp.example>", ["user@corp.example"]),
        ("John Smith <john@corp.example>", ["john@corp.example"]),
        ("John Q. Smith Jr. <john@corp.example>", ["john@corp.example"]),
        ('"Smith, John" <john@corp.example>', ["john@corp.example"]),
        ("Smith, John <john@corp.example>", ["john@corp.example"]),  # not quite well formed, but only one reading
        ('"Paul \\"the boss\\" Smith" <paul@corp.example>', ["paul@corp.example"]),
        ('"boss@other.example" <user@corp.example>', ["user@corp.example"]),  # an address as name is no mailbox
        ('"boss <boss@other.example>" <user@corp.example>', ["user@corp.example"]),
        ("user@corp.example (John Smith)", ["user@corp.example"]),
        ("(a (nested) comment) user@corp.example", ["user@corp.example"]),
        ("John (boss@other.example) <user@corp.example>", ["user@corp.example"]),
        ("user@corp.example <user@corp.example>", ["user@corp.example"]),
        ("USER@Corp.example <user@corp.example>", ["user@corp.example"]),
        ("[Tickets] Sales @ Acme <sales@acme.example>", ["sales@acme.example"]),
        ("Sales: Acme <sales@acme.example>", ["sales@acme.example"]),
        ("=?utf-8?q?J=C3=B6rg?= <joerg@corp.example>", ["joerg@corp.example"]),
        ("=?utf-8?q?boss=40other.example?= <user@corp.example>", ["user@corp.example"]),
        ("Jörg <joerg@corp.example>", ["joerg@corp.example"]),
        ("a@x.example, B <b@y.example>", ["a@x.example", "b@y.example"]),
        ("a@x.example,,b@y.example,", ["a@x.example", "b@y.example"]),
        ("Team: a@x.example, B <b@y.example>;", ["a@x.example", "b@y.example"]),
        ("a@x.example, A <A@X.example>", ["a@x.example"]),
        ("undisclosed-recipients:;", []),
        ("<@relay.example:user@corp.example>", ["user@corp.example"]),
        ("< user@corp.example >", ["user@corp.example"]),
        ('"john smith"@corp.example', ['"john smith"@corp.example']),
        ("a..b.@corp.example", ['"a..b."@corp.example']),  # seen in real mail
        ("user@my_host.example", ["user@my_host.example"]),
        ("user@Corp.Example.", ["user@corp.example"]),
        ("user@[IPv6:2001:db8::1]", ["user@[IPv6:2001:db8::1]"]),
        ("user@bücher.example", ["user@bücher.example"]),
        ("<>", []),
        ('"Facebook" <>', []),
        ("MAILER-DAEMON", []),
        ("", []),
    ],
)
def test_an_author_list_with_one_reading(value: str, found: list[str]) -> None:
    authors = parse_author_list(value)
    assert ([str(address) for address in authors.addresses], authors.ambiguous) == (found, False)


@pytest.mark.parametrize(
    ("value", "among"),
    [
        ("a@evil.example]@good.example", {"a@evil.example", '"a@evil.example]"@good.example'}),
        ("a@evil.example@good.example", {"a@evil.example", '"a@evil.example"@good.example'}),
        ("boss@corp.example <a@evil.example>", {"boss@corp.example", "a@evil.example"}),
        ("<a@evil.example> <boss@corp.example>", {"boss@corp.example", "a@evil.example"}),
        ("<<boss@corp.example> a@evil.example>", {"boss@corp.example", "a@evil.example"}),
        ("<a@evil.example>, <boss@corp.example", {"boss@corp.example", "a@evil.example"}),
        ('"boss" <boss@corp.example>" <a@evil.example>', {"boss@corp.example", "a@evil.example"}),
        ('"x\\" <boss@corp.example>, \\"" <a@evil.example>', {"boss@corp.example", "a@evil.example"}),
        ('"x <boss@corp.example>, <a@evil.example>', {"boss@corp.example", "a@evil.example"}),
        ("(x <boss@corp.example> <a@evil.example>", {"boss@corp.example", "a@evil.example"}),
        ("(x <boss@corp.example>) <a@evil.example>", {"boss@corp.example", "a@evil.example"}),
        ("boss@corp.example a@evil.example", {"boss@corp.example", "a@evil.example"}),
        ("a@evil.example boss @ corp.example", {"boss@corp.example", "a@evil.example"}),
        ("boss(x)@corp.example", {"boss@corp.example"}),
        ("boss@corp.example\\@evil.example", {"boss@corp.example"}),
        ("boss@corp.example%00@evil.example", {"boss@corp.example"}),
        ("<a@evil.example><boss@\uff43orp。example>", {"a@evil.example", "boss@corp.example"}),
        ("boss@corp.example\0<a@evil.example>", {"boss@corp.example", "a@evil.example"}),
        ("=?utf-8?b?Ym9zc0Bjb3JwLmV4YW1wbGU=?=@evil.example", {"boss@corp.example"}),
        ("=?utf-8?q?boss=40corp=2Eexample=00?=@evil.example", {"boss@corp.example"}),
        ("=?utf-8?q?boss=40corp.example?=", {"boss@corp.example"}),
        ("John boss@corp.example", {"boss@corp.example"}),
    ],
)
def test_where_readers_differ_all_readings_are_listed(value: str, among: set[str]) -> None:
    authors = parse_author_list(value)
    assert authors.ambiguous
    assert among <= {str(address) for address in authors.addresses}


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "@",
        '"',
        '\\"',
        "(",
        "((",
        "<",
        "<a@b.example>,",
        "a@b.example ",
        ",",
        "a@",
        "@a",
        "[",
        "=?utf-8?q?=40?=",
        "<@",
        " ",
    ],
)
def test_a_huge_value_is_read_in_little_time(piece: str) -> None:
    value = piece * (700_000 // len(piece))
    started = time.perf_counter()
    authors = parse_author_list(value)
    within = parse_author_list(value[: 64 * 1024])
    assert time.perf_counter() - started < 2.0  # some 0.05 s; anything quadratic takes minutes
    assert authors.ambiguous
    assert len(authors.addresses) <= 100
    assert len(within.addresses) <= 100


def test_an_author_at_the_end_of_a_huge_value_is_found() -> None:
    value = '"' + "x" * 300_000 + '" <boss@corp.example>'
    assert [str(address) for address in parse_author_list(value).addresses] == ["boss@corp.example"]


@pytest.mark.parametrize("crowd", [200, 20_000])
def test_a_crowd_of_authors_hides_none_at_the_end(crowd: int) -> None:
    value = ", ".join(f"a{number}@evil.example" for number in range(crowd)) + ", <boss@corp.example>"
    authors = parse_author_list(value)
    assert authors.ambiguous
    assert len(authors.addresses) == 100
    assert str(authors.addresses[-1]) == "boss@corp.example"


_names = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), max_size=20)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(_names, _dot_atoms.filter(lambda local: "=?" not in local), _domains), min_size=1, max_size=5)
)
def test_a_well_formed_list_is_read_as_python_reads_it(mailboxes: list[tuple[str, str, str]]) -> None:
    value = ", ".join(f'"{name}" <{local}@{domain}>' for name, local, domain in mailboxes)
    authors = parse_author_list(value)
    assert not authors.ambiguous
    assert {address.key for address in authors.addresses} == {found.lower() for _, found in getaddresses([value])}


@settings(max_examples=200, deadline=None)
@given(st.text('ab.@"\\()<>[]:;, =?\r\n\0ü\uff43。', max_size=60))
def test_no_value_breaks_the_reader_and_no_attached_address_is_missed(value: str) -> None:
    authors = parse_author_list(f"{value} boss@corp.example")
    assert all(address.domain for address in authors.addresses)
    assert "boss@corp.example" in {str(address) for address in authors.addresses} or any(
        mark in value for mark in '"(='
    )


# --- IP addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ip", "networks", "is_in"),
    [
        ("192.0.2.7", ["192.0.2.0/24"], True),
        ("192.0.2.7", ["198.51.100.0/24", "192.0.2.7/32"], True),
        ("192.0.2.7", ["198.51.100.0/24"], False),
        ("192.0.2.7", [], False),
        ("2001:db8::7", ["2001:db8::/32"], True),
        ("2001:db8::7", ["192.0.2.0/24"], False),
        ("::ffff:192.0.2.7", ["192.0.2.0/24"], True),  # an IPv4 peer on an IPv6 socket
        ("no address", ["0.0.0.0/0", "::/0"], False),
    ],
)
def test_an_address_is_looked_for_in_networks(ip: str, networks: list[str], is_in: bool) -> None:
    assert ip_in(ip, networks) is is_in


@pytest.mark.parametrize(
    ("ip", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
    ],
)
def test_rates_count_an_ipv4_address_or_an_ipv6_network(ip: str, key: str) -> None:
    assert network_key(ip) == key


def test_rates_do_not_count_what_is_no_address() -> None:
    with pytest.raises(ValueError, match="no address"):
        network_key("no address")


@pytest.mark.parametrize("value", ["ann\0b@sender.test", "ann\x7f@sender.test", "Ann <a\x01nn@sender.test>"])
def test_an_author_with_what_no_reader_can_show_is_ambiguous(value: str) -> None:
    assert parse_author_list(value).ambiguous


def test_controls_in_a_display_name_hide_no_author() -> None:
    authors = parse_author_list("Ann\x1b\x7f <ann@sender.test>")
    assert ([str(address) for address in authors.addresses], authors.ambiguous) == (["ann@sender.test"], False)
