"""Who may send what to whom, before DATA."""

from datetime import timedelta
from typing import Any

import pytest

from gateway.mail.address import NULL_PATH, Address, parse_mailbox
from gateway.mail.envelope import Direction, ListenerKind, Notify, Recipient
from gateway.policy.compile import Policy
from gateway.policy.ledger import LedgerEntry, RelaySource
from gateway.relay.arguments import MailParameters, RcptParameters
from gateway.relay.gate import BARE_POSTMASTER, check_mail, check_rcpt, kind_for, may_send_as, source_of
from gateway.relay.reasons import Reason, Refusal
from tests import make

ANY, INBOUND, OUTBOUND = ListenerKind.ANY, ListenerKind.INBOUND, ListenerKind.OUTBOUND
PORTAL, RETURN = ListenerKind.PORTAL, ListenerKind.RETURN
SOURCE = make.relay_source("10.1.2.0/24")
PORTAL_URL = "https://portal.corp.example/relay"


def mail(
    kind: ListenerKind,
    mail_from: str = "bob@corp.example",
    *,
    peer: str = "10.1.2.3",
    source: RelaySource | None = None,
    size: int | None = None,
    policy: Policy | None = None,
) -> Refusal | None:
    path = parse_mailbox(mail_from) if mail_from else NULL_PATH
    return check_mail(kind, peer, source, path, MailParameters(size=size), policy or make.policy(portal_url=PORTAL_URL))


def rcpt(kind: ListenerKind, address: str | Address, *entries: LedgerEntry, **document: Any) -> Recipient | Refusal:
    path = parse_mailbox(address) if isinstance(address, str) else address
    return check_rcpt(kind, path, RcptParameters(), make.policy(*entries, **document))


def outcome(found: Recipient | Refusal) -> tuple[str, str]:
    if isinstance(found, Refusal):
        return str(found.reply.code), found.reason
    return str(found.address), found.direction


# --- Sources and kinds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(ListenerKind))
def test_an_approved_source_is_one_everywhere_but_on_an_inbound_listener(kind: ListenerKind) -> None:
    found = source_of(kind, "10.1.2.3", make.policy(SOURCE), make.NOW)
    assert found == (None if kind is INBOUND else SOURCE)
    assert source_of(kind, "10.1.3.3", make.policy(SOURCE), make.NOW) is None


def test_an_expired_source_is_none() -> None:
    source = make.relay_source("10.1.2.0/24", expires_at=make.NOW)
    assert source_of(ANY, "10.1.2.3", make.policy(source), make.NOW) is None
    assert source_of(ANY, "10.1.2.3", make.policy(source), make.NOW - timedelta(seconds=1)) == source


def test_of_overlapping_networks_the_longest_counts() -> None:
    wide, narrow = make.relay_source("2001:db8::/32", id="wide"), make.relay_source("2001:db8:1::/48", id="narrow")
    policy = make.policy(wide, narrow)
    assert source_of(ANY, "2001:db8:1::9", policy, make.NOW) == narrow
    assert source_of(ANY, "2001:db8:2::9", policy, make.NOW) == wide


def test_any_is_outbound_for_sources_and_inbound_for_others() -> None:
    assert kind_for(ANY, SOURCE) is OUTBOUND
    assert kind_for(ANY, None) is INBOUND
    for kind in (INBOUND, OUTBOUND, PORTAL, RETURN):
        assert kind_for(kind, None) is kind_for(kind, SOURCE) is kind


# --- MAIL -------------------------------------------------------------------------------------------------------------


def test_everybody_may_come_in() -> None:
    assert mail(INBOUND, "ann@partner.example", peer="192.0.2.1") is None
    assert mail(INBOUND, "", peer="192.0.2.1") is None


@pytest.mark.parametrize("kind", [OUTBOUND, RETURN, PORTAL])
def test_an_unlisted_peer_is_told_where_to_ask(kind: ListenerKind) -> None:
    refusal = mail(kind)
    assert refusal is not None
    assert (refusal.reply.code, refusal.reply.enhanced, refusal.reason) == (550, "5.7.1", Reason.NOT_A_SOURCE)
    assert refusal.reply.text.endswith(PORTAL_URL)


def test_the_portal_may_come_from_this_host() -> None:
    assert mail(PORTAL, "ann@partner.example", peer="127.0.0.1") is None
    assert mail(PORTAL, "ann@partner.example", peer="::1") is None
    assert mail(OUTBOUND, peer="127.0.0.1") is not None


@pytest.mark.parametrize(
    ("source", "mail_from", "is_allowed"),
    [
        ({}, "bob@corp.example", True),
        ({}, "bob@CORP.example", True),
        ({}, "", True),
        ({}, "bob@sub.corp.example", False),
        ({}, "ann@partner.example", False),
        ({"allowed_domains": ("shop.example",)}, "orders@shop.example", True),
        ({"allowed_domains": ("shop.example",)}, "bob@corp.example", False),
        ({"allowed_domains": ("shop.example",)}, "", True),
        ({"any_sender": True}, "ann@partner.example", True),
    ],
)
def test_a_source_sends_under_its_own_domains(source: dict[str, Any], mail_from: str, is_allowed: bool) -> None:
    entry = make.relay_source(**source)
    assert may_send_as(entry, parse_mailbox(mail_from) if mail_from else NULL_PATH, make.policy()) is is_allowed
    refusal = mail(OUTBOUND, mail_from, source=entry)
    assert (refusal is None) is is_allowed
    if refusal is not None:
        assert (refusal.reply.code, refusal.reply.enhanced, refusal.reason) == (550, "5.7.1", Reason.SENDER_NOT_ALLOWED)


