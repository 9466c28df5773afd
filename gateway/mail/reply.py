"""What the peer is told: every SMTP reply that Gatepost gives, in one table (RFC 5321 section 4.2, RFC 3463).

Texts are public. Listener, gate and intake take their replies from here and write none of their own; the cause of a
refusal goes to the trace. The codes that each command may answer with are listed in RFC 5321 section 4.3.2.
"""

from collections.abc import Sequence

from msgspec import Struct

MAX_LINE = 512  # octets with CRLF, RFC 5321 section 4.5.3.1.5
MAX_TEXT = MAX_LINE - len("250 5.7.999 \r\n")
MAX_NAMED = 255  # characters of what a refusal names: a domain (RFC 5321 section 4.5.3.1.2)


class Reply(Struct, frozen=True, gc=False):
    """What the peer is told. `text` is public: no host names, rule names or causes."""

    code: int  # RFC 5321 section 4.2
    enhanced: str  # RFC 3463, "" for greetings
    text: str

    @property
    def is_permanent(self) -> bool:
        return self.code >= 500

    @property
    def is_positive(self) -> bool:
        return self.code < 400


# --- What goes well ---------------------------------------------------------------------------------------------------
CLOSING = Reply(221, "2.0.0", "Goodbye")
OK = Reply(250, "2.0.0", "OK")
SENDER_OK = Reply(250, "2.1.0", "Sender OK")
RECIPIENT_OK = Reply(250, "2.1.5", "Recipient OK")
QUEUED = Reply(250, "2.0.0", "Message accepted")
CHUNK_OK = Reply(250, "2.0.0", "Chunk received")
# RFC 3463 section 2: only 2xx, 4xx and 5xx carry an enhanced code.
START_MAIL = Reply(354, "", "Start mail input; end with <CRLF>.<CRLF>")
START_TLS = Reply(220, "2.0.0", "Ready to start TLS")
HELP = Reply(214, "2.0.0", "See RFC 5321")
# RFC 5321 section 7.3: whoever does not verify addresses answers 252, not 550.
CANNOT_VERIFY = Reply(252, "2.5.2", "Cannot verify, but will take mail for known recipients")

# --- Lines and commands -----------------------------------------------------------------------------------------------
UNKNOWN_COMMAND = Reply(500, "5.5.1", "Command not recognised")
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long")
BARE_LINE_END = Reply(500, "5.5.2", "Command lines end in CRLF and hold no other CR, LF or NUL")
EIGHT_BIT_COMMAND = Reply(500, "5.5.2", "Command line is neither ASCII nor UTF-8")
SYNTAX_ERROR = Reply(501, "5.5.2", "Syntax error")
BAD_ARGUMENTS = Reply(501, "5.5.4", "Syntax error in parameters or arguments")
NO_ARGUMENTS = Reply(501, "5.5.4", "This command takes no arguments")
BAD_HELO = Reply(501, "5.5.4", "HELO and EHLO want a domain name or an address literal")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "Command not implemented")
AUTH_NOT_OFFERED = Reply(502, "5.5.1", "Authentication is not offered here")
HELO_FIRST = Reply(503, "5.5.1", "Say EHLO first")
MAIL_FIRST = Reply(503, "5.5.1", "Say MAIL first")
RCPT_FIRST = Reply(503, "5.5.1", "Say RCPT first")
NESTED_MAIL = Reply(503, "5.5.1", "A transaction is open already")
BAD_SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands")
# RFC 5321 section 3.3: DATA without any accepted recipient may be answered 554.
NO_VALID_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
# RFC 3030 section 2: DATA is not allowed in a transaction that BDAT began.
DATA_AFTER_BDAT = Reply(503, "5.5.1", "DATA cannot follow BDAT")
BAD_CHUNK = Reply(501, "5.5.4", "BDAT wants a size and perhaps LAST")
NOT_SMTP = Reply(554, "5.5.0", "This is a mail server")
# RFC 5321 section 3.1: a client waits for the greeting.
SPOKE_TOO_SOON = Reply(554, "5.5.0", "Wait for the greeting")
# RFC 5321 section 3.1: the greeting of a host that takes no mail from this peer; after it only QUIT gets a better
# answer.
NO_SERVICE = Reply(554, "5.7.1", "No mail is taken from this address")

