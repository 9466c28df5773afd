import time

import pytest

from gateway.policy.internal import Internal

INTERNAL = Internal(
    networks=("198.51.100.0/24", "2001:db8:1::/48"),
    names=("corp.local", "exch01", "int.corp.example"),
    public=("corp.example", "int.corp.example"),
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("from host (10.1.2.3)", "10.1.2.3"),  # RFC 1918, without being told
        ("[192.168.0.1]:25", "192.168.0.1"),
        ("at 198.51.100.7.", "198.51.100.7"),
        ("198.51.101.7", ""),
        ("203.0.113.5", ""),
        ("version 1.10.1.2.3", ""),  # no address: five numbers
        ("10.1.2.300", ""),
        ("[IPv6:2001:db8:1::5]", "2001:db8:1::5"),
        ("fe80::1", "fe80::1"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:2::5", ""),
        ("at 10:00:00 +0000", ""),
        ("from mail.corp.local by x", "mail.corp.local"),
        ("CORP.LOCAL", "corp.local"),
        ("user@host.corp.local", "host.corp.local"),
        ("corp.local.example", ""),
        ("mycorp.local", "mycorp.local"),  # .local is never public, RFC 6762
        ("xcorp.locality", ""),
        ("exch01", "exch01"),
        ("exch012", ""),
        ("exch01-b", ""),
        ("db.exch01", "db.exch01"),
        ("printer.lan;", "printer.lan"),
        ("the lan here", ""),
        ("ip-10-0-0-5.ec2.internal", "ip-10-0-0-5.ec2.internal"),
        ("router.home.arpa", "router.home.arpa"),
        ("user@corp.example", ""),
        ("user@int.corp.example", ""),  # our own domain stands in addresses
        ("db.int.corp.example", "db.int.corp.example"),
        ("user@int.corp.example via db.int.corp.example", "db.int.corp.example"),
        ("", ""),
    ],
)
def test_internal_addresses_and_names_are_found_in_text(text: str, shown: str) -> None:
    assert INTERNAL.shown_in(text) == shown


@pytest.mark.parametrize(
    "text", ["1.2." * 1000, "a:" * 2000, "a.local" * 600, ".lan" * 1000, "f" * 4000 + ":", "x.lan-" * 700]
)
def test_looking_takes_linear_time(text: str) -> None:
    started = time.process_time()
    INTERNAL.shown_in(text)
    assert time.process_time() - started < 0.1


def test_without_names_and_networks_only_private_ones_count() -> None:
    plain = Internal((), (), ())
    assert plain.shown_in("10.0.0.1") == "10.0.0.1"
    assert plain.shown_in("host.corp.example 203.0.113.1") == ""
