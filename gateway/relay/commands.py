"""What each SMTP command means (RFC 5321 section 4.1; BDAT: RFC 3030; STARTTLS: RFC 3207; XCLIENT: as in Postfix).

A command takes the conversation and its argument, changes the conversation, and returns a reply, a refusal, or None
when it has answered by itself or the answer comes later. Nothing here waits.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from gateway.mail import reply as replies
from gateway.mail.address import Address, ip_in
from gateway.mail.envelope import ListenerKind, Recipient
from gateway.mail.errors import Malformed
from gateway.mail.reply import Reply
from gateway.relay import arguments, gate, refusals
from gateway.relay.data import DROP_BYTES
from gateway.relay.proxy import XCLIENT_NAMES, parse_xclient
from gateway.relay.reasons import Reason, Refusal
from gateway.relay.transaction import Transaction

if TYPE_CHECKING:
    from gateway.relay.conversation import Conversation

Answer = Reply | Refusal | None

# RFC 5321 section 4.1.4 forbids to refuse a HELO for what it says; letters that could forge a Received field are no
# name at all.
_HELO: Final = re.compile(rb"[A-Za-z0-9._:/+=~\[\]-]{1,255}")
_POSTMASTER: Final = b"postmaster"
_BDAT: Final = re.compile(rb"([0-9]{1,12})(?: ++(LAST))?", re.I)
# What a browser or another program says that took us for a server of its own protocol.
FOREIGN: Final = frozenset(
    {
        b"GET",
        b"POST",
        b"PUT",
        b"HEAD",
        b"DELETE",
        b"OPTIONS",
        b"PATCH",
        b"TRACE",
        b"CONNECT",
        b"USER",
        b"HOST:",
        b"CONTENT-TYPE:",
    }
)


# --- Hello ------------------------------------------------------------------------------------------------------------


def helo(talk: "Conversation", argument: bytes) -> Answer:
    name = argument.strip(b" ")
    if not _HELO.fullmatch(name):
        return refusals.BAD_HELO
    _enter(talk, name.decode(), extended=False)
    # RFC 5321 section 4.2.1: only EHLO is answered in several lines.
    return Reply(250, "", talk.hostname)


def ehlo(talk: "Conversation", argument: bytes) -> Answer:
    name = argument.strip(b" ")
    if not _HELO.fullmatch(name):
        return refusals.BAD_HELO
    _enter(talk, name.decode(), extended=True)
    policy, session = talk.policy, talk.session
    source = gate.source_of(talk.kind, session.peer_ip, policy, talk.services.now())
    talk.offers_dsn = gate.kind_for(talk.kind, source) is ListenerKind.OUTBOUND
    talk.out.append(
        _extensions(
            talk.hostname,
            policy.document.limits.message_bytes,
            starttls=talk.settings.tls_context is not None and session.tls is None,
            dsn=talk.offers_dsn,
            xclient=_may_xclient(talk),
        )
    )
    return None


def _enter(talk: "Conversation", name: str, *, extended: bool) -> None:
    # RFC 5321 section 4.1.4: HELO and EHLO in a session act as RSET as well.
    talk.transaction = None
    talk.extended = extended
    talk.offers_dsn = False
    talk.session = replace(talk.session, helo=name, esmtp=extended)


@lru_cache(maxsize=64)
def _extensions(hostname: str, size: int, *, starttls: bool, dsn: bool, xclient: bool) -> bytes:
    lines = [hostname, "PIPELINING", f"SIZE {size}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING"]
    if starttls:
        lines.append("STARTTLS")
    if dsn:
        lines.append("DSN")
    if xclient:
        lines.append("XCLIENT " + " ".join(XCLIENT_NAMES))
    return replies.multiline(250, lines)


# --- The transaction --------------------------------------------------------------------------------------------------


def mail(talk: "Conversation", argument: bytes) -> Answer:
    if not talk.session.helo:
        return refusals.HELO_FIRST
    if talk.transaction is not None:
        return refusals.NESTED_MAIL
    split = arguments.split_mail(argument)
    if split is None:
        return refusals.BAD_ARGUMENTS
    parameters = arguments.mail_parameters(split[1], dsn=talk.offers_dsn)
    if isinstance(parameters, Refusal):
        return parameters
    if split[1] and not talk.extended:
        return refusals.UNKNOWN_PARAMETER  # RFC 5321 section 4.1.1.11: parameters follow an EHLO
    mail_from = arguments.sender(split[0], smtputf8=parameters.smtputf8)
    answer = mail_from if isinstance(mail_from, Refusal) else _open_transaction(talk, mail_from, parameters)
    if isinstance(answer, Refusal):
        talk.refuse(answer, mail_from=split[0].decode("utf-8", "replace"))
        return None
    return answer


def _open_transaction(talk: "Conversation", mail_from: Address, parameters: arguments.MailParameters) -> Answer:
    """Pin the policy, ask the gate and whether there is room."""
    services = talk.services
    policy = services.policy()
    session = talk.session
    source = gate.source_of(talk.kind, session.peer_ip, policy, services.now())
    if (name := source.id if source else "") != session.source:
        session = talk.session = replace(session, source=name)
    kind = gate.kind_for(talk.kind, source)
    refusal = gate.check_mail(kind, session.peer_ip, source, mail_from, parameters, policy)
    if refusal is not None:
        return refusal
    if source is not None and services.admission.is_over_rate(source.id, source.max_per_hour, services.monotonic()):
        return refusals.SENDING_TOO_FAST
    full = services.intake.has_room(parameters.size or 0)
    if full is not None:
        return Refusal(full, Reason.NO_ROOM)
    talk.received = 0
    talk.transaction = Transaction(policy, session, kind, source, mail_from, parameters)
    return replies.SENDER_OK


def rcpt(talk: "Conversation", argument: bytes) -> Answer:
    transaction = talk.transaction
    if transaction is None:
        return refusals.MAIL_FIRST if talk.session.helo else refusals.HELO_FIRST
    if transaction.chunks is not None:
        return refusals.BAD_SEQUENCE
    split = arguments.split_rcpt(argument)
    if split is None:
        return refusals.BAD_ARGUMENTS
    smtputf8 = transaction.parameters.smtputf8
    parameters = arguments.rcpt_parameters(split[1], dsn=talk.offers_dsn, smtputf8=smtputf8)
    if isinstance(parameters, Refusal):
        return parameters
    address = _recipient_address(split[0], smtputf8=smtputf8)
    if isinstance(address, Refusal):
        found: Recipient | Refusal = address
    elif len(transaction.recipients) >= transaction.policy.document.limits.recipients:
        found = refusals.TOO_MANY_RECIPIENTS
    else:
        found = gate.check_rcpt(transaction.kind, address, parameters, transaction.policy)
    if isinstance(found, Refusal):
        transaction.refused += 1
        talk.refuse(found, rcpt=split[0].decode("utf-8", "replace"))
        return None
    transaction.recipients.setdefault(found.address.key, found)
    return replies.RECIPIENT_OK


def _recipient_address(path: bytes, *, smtputf8: bool) -> Address | Refusal:
    if len(path) == len(_POSTMASTER) and path.lower() == _POSTMASTER:
        return gate.BARE_POSTMASTER
    return arguments.recipient(path, smtputf8=smtputf8)


def data(talk: "Conversation", argument: bytes) -> Answer:
    if argument.strip(b" "):
        return refusals.NO_ARGUMENTS
    transaction = talk.transaction
    if transaction is not None and transaction.chunks is not None:
        return refusals.DATA_AFTER_BDAT
    missing = _missing(talk)
    if missing is not None:
        return missing
    talk.begin_data()
    return replies.START_MAIL


def bdat(talk: "Conversation", argument: bytes) -> Answer:
    found = _BDAT.fullmatch(argument.strip(b" "))
    if found is None:
        # Where the chunk ends is unknown, so what follows cannot be told from commands.
        talk.hang_up(refusals.BAD_CHUNK)
        return None
    size = int(found[1])
    transaction = talk.transaction
    refusal = _missing(talk)
    if transaction is not None and refusal is None:
        if transaction.is_broken:
            refusal = refusals.BAD_SEQUENCE
        elif len(transaction.chunks or b"") + size > transaction.policy.document.limits.message_bytes:
            refusal = refusals.MESSAGE_TOO_BIG
    if refusal is not None and size > DROP_BYTES:
        talk.hang_up(refusal)
        return None
    talk.begin_chunk(size, is_last=found[2] is not None, refusal=refusal)
    return None


def _missing(talk: "Conversation") -> Refusal | None:
    """Return what stands against a message now: no EHLO, no MAIL, no recipient."""
    transaction = talk.transaction
    if transaction is None:
        return refusals.MAIL_FIRST if talk.session.helo else refusals.HELO_FIRST
    if not transaction.recipients:
        return refusals.NO_VALID_RECIPIENTS if transaction.refused else refusals.RCPT_FIRST
    return None


def rset(talk: "Conversation", argument: bytes) -> Answer:
    if argument.strip(b" "):
        return refusals.NO_ARGUMENTS
    talk.transaction = None
    return replies.OK


# --- TLS and trusted peers --------------------------------------------------------------------------------------------


def starttls(talk: "Conversation", argument: bytes) -> Answer:
    if talk.settings.tls_context is None:
        return refusals.NOT_IMPLEMENTED
    if argument.strip(b" "):
        return refusals.NO_ARGUMENTS
    if talk.session.tls is not None:
        return refusals.TLS_ALREADY
    if talk.waiting:
        # Sent in clear, perhaps by somebody between, to be taken as protected (CVE-2011-0411).
        talk.hang_up(refusals.TLS_NOT_ALONE)
        return None
    talk.begin_tls()
    return replies.START_TLS


def xclient(talk: "Conversation", argument: bytes) -> Answer:
    if not _may_xclient(talk):
        return refusals.XCLIENT_DENIED
    if talk.transaction is not None:
        return refusals.XCLIENT_TOO_LATE
    try:
        attributes = parse_xclient(argument)
    except Malformed:
        return refusals.BAD_XCLIENT
    if attributes.get("ADDR") == "":
        return refusals.BAD_XCLIENT  # A peer without an address would have the rights of whoever speaks for it.
    session = talk.session
    talk.speak_for(
        replace(
            session,
            peer_ip=attributes.get("ADDR", session.peer_ip),
            peer_name=attributes.get("NAME", session.peer_name if "ADDR" not in attributes else ""),
            helo=attributes.get("HELO", ""),
            user=attributes.get("LOGIN", session.user),
            source="",
        ),
        extended=attributes.get("PROTO", "").upper() == "ESMTP",
    )
    return None


def _may_xclient(talk: "Conversation") -> bool:
    """The word of the peer that really connected counts, not of the one it speaks for."""
    return ip_in(talk.connected_ip, talk.policy.document.trust.xclient)


# --- The rest ---------------------------------------------------------------------------------------------------------


def noop(_talk: "Conversation", _argument: bytes) -> Answer:
    return replies.OK


def help_(_talk: "Conversation", _argument: bytes) -> Answer:
    return replies.HELP


def vrfy(_talk: "Conversation", argument: bytes) -> Answer:
    return replies.CANNOT_VERIFY if argument.strip(b" ") else refusals.BAD_ARGUMENTS


def not_implemented(_talk: "Conversation", _argument: bytes) -> Answer:
    return refusals.NOT_IMPLEMENTED


def auth(_talk: "Conversation", _argument: bytes) -> Answer:
    return refusals.AUTH_NOT_OFFERED


def quit_(talk: "Conversation", argument: bytes) -> Answer:
    if argument.strip(b" "):
        return refusals.NO_ARGUMENTS
    talk.is_over = talk.is_polite_end = True
    return replies.CLOSING


class Command(Struct, frozen=True):
    """A command's name for events, and its function."""

    stage: str
    obey: Callable[["Conversation", bytes], Answer]


COMMANDS: Final = {
    name.encode(): Command(name.lower(), function)
    for name, function in {
        "HELO": helo,
        "EHLO": ehlo,
        "MAIL": mail,
        "RCPT": rcpt,
        "DATA": data,
        "BDAT": bdat,
        "RSET": rset,
        "NOOP": noop,
        "QUIT": quit_,
        "HELP": help_,
        "VRFY": vrfy,
        "EXPN": not_implemented,
        "ETRN": not_implemented,
        "STARTTLS": starttls,
        "AUTH": auth,
        "XCLIENT": xclient,
    }.items()
}
