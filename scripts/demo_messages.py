"""What the demonstration publishes and sends: a ready policy, and thirty messages with the outcome for each.

Peers are told by XCLIENT, which the demonstration's policy believes from loopback only, since all of it runs on one
machine.
"""

from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct

from gateway.policy.document import Document
from gateway.policy.ledger import Identity, Proof, RecipientEntry, RelaySource, SendsAsUs, WhitelistEntry

COMMENT = "Demonstration: corp.example, known recipients, default-deny, clean outgoing headers"
PARTNER, PINNED, STRANGER = "192.0.2.10", "198.51.100.20", "203.0.113.66"
EXCHANGE, WEB_SERVER, UNKNOWN_INSIDE = "10.1.0.5", "10.1.0.80", "10.1.0.99"
STAFF = ("anna", "ben", "chloe", "dora", "info")


class DemoMessage(Struct, frozen=True):
    """One message to send: by whom, to whom, and what should come of it (a word of `EXPECTED`)."""

    title: str
    outbound: bool
    peer: str
    mail_from: str
    rcpt_to: tuple[str, ...]
    data: bytes
    expected: str


def policy(drop_host: str, drop_port: int) -> Document:
    """Return the demonstration's policy: enforced, with the built-in mail drop as every next hop."""
    return Document.model_validate(
        {
            "company": "Corp (demonstration)",
            "portal_url": "https://portal.corp.example",
            "domains": {"corp.example": {}},
            "routes": {"drop": {"hops": [{"host": drop_host, "port": drop_port}], "tls": "never"}},
            "inbound_route": "drop",
            "outbound_route": "drop",
            "internal_networks": ["10.0.0.0/8", "127.0.0.0/8"],
            "internal_names": ["corp.local"],
            "trust": {"xclient": ["127.0.0.0/8", "::1/128"]},
            "filters": {
                "loop": {"mode": "enforce"},
                "own_domain": {"mode": "enforce"},
                "business_only": {"mode": "enforce"},
                "header_hygiene": {"mode": "enforce"},
            },
        }
    )


def ledger() -> Iterator[WhitelistEntry | SendsAsUs | RelaySource | RecipientEntry]:
    """Give the entries that the demonstration needs."""
    owner, none = "demo", None
    yield WhitelistEntry(
        "", Identity.AUTHOR_DOMAIN, "northwind.example", False, Proof.NONE, (), owner, "supplier", none, none
    )
    yield WhitelistEntry(
        "",
        Identity.AUTHOR_DOMAIN,
        "treuhand.example",
        False,
        Proof.PINNED_ADDRESS,
        (f"{PINNED}/32",),
        owner,
        "tax adviser",
        none,
        none,
    )
    yield SendsAsUs("", "corp.example", ("198.51.100.7/32",), owner, "newsletter service", none)
    yield RelaySource("", f"{EXCHANGE}/32", owner, "Exchange", "mail_server", (), False, 0, none, none)
    yield RelaySource(
        "", f"{WEB_SERVER}/32", owner, "order confirmations", "application", ("corp.example",), False, 0, none, none
    )
    for name in STAFF:
        yield RecipientEntry("", name, "corp.example", "")
    yield RecipientEntry("", "sales", "corp.example", "anna@corp.example")


def _mail(
    author: str, to: str, subject: str, body: str = "Hello,\r\n\r\nplease see below.\r\n", *, more: str = ""
) -> bytes:
    date = "Tue, 24 Nov 2026 10:00:00 +0000"
    text = f"From: {author}\r\nTo: {to}\r\nSubject: {subject}\r\nDate: {date}\r\nMIME-Version: 1.0\r\n{more}\r\n{body}"
    return text.encode()


def messages(now: datetime) -> list[DemoMessage]:
    """Return the thirty messages."""
    stamp = f"{now.timestamp():.0f}"
    return [*_from_partners(stamp), *_from_strangers(stamp), *_from_inside(stamp), *_odd(stamp)]


def _in(title: str, peer: str, mail_from: str, to: str | tuple[str, ...], data: bytes, expected: str) -> DemoMessage:
    return DemoMessage(title, False, peer, mail_from, (to,) if isinstance(to, str) else to, data, expected)


def _out(title: str, peer: str, mail_from: str, to: str, data: bytes, expected: str) -> DemoMessage:
    return DemoMessage(title, True, peer, mail_from, (to,), data, expected)


def _from_partners(stamp: str) -> list[DemoMessage]:
    nora = "Nora <nora@northwind.example>"
    tina = "tina@treuhand.example"
    anna = "anna@corp.example"
    two = (anna, "ben@corp.example")
    return [
        _in(
            "A known partner writes",
            PARTNER,
            "nora@northwind.example",
            anna,
            _mail(nora, anna, "Offer 2211"),
            "delivered",
        ),
        _in(
            "A partner writes to two people",
            PARTNER,
            "nora@northwind.example",
            two,
            _mail(nora, ", ".join(two), "Meeting"),
            "delivered",
        ),
        _in(
            "A partner writes to an alias",
            PARTNER,
            "nora@northwind.example",
            "sales@corp.example",
            _mail(nora, "sales", "Order"),
            "delivered",
        ),
        _in(
            "A plus-tagged recipient",
            PARTNER,
            "nora@northwind.example",
            "ben+news@corp.example",
            _mail(nora, "ben", "News"),
            "delivered",
        ),
        _in(
            "Letters of other languages",
            PARTNER,
            "nora@northwind.example",
            anna,
            _mail(nora, anna, "Größe, señor, 価格"),
            "delivered",
        ),
        _in(
            "A pinned partner from his own network",
            PINNED,
            tina,
            anna,
            _mail(tina, anna, "Annual accounts"),
            "delivered",
        ),
        _in(
            "The same partner's name from elsewhere",
            STRANGER,
            tina,
            anna,
            _mail(tina, anna, "New bank account"),
            "refused",
        ),
        _in(
            "A sub-domain that nobody admitted",
            PARTNER,
            "x@mail.northwind.example",
            anna,
            _mail("x@mail.northwind.example", anna, "Hi"),
            "refused",
        ),
    ]


