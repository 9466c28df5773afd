"""Why the listener turned a peer or a command away: a closed list that events and statistics count by."""

from enum import StrEnum

from msgspec import Struct

from gateway.mail.reply import Reply


class Reason(StrEnum):
    """The cause of a refusal before or at the end of DATA, apart from verdicts."""

    CONNECTIONS = "connections"  # all connections are in use
    NETWORK_CONNECTIONS = "network_connections"  # this network has its share
    CONNECT_RATE = "connect_rate"
    PROXY = "proxy"  # a trusted proxy sent no valid PROXY header
    NOT_A_SOURCE = "not_a_source"  # not among the relay sources, on a listener for those
    SENDER_NOT_ALLOWED = "sender_not_allowed"  # a relay source with a sender domain that it may not use
    RELAYING = "relaying"
    UNKNOWN_RECIPIENT = "unknown_recipient"
    MALFORMED_ADDRESS = "malformed_address"
    PARAMETER = "parameter"  # an ESMTP parameter unknown, repeated or wrong
    RECIPIENTS = "recipients"  # too many in one transaction
    MESSAGE_RATE = "message_rate"
    MESSAGE_SIZE = "message_size"
    HEADER_SIZE = "header_size"
    LINE_ENDS = "line_ends"  # bare CR, bare LF or NUL
    LINE_LENGTH = "line_length"
    UNKNOWN_COMMAND = "unknown_command"
    SYNTAX = "syntax"
    SEQUENCE = "sequence"
    NOT_SMTP = "not_smtp"
    XCLIENT = "xclient"
    TLS = "tls"
    ERRORS = "errors"  # too many refused commands
    COMMANDS = "commands"  # too many commands without a message
    TIMEOUT = "timeout"
    SLOW_DATA = "slow_data"
    NO_ROOM = "no_room"  # storage, backlog or database of ours
    SHUTDOWN = "shutdown"
    FAILED = "failed"  # an error of ours


class Refusal(Struct, frozen=True):
    """What the peer is told, and why."""

    reply: Reply
    reason: Reason


# Not the peer's fault, or allowed for in the standard: they do not count towards its limit of errors.
FORGIVEN = frozenset({Reason.RECIPIENTS, Reason.MESSAGE_RATE, Reason.NO_ROOM, Reason.SHUTDOWN, Reason.FAILED})