# --- MAIL and RCPT ----------------------------------------------------------------------------------------------------
# RFC 5321 section 4.1.1.11: parameters that are not known or not implemented.
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "Parameter not recognised")
BAD_PARAMETER = Reply(501, "5.5.4", "Parameter not understood")
REPEATED_PARAMETER = Reply(501, "5.5.4", "Parameter given twice")
BAD_SENDER = Reply(501, "5.1.7", "Sender address is not valid")
BAD_RECIPIENT = Reply(501, "5.1.3", "Recipient address is not valid")
# RFC 6531 section 3.5: 550 or 553 with X.6.7 for an address outside of ASCII without the SMTPUTF8 parameter.
SENDER_WANTS_SMTPUTF8 = Reply(550, "5.6.7", "Address is not ASCII and SMTPUTF8 was not asked for")
RECIPIENT_WANTS_SMTPUTF8 = Reply(553, "5.6.7", "Address is not ASCII and SMTPUTF8 was not asked for")
RELAYING_DENIED = Reply(550, "5.7.1", "Relaying denied")
SENDER_NOT_ALLOWED = Reply(550, "5.7.1", "This host may not send under that domain")
NO_SUCH_RECIPIENT = Reply(550, "5.1.1", "No such recipient here")
# RFC 5321 section 4.5.3.1.10: 452, the client sends the rest in another transaction.
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients; send to the others in another transaction")
ANOTHER_TRANSACTION = Reply(452, "4.5.3", "Send to this recipient in another transaction")

# --- The message ------------------------------------------------------------------------------------------------------
MESSAGE_TOO_BIG = Reply(552, "5.3.4", "Message is bigger than the size that EHLO told")
HEADER_TOO_BIG = Reply(552, "5.3.4", "Header of the message is too big")
BARE_LINE_ENDS = Reply(554, "5.6.0", "Message holds a bare CR, a bare LF or a NUL")
LOOP = Reply(554, "5.4.6", "Mail loop")

# --- TLS, PROXY, XCLIENT ----------------------------------------------------------------------------------------------
TLS_FIRST = Reply(530, "5.7.0", "Say STARTTLS first")  # RFC 3207 section 4
TLS_UNAVAILABLE = Reply(454, "4.7.0", "TLS is not available for now")  # RFC 3207 section 4
TLS_ALREADY = Reply(503, "5.5.1", "TLS is active already")
# Bytes that came with STARTTLS would be taken as protected: command injection.
TLS_NOT_ALONE = Reply(503, "5.5.1", "Nothing may follow STARTTLS before the handshake")
BAD_PROXY_HEADER = Reply(421, "4.7.0", "No valid PROXY header")
XCLIENT_DENIED = Reply(550, "5.7.0", "XCLIENT is not for you")
BAD_XCLIENT = Reply(501, "5.5.4", "XCLIENT attribute not understood")
XCLIENT_TOO_LATE = Reply(503, "5.5.1", "XCLIENT cannot be given within a transaction")

# --- Limits; with 421 the connection ends -----------------------------------------------------------------------------
TOO_MANY_CONNECTIONS = Reply(421, "4.3.2", "Too many connections, try again later")
TOO_MANY_FROM_YOU = Reply(421, "4.7.0", "Too many connections from your network, try again later")
CONNECTING_TOO_FAST = Reply(421, "4.7.0", "Too many new connections from your network, try again later")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors")
TOO_MANY_COMMANDS = Reply(421, "4.7.0", "Too many commands without a message")
SENDING_TOO_FAST = Reply(451, "4.7.1", "Too many messages this hour, try again later")
IDLE_TOO_LONG = Reply(421, "4.4.2", "Waited too long for a command")
SESSION_TOO_LONG = Reply(421, "4.4.2", "Session took too long")
DATA_TOO_SLOW = Reply(421, "4.4.2", "Message came too slowly")
SHUTTING_DOWN = Reply(421, "4.3.2", "Shutting down, try again later")

# --- Our own trouble --------------------------------------------------------------------------------------------------
STORAGE_FULL = Reply(452, "4.3.1", "Not enough storage, try again later")
STORAGE_FAILED = Reply(451, "4.3.0", "Message could not be stored, try again later")
BACKLOG_FULL = Reply(451, "4.3.0", "Too much waits here, try again later")
STATE_AWAY = Reply(451, "4.3.0", "Message cannot be decided now, try again later")
NO_POLICY = Reply(451, "4.3.5", "Not configured yet, try again later")
LOCAL_ERROR = Reply(451, "4.3.0", "Local error, try again later")
CONNECTION_FAILED = Reply(421, "4.3.0", "Local error, closing; try again later")

