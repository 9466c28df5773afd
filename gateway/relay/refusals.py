"""Every refusal that the listener gives by itself: what the peer is told, and the reason that is counted.

Those that name the portal are made by the gate, verdicts on messages by intake.
"""

from gateway.mail import reply as replies
from gateway.relay.reasons import Reason, Refusal

# --- Connecting -------------------------------------------------------------------------------------------------------
CONNECTING = {
    Reason.CONNECTIONS: Refusal(replies.TOO_MANY_CONNECTIONS, Reason.CONNECTIONS),
    Reason.NETWORK_CONNECTIONS: Refusal(replies.TOO_MANY_FROM_YOU, Reason.NETWORK_CONNECTIONS),
    Reason.CONNECT_RATE: Refusal(replies.CONNECTING_TOO_FAST, Reason.CONNECT_RATE),
}
BAD_PROXY_HEADER = Refusal(replies.BAD_PROXY_HEADER, Reason.PROXY)
SHUTTING_DOWN = Refusal(replies.SHUTTING_DOWN, Reason.SHUTDOWN)
FAILED = Refusal(replies.CONNECTION_FAILED, Reason.FAILED)

# --- Lines and limits -------------------------------------------------------------------------------------------------
LINE_TOO_LONG = Refusal(replies.LINE_TOO_LONG, Reason.LINE_LENGTH)
BARE_LINE_END = Refusal(replies.BARE_LINE_END, Reason.LINE_ENDS)
NOT_SMTP = Refusal(replies.NOT_SMTP, Reason.NOT_SMTP)
UNKNOWN_COMMAND = Refusal(replies.UNKNOWN_COMMAND, Reason.UNKNOWN_COMMAND)
NOT_IMPLEMENTED = Refusal(replies.NOT_IMPLEMENTED, Reason.UNKNOWN_COMMAND)
AUTH_NOT_OFFERED = Refusal(replies.AUTH_NOT_OFFERED, Reason.UNKNOWN_COMMAND)
TOO_MANY_COMMANDS = Refusal(replies.TOO_MANY_COMMANDS, Reason.COMMANDS)
TOO_MANY_ERRORS = Refusal(replies.TOO_MANY_ERRORS, Reason.ERRORS)
IDLE = Refusal(replies.IDLE_TOO_LONG, Reason.TIMEOUT)
SESSION_TOO_LONG = Refusal(replies.SESSION_TOO_LONG, Reason.TIMEOUT)

# --- Syntax and sequence ----------------------------------------------------------------------------------------------
BAD_ARGUMENTS = Refusal(replies.BAD_ARGUMENTS, Reason.SYNTAX)
NO_ARGUMENTS = Refusal(replies.NO_ARGUMENTS, Reason.SYNTAX)
BAD_HELO = Refusal(replies.BAD_HELO, Reason.SYNTAX)
BAD_CHUNK = Refusal(replies.BAD_CHUNK, Reason.SYNTAX)
HELO_FIRST = Refusal(replies.HELO_FIRST, Reason.SEQUENCE)
MAIL_FIRST = Refusal(replies.MAIL_FIRST, Reason.SEQUENCE)
RCPT_FIRST = Refusal(replies.RCPT_FIRST, Reason.SEQUENCE)
NESTED_MAIL = Refusal(replies.NESTED_MAIL, Reason.SEQUENCE)
BAD_SEQUENCE = Refusal(replies.BAD_SEQUENCE, Reason.SEQUENCE)
NO_VALID_RECIPIENTS = Refusal(replies.NO_VALID_RECIPIENTS, Reason.SEQUENCE)
DATA_AFTER_BDAT = Refusal(replies.DATA_AFTER_BDAT, Reason.SEQUENCE)

# --- Paths and parameters ---------------------------------------------------------------------------------------------
BAD_PARAMETER = Refusal(replies.BAD_PARAMETER, Reason.PARAMETER)
REPEATED_PARAMETER = Refusal(replies.REPEATED_PARAMETER, Reason.PARAMETER)
UNKNOWN_PARAMETER = Refusal(replies.UNKNOWN_PARAMETER, Reason.PARAMETER)
BAD_SENDER = Refusal(replies.BAD_SENDER, Reason.MALFORMED_ADDRESS)
BAD_RECIPIENT = Refusal(replies.BAD_RECIPIENT, Reason.MALFORMED_ADDRESS)
SENDER_WANTS_SMTPUTF8 = Refusal(replies.SENDER_WANTS_SMTPUTF8, Reason.PARAMETER)
RECIPIENT_WANTS_SMTPUTF8 = Refusal(replies.RECIPIENT_WANTS_SMTPUTF8, Reason.PARAMETER)
RELAYING_DENIED = Refusal(replies.RELAYING_DENIED, Reason.RELAYING)
NO_SUCH_RECIPIENT = Refusal(replies.NO_SUCH_RECIPIENT, Reason.UNKNOWN_RECIPIENT)
TOO_MANY_RECIPIENTS = Refusal(replies.TOO_MANY_RECIPIENTS, Reason.RECIPIENTS)
SENDING_TOO_FAST = Refusal(replies.SENDING_TOO_FAST, Reason.MESSAGE_RATE)

# --- The message ------------------------------------------------------------------------------------------------------
MESSAGE_TOO_BIG = Refusal(replies.MESSAGE_TOO_BIG, Reason.MESSAGE_SIZE)
HEADER_TOO_BIG = Refusal(replies.HEADER_TOO_BIG, Reason.HEADER_SIZE)
BARE_LINE_ENDS = Refusal(replies.BARE_LINE_ENDS, Reason.LINE_ENDS)
DATA_TOO_SLOW = Refusal(replies.DATA_TOO_SLOW, Reason.SLOW_DATA)

# --- TLS and trusted peers --------------------------------------------------------------------------------------------
TLS_ALREADY = Refusal(replies.TLS_ALREADY, Reason.TLS)
TLS_NOT_ALONE = Refusal(replies.TLS_NOT_ALONE, Reason.TLS)
TLS_FAILED = Refusal(replies.TLS_UNAVAILABLE, Reason.TLS)  # not written: there is nobody to read it
XCLIENT_DENIED = Refusal(replies.XCLIENT_DENIED, Reason.XCLIENT)
BAD_XCLIENT = Refusal(replies.BAD_XCLIENT, Reason.XCLIENT)
XCLIENT_TOO_LATE = Refusal(replies.XCLIENT_TOO_LATE, Reason.XCLIENT)
