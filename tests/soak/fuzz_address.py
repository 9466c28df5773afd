"""Addresses: of the envelope, of settings, and author lists of hostile From fields."""

import contextlib

from tests.soak import fuzzing

with fuzzing.instrumented():
    from gateway.mail.address import Address, parse_author_list, parse_mailbox, parse_path
    from gateway.mail.domain import domain_of_text
    from gateway.mail.errors import Malformed

MAX_AUTHORS = 100
SEEDS = (
    b"",
    b"anna@corp.example",
    b'"quoted \\" local"@corp.example',
    b"@a.example,@b.example:anna@corp.example",
    b"user@[192.0.2.1]",
    b"user@[IPv6:2001:db8::1]",
    "grüße@exämple.example".encode(),
    b"Anna <anna@corp.example>, group: b@corp.example, c@corp.example;, d@corp.example",
    b"a@evil.example]@good.example",
    b'"a@x.example" (comment (nested)) <b@y.example>',
    b"=?utf-8?B?YUB4LmV4YW1wbGU=?= <a@x.example>",
)


def look(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for smtputf8 in (False, True):
        check_path(data, smtputf8)
    with contextlib.suppress(Malformed):
        again(parse_mailbox(text))
    authors = parse_author_list(text)
    assert len(authors.addresses) <= MAX_AUTHORS
    for author in authors.addresses:
        assert author.is_literal or author.domain == author.domain.lower()
        # Readers differ on control characters: such an author passes nothing.
        assert authors.ambiguous or str(author).isprintable()
    check_domain(text)


def check_path(data: bytes, smtputf8: bool) -> None:
    try:
        address = parse_path(data, smtputf8=smtputf8)
    except Malformed:
        return
    again(address)
    assert smtputf8 or address.is_ascii


def again(address: Address) -> None:
    """What was read and is written is read as the same, so that nobody behind us sees somebody else."""
    assert not {"\r", "\n", "\0", "<", ">"} & set(address.domain)
    written = str(address).encode()
    if len(written) <= 254:
        assert parse_path(written, smtputf8=True) == address


def check_domain(text: str) -> None:
    try:
        domain = domain_of_text(text)
    except ValueError:
        return
    assert domain_of_text(domain) == domain
    assert domain.isascii()
    assert domain == domain.lower()


if __name__ == "__main__":
    fuzzing.main(look, SEEDS)