# --- Verdicts: the public words of each category of refusal -----------------------------------------------------------
REFUSALS: dict[str, Reply] = {
    "business": Reply(550, "5.7.1", "Sender is not a known business partner"),
    "own_domain": Reply(550, "5.7.1", "Sender claims our own domain without proof"),
    "loop": LOOP,
    "relay": RELAYING_DENIED,
    "author": Reply(550, "5.7.1", "This host may not send under the author's domain"),
    "author_unclear": Reply(550, "5.7.1", "The author of the message is unclear"),
    "unclear_author": Reply(550, "5.7.1", "This host may not send mail whose author is unclear"),
    "recipient": NO_SUCH_RECIPIENT,
    "macro": Reply(550, "5.7.1", "Attachments with macros are not accepted"),
    "encrypted": Reply(550, "5.7.1", "Encrypted attachments are not accepted"),
    "attachment": Reply(550, "5.7.1", "Attachment type not accepted"),
    "unopened": Reply(550, "5.7.1", "An attachment could not be checked"),
    "bomb": Reply(554, "5.7.1", "Message unpacks to more than can be checked"),
    "protocol": Reply(554, "5.6.0", "Message is not well formed"),
    "failed": Reply(451, "4.3.0", "Message could not be checked, try again later"),
    "generic": Reply(550, "5.7.1", "Message does not meet the policy of this site"),
}


def greeting(hostname: str) -> Reply:
    """Return the opening reply (RFC 5321 section 4.2: the host's name comes first)."""
    return Reply(220, "", f"{hostname} ESMTP")


def queued(ref: str) -> Reply:
    """Return the acceptance of the message with this reference. Given only when the message is durable."""
    return Reply(250, "2.0.0", f"Message accepted, ref {ref}")


def chunk_ok(octets: int) -> Reply:
    """Return the answer to a BDAT chunk that is not the last (RFC 3030 section 2)."""
    return Reply(250, "2.0.0", f"{octets} octets received")


def with_link(reply: Reply, portal_url: str) -> Reply:
    """Return `reply` with the portal's address after its text; unchanged for "" or if the line would be too long."""
    if not portal_url or len(reply.text) + 1 + len(portal_url) > MAX_TEXT:
        return reply
    return Reply(reply.code, reply.enhanced, f"{reply.text} {portal_url}")


def refusal(category: str, ref: str, portal_url: str, *, is_temporary: bool = False) -> Reply:
    """Return the public refusal of a category: its words, the reference and where to read more.

    `category` is a key of `REFUSALS`, anything else is "generic"; what follows a colon in it is named after the words
    (`author:bank.example`) and must come from the peer, or be meant for it. `ref` as people see it, `portal_url` may
    be "". E.g.
    `550 5.7.1 Sender is not a known business partner (ref 7KQ2-M9PX) https://portal.corp.example/why/7KQ2-M9PX`.
    `is_temporary`: the peer shall try again, whatever the category's own code is.
    """
    key, _, named = category.partition(":")
    words = REFUSALS.get(key) or REFUSALS["generic"]
    code, enhanced = words.code, words.enhanced
    if is_temporary and words.is_permanent:
        code, enhanced = 451, "4.7.1"
    text = f"{words.text} {named[:MAX_NAMED]}" if named else words.text
    return with_link(Reply(code, enhanced, f"{text} (ref {ref})"), portal_url)


def wire(reply: Reply, *, enhanced: bool = True) -> bytes:
    """Return the reply as one line with CRLF, of at most 512 octets of printable ASCII: the rest is cut or masked.

    `enhanced` False leaves the enhanced code out, for a peer that said HELO (RFC 2034 section 3 ties it to EHLO).
    """
    if enhanced and (line := _WIRE.get(reply)) is not None:
        return line
    status = f"{reply.enhanced} " if enhanced and reply.enhanced else ""
    return _line(f"{reply.code} {status}{reply.text}")


def multiline(code: int, lines: Sequence[str]) -> bytes:
    """Return one reply of several lines (RFC 5321 section 4.2.1), as EHLO gives. At least one line is needed."""
    last = len(lines) - 1
    return b"".join(_line(f"{code}{' ' if number == last else '-'}{text}") for number, text in enumerate(lines))


# Whatever is not printable ASCII becomes a question mark: a reply can never be split in two by what stands in it.
_MASK = dict.fromkeys((*range(32), 127), "?")


def _line(text: str) -> bytes:
    if not (text.isascii() and text.isprintable()):
        text = text.translate(_MASK)
    return text.encode("ascii", "replace")[: MAX_LINE - 2] + b"\r\n"


_WIRE: dict[Reply, bytes] = {}
_WIRE.update({value: wire(value) for value in [*globals().values(), *REFUSALS.values()] if isinstance(value, Reply)})