@pytest.mark.parametrize("kind", [INBOUND, OUTBOUND])
def test_a_declared_size_beyond_the_limit_is_refused(kind: ListenerKind) -> None:
    policy = make.policy(limits={"message_bytes": 100_000})
    assert mail(kind, size=100_000, source=SOURCE, policy=policy) is None
    refusal = mail(kind, size=100_001, source=SOURCE, policy=policy)
    assert refusal is not None
    assert (refusal.reply.code, refusal.reason) == (552, Reason.MESSAGE_SIZE)


# --- RCPT -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "address", "expected"),
    [
        (INBOUND, "bob@corp.example", ("bob@corp.example", Direction.INBOUND)),
        (INBOUND, "Bob@Corp.Example", ("Bob@corp.example", Direction.INBOUND)),
        (PORTAL, "bob@corp.example", ("bob@corp.example", Direction.INBOUND)),
        (OUTBOUND, "bob@corp.example", ("bob@corp.example", Direction.INTERNAL)),
        (RETURN, "bob@corp.example", ("bob@corp.example", Direction.RETURNED)),
        (OUTBOUND, "ann@partner.example", ("ann@partner.example", Direction.OUTBOUND)),
        (OUTBOUND, "ann%x@partner.example", ("ann%x@partner.example", Direction.OUTBOUND)),
        (OUTBOUND, "bob@sub.corp.example", ("bob@sub.corp.example", Direction.OUTBOUND)),
        (OUTBOUND, "ann@[192.0.2.1]", ("550", Reason.RELAYING)),
        (OUTBOUND, "ann%partner.example@corp.example", ("550", Reason.RELAYING)),
        (INBOUND, "ann@partner.example", ("550", Reason.RELAYING)),
        (PORTAL, "ann@partner.example", ("550", Reason.RELAYING)),
        (RETURN, "ann@partner.example", ("550", Reason.RELAYING)),
        (INBOUND, "bob@sub.corp.example", ("550", Reason.RELAYING)),
    ],
)
def test_directions(kind: ListenerKind, address: str, expected: tuple[str, str]) -> None:
    assert outcome(rcpt(kind, address)) == expected


KNOWN = {"domains": {"corp.example": {}, "bücher.example": {}}}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("bob@corp.example", "bob@corp.example"),
        ("BOB@corp.example", "BOB@corp.example"),
        ("bob+lists@corp.example", "bob@corp.example"),
        ("info@corp.example", "bob@corp.example"),
        ("nobody@corp.example", "550"),
        ("postmaster@corp.example", "postmaster@corp.example"),
        ("PostMaster@corp.example", "PostMaster@corp.example"),
        ("postmaster@xn--bcher-kva.example", "postmaster@xn--bcher-kva.example"),
        ("carol@bücher.example", "carol@bücher.example"),
        ("carol@xn--bcher-kva.example", "carol@xn--bcher-kva.example"),
        ("postmasters@corp.example", "550"),
    ],
)
def test_recipients_are_known_or_refused(address: str, expected: str) -> None:
    entries = (
        make.known(),
        make.known("info@corp.example", "bob@corp.example"),
        make.known("carol@xn--bcher-kva.example"),
    )
    assert outcome(rcpt(INBOUND, address, *entries, **KNOWN))[0] == expected


def test_a_catch_all_takes_the_rest_of_its_domain() -> None:
    entries = (make.known("*@corp.example", "office@corp.example"), make.known())
    assert outcome(rcpt(INBOUND, "whoever@corp.example", *entries, **KNOWN))[0] == "office@corp.example"
    assert outcome(rcpt(INBOUND, "bob@corp.example", *entries, **KNOWN))[0] == "bob@corp.example"
    assert outcome(rcpt(INBOUND, "a%b@corp.example", *entries, **KNOWN)) == ("550", Reason.RELAYING)


def test_the_bare_postmaster_is_ours() -> None:
    assert outcome(rcpt(INBOUND, BARE_POSTMASTER, **KNOWN))[0] == "postmaster@corp.example"
    assert outcome(rcpt(INBOUND, BARE_POSTMASTER, postmaster="it@corp.example", **KNOWN))[0] == "it@corp.example"
    assert outcome(rcpt(INBOUND, BARE_POSTMASTER, domains={})) == ("550", Reason.UNKNOWN_RECIPIENT)


def test_the_wishes_for_notifications_stay_with_the_recipient() -> None:
    wishes = RcptParameters((Notify.FAILURE, Notify.DELAY), "rfc822;bob@corp.example")
    found = check_rcpt(OUTBOUND, parse_mailbox("ann@partner.example"), wishes, make.policy())
    assert isinstance(found, Recipient)
    assert (found.notify, found.orcpt) == (wishes.notify, wishes.orcpt)


def test_observe_mode_refuses_the_same_before_data() -> None:
    assert outcome(rcpt(INBOUND, "ann@partner.example", observe=True)) == ("550", Reason.RELAYING)
    assert outcome(rcpt(INBOUND, "nobody@corp.example", observe=True, **KNOWN)) == ("550", Reason.UNKNOWN_RECIPIENT)
    assert mail(OUTBOUND, policy=make.policy(observe=True)) is not None
