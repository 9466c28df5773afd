"""The arguments of MAIL and RCPT: path and ESMTP parameters (RFC 5321 section 4.1.1; RFC 1870, 6152, 6531, 3461).

Syntax only; each function returns the value or the refusal. Addresses themselves are `mail.address`'s affair, whether
they may be used is the gate's.
"""

import re
from typing import Final

from msgspec import Struct

from gateway.mail.address import Address, parse_path
from gateway.mail.envelope import Body, Notify, Ret
from gateway.mail.errors import Malformed
from gateway.mail.xtext import decode_utf8_address, decode_xtext
from gateway.relay import refusals
from gateway.relay.reasons import Refusal

# A quoted local part may hold blanks and angle brackets. Nothing is tried twice: linear on any input. Blanks after the
# colon and a missing blank before parameters are common mistakes of senders; the blanks are forgiven (RFC 5321
# section 3.3 forbids them).
_MAIL: Final = re.compile(
    rb'FROM: {0,8}+<((?>(?:[^<>"\x00-\x1f\x7f]++|"(?>(?:[^"\\]++|\\.)*)")*))>(?: ++(.*))?', re.I | re.S
)
_RCPT: Final = re.compile(
    rb'TO: {0,8}+<((?>(?:[^<>"\x00-\x1f\x7f]++|"(?>(?:[^"\\]++|\\.)*)")*))>(?: ++(.*))?', re.I | re.S
)
# RFC 5321 section 4.1.2: esmtp-keyword and esmtp-value; RFC 6531 section 3.3 adds what is not ASCII.
_PARAMETER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*+)(?:=([!-<>-~\x80-\U0010ffff]++))?")
_SIZE: Final = re.compile(r"[0-9]{1,20}")  # RFC 1870 section 3
_ENVID_MAX: Final = 100  # characters before xtext, RFC 3461 section 4.4
_ORCPT_MAX: Final = 500  # RFC 3461 section 4.2
# RFC 3461 section 4.2: the address type is an atom.
_ORCPT: Final = re.compile(r"([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,40});(.+)", re.S)


class MailParameters(Struct, frozen=True):
    """The parameters of MAIL. `size` is None without SIZE."""

    size: int | None = None
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    ret: Ret | None = None
    envid: str = ""


class RcptParameters(Struct, frozen=True):
    """The parameters of RCPT: `notify` is empty without NOTIFY, `orcpt` is type and decoded address, or ""."""

    notify: tuple[Notify, ...] = ()
    orcpt: str = ""


_NO_MAIL_PARAMETERS: Final = MailParameters()
_NO_RCPT_PARAMETERS: Final = RcptParameters()


def split_mail(argument: bytes) -> tuple[bytes, bytes] | None:
    """Split the argument of MAIL into what stands between the brackets and the parameters; None when it is neither."""
    found = _MAIL.fullmatch(argument)
    return (found[1], found[2] or b"") if found else None


def split_rcpt(argument: bytes) -> tuple[bytes, bytes] | None:
    """Split the argument of RCPT like `split_mail`."""
    found = _RCPT.fullmatch(argument)
    return (found[1], found[2] or b"") if found else None


def sender(path: bytes, *, smtputf8: bool) -> Address | Refusal:
    """Read the path of MAIL; empty is the null path."""
    try:
        return parse_path(path, smtputf8=smtputf8)
    except Malformed:
        return refusals.BAD_SENDER if smtputf8 or path.isascii() else refusals.SENDER_WANTS_SMTPUTF8


def recipient(path: bytes, *, smtputf8: bool) -> Address | Refusal:
    """Read the path of RCPT, which is never empty. `<postmaster>` without a domain is the caller's affair."""
    try:
        address = parse_path(path, smtputf8=smtputf8)
    except Malformed:
        return refusals.BAD_RECIPIENT if smtputf8 or path.isascii() else refusals.RECIPIENT_WANTS_SMTPUTF8
    return refusals.BAD_RECIPIENT if address.is_null else address


