"""The smallest valid message, session, envelope, case, policy. A test overrides only what it is about."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.filters import Filter, FilterOptions, registry
from gateway.inspection.facts import Part
from gateway.inspection.scan import scan
from gateway.judge import Judgement
from gateway.judge import judge as judge_all
from gateway.mail.address import NULL_PATH, Address, parse_mailbox
from gateway.mail.envelope import Direction, Envelope, ListenerKind, Recipient, Session
from gateway.policy.compile import Policy, compile
from gateway.policy.document import read_document
from gateway.policy.keys import BypassKey, digest_of
from gateway.policy.ledger import (
    Identity,
    LedgerEntry,
    Proof,
    RecipientEntry,
    RelaySource,
    SendsAsUs,
    Waiver,
    WhitelistEntry,
)
from gateway.verdict import Answers, Case, Finding

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
HOP_KEY = b"k" * 32
MATCH_KEY = b"m" * 32
KEY = "FF9A022BC918"
HOSTNAME = "mx.corp.example"
PARTNER_IP = "192.0.2.10"

FIELDS = {
    "From": "Ann Author <ann@partner.example>",
    "To": "bob@corp.example",
    "Subject": "Hello",
    "Date": "Tue, 24 Nov 2026 09:29:58 +0000",
    "Message-ID": "<m1@partner.example>",
}


def message(
    *fields: tuple[str, str], body: bytes = b"Hello, Bob.\r\n", without: Iterable[str] = (), **replaced: str
) -> bytes:
    """A message with CRLF. `fields` come after the usual ones, `replaced` (from_, subject ...) in the place of one."""
    given = {name.strip("_").replace("_", "-").lower(): value for name, value in replaced.items()}
    gone = {name.lower() for name in without}
    lines = [(name, given.pop(name.lower(), value)) for name, value in FIELDS.items() if name.lower() not in gone]
    lines += given.items()
    text = "".join(f"{name}: {value}\r\n" for name, value in (*lines, *fields))
    return text.encode("utf-8", "surrogateescape") + b"\r\n" + body


def bounce(message_id: str, *, host: str = "partner.example") -> bytes:
    """A delivery report of another host about a message with this Message-ID."""
    body = (
        "--b\r\nContent-Type: text/plain\r\n\r\nIt did not work.\r\n"
        f"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; {host}\r\n\r\n"
        "Final-Recipient: rfc822; ann@partner.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"
        f"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {message_id}\r\nSubject: Offer\r\n\r\n--b--\r\n"
    )
    kind = ("Content-Type", 'multipart/report; report-type=delivery-status; boundary="b"')
    return message(kind, from_=f"MAILER-DAEMON@{host}", body=body.encode())


def session(**replaced: Any) -> Session:
    usual: dict[str, Any] = {
        "id": "01HZZZZZZZZZZZZZZZZZZZZZZZ",
        "listener": ListenerKind.INBOUND,
        "peer_ip": PARTNER_IP,
        "peer_name": "mail.partner.example",
        "helo": "mail.partner.example",
        "tls": None,
        "user": "",
        "started_at": NOW,
    }
    return Session(**{**usual, **replaced})


def recipient(address: str = "bob@corp.example", direction: Direction = Direction.INBOUND) -> Recipient:
    return Recipient(parse_mailbox(address), direction)


def envelope(mail_from: str = "ann@partner.example", *recipients: Recipient, **replaced: Any) -> Envelope:
    """An envelope; "" is the null reverse-path."""
    path = parse_mailbox(mail_from) if mail_from else NULL_PATH
    return Envelope(path, recipients or (recipient(),), **replaced)


def case(
    raw: bytes | None = None, *, envelope: Envelope | None = None, session: Session | None = None, now: datetime = NOW
) -> Case:
    """One message to judge: inbound from a partner to one recipient unless told otherwise."""
    sent_with = envelope or _envelope()
    return Case(session or _session(), sent_with, scan(message() if raw is None else raw, envelope=sent_with), now)


def with_parts(*parts: Part, problems: tuple[str, ...] = (), a_case: Case | None = None) -> Case:
    """A message in which these files were found."""
    usual = a_case or case()
    return msgspec.structs.replace(usual, facts=msgspec.structs.replace(usual.facts, parts=parts, problems=problems))


def outbound(raw: bytes | None = None, *recipients: str, mail_from: str = "bob@corp.example") -> Case:
    """A message of ours to the world."""
    world = [recipient(one, Direction.OUTBOUND) for one in recipients or ("ann@partner.example",)]
    return case(
        raw, envelope=envelope(mail_from, *world), session=session(listener=ListenerKind.OUTBOUND, peer_ip="10.1.2.3")
    )


DOCUMENT: dict[str, Any] = {
    "hostname": HOSTNAME,
    "domains": {"corp.example": {"any_recipient": True}},
    "internal_networks": ["198.51.100.0/24"],
    "internal_names": ["corp.local"],
}


def policy(*entries: LedgerEntry, filters: dict[str, Any] | None = None, **document: Any) -> Policy:
    """A policy of one domain. `filters` are by name the options of those that are on; without it none is."""
    settings = {name: {"mode": "enforce", "options": options} for name, options in (filters or {}).items()}
    data = {**DOCUMENT, "filters": settings, **document}
    compiled = compile(read_document(data), registry(), hop_key=HOP_KEY, match_key=MATCH_KEY)
    return Policy.of(compiled, version=7, revision=3, entries=entries)


ALL_FILTERS: dict[str, Any] = {
    "business_only": {},
    "bypass_key": {},
    "header_hygiene": {},
    "loop": {},
    "own_domain": {},
}


def judge(a_case: Case, a_policy: Policy, answers: Answers | None = None, *, sha256: str = "") -> Judgement:
    return judge_all(a_case, a_policy, answers or {}, sha256=sha256)


def judge_with(
    spec: Filter, options: FilterOptions, a_case: Case, *entries: LedgerEntry, answers: Answers | None = None
) -> list[Finding]:
    """The findings of one filter alone; its codes must be among those that it declares."""
    findings = list(spec.judge(a_case, options, policy(*entries), answers or {}))
    assert {one.code for one in findings} <= set(spec.codes)
    return findings


def finding(code: str = "seen", **replaced: Any) -> Finding:
    return msgspec.structs.replace(Finding(code, f"{code} was seen"), filter="some", **replaced)


def partner(value: str = "partner.example", *, id: str = "w1", **replaced: Any) -> WhitelistEntry:
    usual: dict[str, Any] = {
        "identity": Identity.AUTHOR_ADDRESS if "@" in value else Identity.AUTHOR_DOMAIN,
        "subdomains": False,
        "proof": Proof.PINNED_ADDRESS,
        "networks": (f"{PARTNER_IP}/32",),
        "owner": "carol",
        "reason": "supplier",
        "expires_at": None,
        "review_at": None,
    }
    return WhitelistEntry(id=id, value=value, **{**usual, **replaced})


def relay_source(network: str = "10.1.2.0/24", *, id: str = "s1", **replaced: Any) -> RelaySource:
    usual: dict[str, Any] = {
        "owner": "dave",
        "purpose": "web shop",
        "kind": "server",
        "allowed_domains": (),
        "any_sender": False,
        "max_per_hour": 0,
        "expires_at": None,
        "review_at": None,
    }
    return RelaySource(id=id, network=network, **{**usual, **replaced})


def sends_as_us(domain: str = "corp.example", *, id: str = "a1", **replaced: Any) -> SendsAsUs:
    usual: dict[str, Any] = {"networks": (f"{PARTNER_IP}/32",), "owner": "carol", "reason": "news", "expires_at": None}
    return SendsAsUs(id=id, domain=domain, **{**usual, **replaced})


def known(address: str = "bob@corp.example", target: str = "", *, id: str = "") -> RecipientEntry:
    local, _, domain = address.rpartition("@")
    return RecipientEntry(id or f"r-{address}", local, domain, target)


def waiver(reasons: Sequence[str], *, id: str = "v1", **replaced: Any) -> Waiver:
    usual: dict[str, Any] = {
        "sha256": "ab" * 32,
        "recipients": ("bob@corp.example",),
        "expires_at": NOW.replace(year=2027),
    }
    return Waiver(id=id, reasons=tuple(reasons), **{**usual, **replaced})


def bypass_key(key: str = KEY, *, id: str = "k1", **replaced: Any) -> BypassKey:
    """A monthly key of the class "files", as the policy knows it."""
    usual: dict[str, Any] = {
        "key_class": "files",
        "digest": digest_of(MATCH_KEY, key),
        "length": len(key),
        "valid_from": datetime(2026, 11, 1, tzinfo=UTC),
        "expires_at": datetime(2026, 12, 1, tzinfo=UTC),
        "period": "2026-11",
    }
    return BypassKey(id=id, **{**usual, **replaced})


def addresses(*texts: str) -> tuple[Address, ...]:
    return tuple(parse_mailbox(one) for one in texts)


# `case` has parameters of these names.
_envelope, _session = envelope, session
