"""The Received trace field (RFC 5321 section 4.4): written for our own hop, read from hops that we trust.

Reading is for the first hops of a message only and never raises on odd input: what cannot be read is "".
"""

import re
from datetime import datetime
from functools import lru_cache

from msgspec import Struct

from gateway.mail.address import Address, parse_ip
from gateway.mail.date import format_date, parse_date
from gateway.mail.envelope import Tls

MAX_VALUE = 4096  # characters of a value that are read
MAX_NAME = 255  # characters of a name that are written

_PLAIN_NAME = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")
_ODD = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_UNFIT = re.compile(r"[^!-'*-\[\]-~]")

_TOKEN = re.compile(
    r"\((?P<comment>(?>(?:[^()\\]++|\\.|\((?>(?:[^()\\]++|\\.)*)\))*))\)|(?P<word>[^\s()]++)|(?P<open>\()", re.DOTALL
)
_CLAUSES = frozenset({"from", "by", "via", "with", "id", "for"})
_SCOPE = r"(?>(?:%[^\s\[\]()]*+)?)"
_IPV4 = r"\d{1,3}(?:\.\d{1,3}){3}"
_IPV6 = r"[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:(?:\.\d{1,3}){3})?(?!:)"
_BRACKETED = re.compile(rf"\[(?:ipv6:)?([0-9a-f.:]{{2,45}}{_SCOPE})\]", re.IGNORECASE)
_BARE_IP = re.compile(rf"(?<![\w.:-])((?:{_IPV4}|{_IPV6}){_SCOPE})(?![\w.-])", re.IGNORECASE)
_HELO = re.compile(r"\bhelo=.*", re.IGNORECASE | re.DOTALL)
_UNKNOWN = frozenset({"unknown", "unverified", "softdnserr"})


class Received(Struct, frozen=True):
    """One Received value as read. `from_name` is what the peer said of itself, `peer_name` what the host found out.

    `from_ip` is the address that the host wrote down, in its usual form; "" if there is none.
    """

    from_name: str = ""
    peer_name: str = ""
    from_ip: str = ""
    by: str = ""
    with_: str = ""
    id: str = ""
    for_: str = ""
    at: datetime | None = None


def with_protocol(*, esmtp: bool, tls: bool, auth: bool = False, smtputf8: bool = False) -> str:
    """Return the `with` keyword (RFC 3848; RFC 6531 section 4.3 for the transactions with SMTPUTF8)."""
    if not esmtp:
        return "SMTP"
    return ("UTF8SMTP" if smtputf8 else "ESMTP") + ("S" if tls else "") + ("A" if auth else "")


def received_field(
    *,
    helo: str,
    peer_ip: str,
    peer_name: str,
    by: str,
    protocol: str,
    tls: Tls | None,
    id: str,
    at: datetime,
    recipient: Address | None = None,
) -> bytes:
    """Write our Received field with its CRLF.

    `protocol` comes from `with_protocol`, `peer_name` may be "". Give `recipient` only when the message has just one:
    with more, the field would disclose one to the other (RFC 5321 section 7.2). Odd characters in `helo` and
    `peer_name` are masked. Without `peer_ip` the field does not say where the message came from: for mail that leaves,
    whose origin inside is nobody's business (RFC 5321 section 4.4 asks for it, for tracing; our trace has it).
    """
    origin = _origin(helo, peer_name, peer_ip, tls) if peer_ip else ""
    for_ = f"\r\n\tfor <{recipient}>" if recipient else ""
    date = format_date(at)
    return f"Received: {origin}by {by} with {protocol} id {id}{for_};\r\n\t{date}\r\n".encode()


@lru_cache(maxsize=1024)
def _origin(helo: str, peer_name: str, peer_ip: str, tls: Tls | None) -> str:
    comment = f"{_name(peer_name)} {_literal(peer_ip)}".lstrip()
    secured = f"\r\n\t(using {tls.version} with cipher {tls.cipher})" if tls else ""
    return f"from {_name(helo) or 'unknown'} ({comment}){secured}\r\n\t"


def _name(text: str) -> str:
    return text if _PLAIN_NAME.fullmatch(text) else _ODD.sub("?", text[:MAX_NAME])


def _literal(ip: str) -> str:
    return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"


def parse_received(value: str) -> Received:
    """Read an unfolded Received value of any common mail server (Postfix, Exim, Sendmail, Exchange, qmail).

    The address is taken from what the host wrote of the connection, not from the name that the peer gave, in
    whichever form the peer put it. At most 4,096 characters are read.
    """
    text = value[:MAX_VALUE]
    body, _, date = text.rpartition(";")
    words, comments = _clauses(body or text)
    peer_name, from_ip = _connection(words.get("from", []), comments)
    return Received(
        from_name=_first(words, "from"),
        peer_name=peer_name,
        from_ip=from_ip,
        by=_first(words, "by"),
        with_=_first(words, "with"),
        id=_first(words, "id"),
        for_=_first(words, "for").strip("<>"),
        at=parse_date(date.strip()) if body else None,
    )


def _clauses(text: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return the words of each clause and the comments of the from clause. The first clause of a name counts."""
    words: dict[str, list[str]] = {}
    comments: list[str] = []
    clause = ""
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "open":
            break  # a comment that is never closed
        if token.lastgroup == "comment":
            if clause == "from":
                comments.append(token["comment"])
            continue
        word = token["word"]
        name = word.lower()
        # A peer may call itself "by": a clause ends only when it has a word.
        if name in _CLAUSES and name not in words and (not clause or words[clause]):
            words[clause := name] = []
        elif clause:
            words[clause].append(word)
    return words, comments


def _first(words: dict[str, list[str]], clause: str) -> str:
    return (words.get(clause) or [""])[0]


def _connection(names: list[str], comments: list[str]) -> tuple[str, str]:
    """Return the peer's name and address as the host found them.

    The last comment with an address is the host's own; an earlier one may hold the name that the peer gave (qmail) or
    be part of it. What follows "helo=" in a comment is the peer's word again (Exim). An address with a scope id is for
    that host alone: it is none here, and no other is taken in its place.
    """
    for comment in reversed(comments):
        found = _HELO.sub("", comment)
        for pattern in (_BRACKETED, _BARE_IP):
            match = pattern.search(found)
            if match and "%" in match[1]:
                return "", ""
            if match and (ip := _ip(match[1])):
                return _peer_name(found[: match.start()]), ip
    for name in [*names[1:2], *names[:1]]:
        if "%" in name:
            break
        if ip := _ip(name.strip("[]").removeprefix("IPv6:")):
            return "", ip
    return "", ""


def _peer_name(text: str) -> str:
    """Return the host's name before its address, without an ident user; "" if it had none."""
    word = (text.split() or [""])[0].rpartition("@")[2].rstrip(".")
    return "" if word.lower() in _UNKNOWN else word


def _ip(text: str) -> str:
    try:
        return str(parse_ip(text))
    except ValueError:
        return ""