def mail_parameters(text: bytes, *, dsn: bool) -> MailParameters | Refusal:
    """Read the parameters of MAIL. `dsn`: the extension was offered to this peer."""
    if not text:
        return _NO_MAIL_PARAMETERS
    given = _parameters(text)
    if isinstance(given, Refusal):
        return given
    values: dict[str, int | Body | bool | Ret | str] = {}
    for name, value in given.items():
        if name == "SIZE" and value is not None and _SIZE.fullmatch(value):
            values["size"] = int(value)
        elif name == "BODY" and value is not None and value.upper() in _BODIES:
            values["body"] = _BODIES[value.upper()]
        elif name == "SMTPUTF8" and value is None:
            values["smtputf8"] = True
        elif name == "RET" and dsn and value is not None and value.upper() in _RETS:
            values["ret"] = _RETS[value.upper()]
        elif name == "ENVID" and dsn and (envid := _envid(value)):
            values["envid"] = envid
        else:
            return refusals.BAD_PARAMETER if name in _MAIL_NAMES[dsn] else refusals.UNKNOWN_PARAMETER
    return MailParameters(**values)  # type: ignore[arg-type]


def rcpt_parameters(text: bytes, *, dsn: bool, smtputf8: bool) -> RcptParameters | Refusal:
    """Read the parameters of RCPT."""
    if not text:
        return _NO_RCPT_PARAMETERS
    given = _parameters(text)
    if isinstance(given, Refusal):
        return given
    notify: tuple[Notify, ...] | None = ()
    orcpt: str | None = ""
    for name, value in given.items():
        if not dsn or name not in ("NOTIFY", "ORCPT"):
            return refusals.UNKNOWN_PARAMETER
        if name == "NOTIFY":
            notify = _notify(value)
        else:
            orcpt = _orcpt(value, smtputf8=smtputf8)
    return refusals.BAD_PARAMETER if notify is None or orcpt is None else RcptParameters(notify, orcpt)


_BODIES: Final = {body.value: body for body in Body}
_RETS: Final = {ret.value: ret for ret in Ret}
_NOTIFIES: Final = {notify.value: notify for notify in Notify}
_MAIL_NAMES: Final = {False: {"SIZE", "BODY", "SMTPUTF8"}, True: {"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID"}}


def _parameters(text: bytes) -> dict[str, str | None] | Refusal:
    """Split `NAME=VALUE NAME`; names in upper case, None for a name without value."""
    try:
        words = text.decode().split(" ")
    except UnicodeDecodeError:
        return refusals.BAD_PARAMETER
    given: dict[str, str | None] = {}
    for word in words:
        if not word:  # blanks at the end or in a row
            continue
        found = _PARAMETER.fullmatch(word)
        if found is None:
            return refusals.BAD_PARAMETER
        name = found[1].upper()
        if name in given:
            return refusals.REPEATED_PARAMETER
        given[name] = found[2]
    return given


def _envid(value: str | None) -> str:
    """Decode ENVID (RFC 3461 section 4.4: printable ASCII); "" when it is not valid."""
    if not value:
        return ""
    try:
        envid = decode_xtext(value)
    except Malformed:
        return ""
    return envid if len(envid) <= _ENVID_MAX and envid.isascii() and envid.isprintable() else ""


def _notify(value: str | None) -> tuple[Notify, ...] | None:
    """Read NOTIFY (RFC 3461 section 4.1): NEVER alone, or a list of the others; None when it is neither."""
    wishes = [_NOTIFIES.get(word) for word in (value or "").upper().split(",")]
    notify = tuple(wish for wish in dict.fromkeys(wishes) if wish is not None)
    if None in wishes or (Notify.NEVER in notify and len(notify) > 1):
        return None
    return notify


def _orcpt(value: str | None, *, smtputf8: bool) -> str | None:
    """Decode ORCPT (RFC 3461 section 4.2, RFC 6533 section 3); None when it is not valid."""
    found = _ORCPT.fullmatch(value or "")
    if found is None or len(found[0]) > _ORCPT_MAX:
        return None
    try:
        address = (decode_utf8_address if found[1].lower() == "utf-8" else decode_xtext)(found[2])
    except Malformed:
        return None
    return f"{found[1]};{address}" if address.isprintable() and (smtputf8 or address.isascii()) else None