def _from_strangers(stamp: str) -> list[DemoMessage]:
    anna = "anna@corp.example"
    bulk = "win@lottery.example"
    two_authors = f"nora@northwind.example, {bulk}"
    trust = "X-Gatepost-Hop: v1 0 forged\r\nX-MS-Exchange-Organization-SCL: -1\r\n"
    return [
        _in("A stranger writes", STRANGER, bulk, anna, _mail(bulk, anna, "You have won"), "refused"),
        _in(
            "A stranger writes to the postmaster",
            STRANGER,
            bulk,
            "postmaster@corp.example",
            _mail(bulk, "postmaster", "A question"),
            "delivered",
        ),
        _in(
            "A stranger writes to nobody we know",
            STRANGER,
            bulk,
            "zoe@corp.example",
            _mail(bulk, "zoe", "Hello"),
            "refused at RCPT",
        ),
        _in(
            "Somebody outside claims to be us",
            STRANGER,
            bulk,
            anna,
            _mail("Boss <boss@corp.example>", anna, "Urgent transfer"),
            "refused",
        ),
        _in(
            "Our newsletter service sends as us",
            "198.51.100.7",
            "news@corp.example",
            anna,
            _mail("news@corp.example", anna, "Our news"),
            "delivered",
        ),
        _in("Two authors, one of them known", STRANGER, bulk, anna, _mail(two_authors, anna, "Who am I?"), "refused"),
        _in(
            "A bounce to mail that we never sent",
            STRANGER,
            "",
            anna,
            _mail("mailer-daemon@lottery.example", anna, "Undelivered"),
            "refused",
        ),
        _in(
            "A stranger tries to relay",
            STRANGER,
            bulk,
            "victim@elsewhere.example",
            _mail(bulk, "victim", "Relay me"),
            "refused at RCPT",
        ),
        _in(
            "Trust fields from outside",
            PARTNER,
            "nora@northwind.example",
            anna,
            _mail("nora@northwind.example", anna, "Trust me", more=trust),
            "delivered",
        ),
    ]


def _from_inside(stamp: str) -> list[DemoMessage]:
    anna, ben = "anna@corp.example", "ben@corp.example"
    customer = "k.weber@customer.example"
    inside = (
        "Received: from EXCH1.corp.local (10.1.0.6) by EXCH2.corp.local (10.1.0.5) with Microsoft SMTP Server;\r\n"
        " Tue, 24 Nov 2026 09:59:59 +0000\r\nX-Originating-IP: [10.1.7.21]\r\nX-Mailer: Corp Mailer 16.0\r\n"
        f"X-MS-Exchange-Organization-AuthAs: Internal\r\nMessage-ID: <{stamp}@exch1.corp.local>\r\n"
    )
    shop = "shop@corp.example"
    return [
        _out(
            "Exchange sends out; the header is cleaned",
            EXCHANGE,
            anna,
            customer,
            _mail(anna, customer, "Offer", more=inside),
            "delivered",
        ),
        _out(
            "A second message to the same customer",
            EXCHANGE,
            ben,
            customer,
            _mail(ben, customer, "Invoice 4711", more=inside),
            "delivered",
        ),
        _out(
            "The web server confirms an order",
            WEB_SERVER,
            shop,
            customer,
            _mail(shop, customer, "Your order"),
            "delivered",
        ),
        _out(
            "The web server in somebody else's name",
            WEB_SERVER,
            "x@other.example",
            customer,
            _mail("x@other.example", customer, "Hi"),
            "refused at MAIL",
        ),
        _out(
            "An unlisted machine inside",
            UNKNOWN_INSIDE,
            "test@corp.example",
            customer,
            _mail("test@corp.example", customer, "test"),
            "refused at MAIL",
        ),
        _out("A colleague writes to a colleague", EXCHANGE, anna, ben, _mail(anna, ben, "Lunch?"), "delivered"),
        _out("A message without a Message-ID", EXCHANGE, anna, customer, _mail(anna, customer, "No id"), "delivered"),
    ]


def _odd(stamp: str) -> list[DemoMessage]:
    anna, nora = "anna@corp.example", "nora@northwind.example"
    hops = "".join(
        f"Received: from h{n}.example by h{n + 1}.example; Tue, 24 Nov 2026 09:00:00 +0000\r\n" for n in range(110)
    )
    long_line = "x" * 5000 + "\r\n"
    dots = ".\r\n..\r\n.leading dots stay\r\n"
    bare = _mail(nora, anna, "Bare line feed").replace(b"below.\r\n", b"below.\nSmuggled\r\n")
    return [
        _in("A mail loop", PARTNER, nora, anna, _mail(nora, anna, "Round and round", more=hops), "refused"),
        _in("A line of 5,000 octets", PARTNER, nora, anna, _mail(nora, anna, "Long line", long_line), "delivered"),
        _in("Lines that begin with dots", PARTNER, nora, anna, _mail(nora, anna, "Dots", dots), "delivered"),
        _in("A bare line feed (smuggling)", PARTNER, nora, anna, bare, "refused"),
        _in(
            "Two megabytes",
            PARTNER,
            nora,
            anna,
            _mail(nora, anna, "Large", ("0123456789" * 7 + "\r\n") * 28000),
            "delivered",
        ),
        _in("No author at all", PARTNER, nora, anna, _mail(nora, anna, "x").split(b"\r\n", 1)[1], "refused"),
    ]
