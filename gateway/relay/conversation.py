"""One SMTP conversation without its socket: octets in, replies out, and the steps that somebody must await.

`commands` knows what each command means, `data` how a message comes in. The rules of the line are here: commands end
in CRLF (RFC 5321 section 2.3.8), replies keep their order (RFC 2920), limits hold whatever the peer sends. Nothing
here waits, so a pipelined envelope is answered in one go; time limits are the listener's.
"""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from gateway.mail import reply as replies
from gateway.mail.address import ip_in
from gateway.mail.envelope import Envelope, Session, Tls
from gateway.mail.errors import Malformed
from gateway.mail.reply import Reply, wire
from gateway.policy.compile import Policy
from gateway.relay import data, proxy, refusals
from gateway.relay.commands import COMMANDS, FOREIGN, Answer
from gateway.relay.data import ChunkReader, DataReader
from gateway.relay.reasons import FORGIVEN, Refusal
from gateway.relay.services import ListenerSettings, Services
from gateway.relay.transaction import Transaction

# RFC 5321 section 4.5.3.1.4: 512 octets, and what the parameters of SIZE, SMTPUTF8, DSN and XCLIENT add.
MAX_LINE: Final = 512 + 1024
CR: Final = 13
MAX_SKIPPED: Final = 1 << 20  # octets of one endless line that are listened to
# Commands answered in one turn of the event loop: enough for an envelope, too few to keep others waiting or replies
# piling up.
TURN: Final = 100
MAX_SHOWN: Final = 320  # characters of a path that events are told


class Take(Struct, frozen=True):
    """A whole message: carry it to its outcome, then call `answered`."""

    session: Session
    envelope: Envelope
    raw: bytes
    policy: Policy
    has_dots: bool = True  # a line may begin with a dot


class StartTls(Struct, frozen=True):
    """The 220 is in `out`: do the handshake, then call `secured`."""


class Conversation:
    """The state of one connection.

    The listener feeds `receive`, writes and clears `out`, carries `step` out, calls `proceed` again while `has_more`,
    and hangs up when `is_over`.
    """

    def __init__(self, settings: ListenerSettings, services: Services, peer_ip: str) -> None:
        now = services.now()
        self.settings = settings
        self.services = services
        self.kind = settings.kind
        self.connected_ip = peer_ip  # after PROXY; XCLIENT does not change it
        self.limits = services.policy().document.limits
        self.session = Session(
            services.new_id(int(now.timestamp() * 1000)), settings.kind, peer_ip, "", "", None, "", now
        )
        self.transaction: Transaction | None = None
        self.body: DataReader | ChunkReader | None = None
        self.step: Take | StartTls | None = None
        self.out: list[bytes] = []
        self.extended = False  # EHLO, not HELO
        self.offers_dsn = False
        self.stage = "connect"  # for events: the command at hand
        self.has_more = False
        self.is_over = False
        self.is_polite_end = False  # after QUIT nothing more is to come, so that no reply can get lost by hanging up
        self.messages = 0
        self.received = 0  # octets of the message at hand so far, as the listener measures slow senders
        self._data = b""
        self._at = 0  # where in `_data` the unread octets begin
        self._skipped = 0  # octets of a line that is too long
        self._commands = 0
        self._errors = 0
        self.expects_proxy = False
        self._is_draining = False
        self._chunk_refusal: Refusal | None = None
        self._admitted_ip = ""
        self._is_greeted = False

    # --- Begin and end ------------------------------------------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        """The policy in force; a transaction has its own, pinned at MAIL."""
        return self.services.policy()

    @property
    def hostname(self) -> str:
        return self.policy.document.hostname or self.settings.hostname

    @property
    def waiting(self) -> int:
        """Octets that have come and are not read yet."""
        return len(self._data) - self._at

    def open(self) -> None:
        """Greet, or wait for the header of a trusted proxy (which then has to send one)."""
        if ip_in(self.session.peer_ip, self.policy.document.trust.proxy):
            self.expects_proxy = True
        elif self.admit():
            self._greet()

    def admit(self) -> bool:
        """Ask whether the peer may connect, and count it. If not, it has been told."""
        services, ip = self.services, self.session.peer_ip
        self._forget_admission()
        if services.sessions.is_draining:
            self.hang_up(refusals.SHUTTING_DOWN)
            return False
        policy = services.policy()
        is_source = policy.ledger.relay_source(ip, services.now()) is not None
        reason = services.admission.connect(ip, policy.document.limits, services.monotonic(), is_source=is_source)
        if reason is not None:
            self.hang_up(refusals.CONNECTING[reason])
            return False
        self._admitted_ip = ip
        return True

    def _forget_admission(self) -> None:
        if self._admitted_ip:
            self.services.admission.disconnect(self._admitted_ip)
            self._admitted_ip = ""

    def _greet(self) -> None:
        self._is_greeted = True
        self.stage = "command"
        self.services.events.connected(self.settings.kind, self.session.peer_ip)
        self.say(replies.greeting(self.hostname))

    def hang_up(self, refusal: Refusal) -> None:
        """Tell the peer why, and end the conversation."""
        self.is_over = True
        self.refuse(refusal)

    def drain(self) -> None:
        """End as soon as no transaction is open."""
        self._is_draining = True
        self._end_if_drained()

    def lose(self) -> None:
        """The connection is gone: give back what is counted."""
        self.is_over = True
        self._end_body()
        self._forget_admission()
        if self._is_greeted:
            self._is_greeted = False
            self.services.events.disconnected(self.session, self.messages)

    # --- Octets in, replies out ---------------------------------------------------------------------------------------

    def receive(self, octets: bytes) -> None:
        """Take what the peer sent, and answer what can be answered."""
        if self.is_over:
            return  # The connection lingers so that our last reply arrives; what still comes is not kept.
        self._data = self._data[self._at :] + octets if self._at < len(self._data) else octets
        self._at = 0
        if self.expects_proxy:
            self._read_proxy_header()
        if self.step is None and not self.expects_proxy:
            self.proceed()

    def proceed(self) -> None:
        """Go on with what has come: until something is missing, must be awaited, or the turn is over."""
        turn = TURN
        while turn and self.step is None and not self.is_over:
            turn -= 1
            if not (self._read_command() if self.body is None else self._read_body()):
                break
        self.has_more = not turn

    def say(self, reply: Reply) -> None:
        self.out.append(wire(reply))

    def refuse(self, refusal: Refusal, *, mail_from: str = "", rcpt: str = "") -> None:
        """Say no, and count it. The paths that are meant are for events."""
        if refusal.reason not in FORGIVEN:
            self._errors += 1
            if self._errors >= self.limits.errors and not self.is_over:
                self.is_over = True
                self._tell(refusal, mail_from, rcpt)
                refusal = refusals.TOO_MANY_ERRORS
        self.say(refusal.reply)
        self._tell(refusal, mail_from, rcpt)

    def _tell(self, refusal: Refusal, mail_from: str, rcpt: str) -> None:
        session, transaction = self.session, self.transaction
        if transaction is not None:
            session, mail_from = transaction.session, str(transaction.mail_from)
            if self.stage == "message":
                rcpt = next((str(one.address) for one in transaction.recipients.values()), "")
        self.services.events.refused(
            session, self.stage, refusal.reply, refusal.reason, mail_from[:MAX_SHOWN], rcpt[:MAX_SHOWN]
        )

    def answered(self, reply: Reply) -> None:
        """The message has its outcome: tell it, and go on with what came meanwhile."""
        take, self.step = self.step, None
        self.say(reply)
        if reply.is_positive:
            self.messages += 1
            self._commands = self._errors = 0
            if isinstance(take, Take) and take.session.source:
                self.services.admission.count_message(take.session.source, self.services.monotonic())
        elif reply.is_permanent and not self.is_over:
            self._errors += 1
            if self._errors >= self.limits.errors:
                self.hang_up(refusals.TOO_MANY_ERRORS)
        self._end_if_drained()
        self.proceed()

    def begin_tls(self) -> None:
        self.step = StartTls()

    def secured(self, tls: Tls) -> None:
        """The handshake is done. RFC 3207 section 4.2: nothing that was said before it counts.

        What has been received since is protected already: nothing was left unread when STARTTLS was obeyed.
        """
        self.step = None
        self.transaction = None
        self.extended = self.offers_dsn = False
        self.session = replace(self.session, tls=tls, helo="")
        self.proceed()

    def speak_for(self, session: Session, *, extended: bool) -> None:
        """XCLIENT: begin anew, as with the peer that `session` names."""
        self.session = session
        self.extended = extended
        self.offers_dsn = False
        if self.admit():
            self.say(replies.greeting(self.hostname))

    # --- Commands -----------------------------------------------------------------------------------------------------

    def _read_command(self) -> bool:
        """Answer one command line; return False when there is no whole one."""
        octets, at = self._data, self._at
        end = octets.find(b"\n", at)
        if end < 0:
            return self._wait_for_line_end()
        self._at = end + 1
        skipped, self._skipped = self._skipped, 0
        self._commands += 1
        if self._commands > self.limits.commands:
            self.hang_up(refusals.TOO_MANY_COMMANDS)
        elif skipped or end - at >= MAX_LINE:
            self.refuse(refusals.LINE_TOO_LONG)
        else:
            line = octets[at : end - 1]
            # RFC 5321 section 2.3.8: CR and LF only ever together. NUL has no place in any command.
            if end == at or octets[end - 1] != CR or b"\r" in line or b"\0" in line:
                self.refuse(refusals.BARE_LINE_END)
            else:
                self._obey(line)
        return True

    def _obey(self, line: bytes) -> None:
        verb, _blank, argument = line.partition(b" ")
        command = COMMANDS.get(verb.upper())
        if command is None:
            # A web page that posts to us must not be able to hide commands in its form (cross-protocol scripting).
            self.hang_up(refusals.NOT_SMTP) if verb.upper() in FOREIGN else self.refuse(refusals.UNKNOWN_COMMAND)
            return
        self.stage = command.stage
        answer: Answer = command.obey(self, argument)
        if isinstance(answer, Refusal):
            self.refuse(answer)
        elif answer is not None:
            self.say(answer)
        self.stage = "command"
        if self._is_draining:
            self._end_if_drained()

    def _wait_for_line_end(self) -> bool:
        waiting = len(self._data) - self._at
        if self._skipped or waiting >= MAX_LINE:
            self._skipped += waiting
            self._data, self._at = b"", 0
            if self._skipped > MAX_SKIPPED:
                self.hang_up(refusals.LINE_TOO_LONG)
        return False

    def _end_if_drained(self) -> None:
        if (
            self._is_draining
            and not self.is_over
            and self.transaction is None
            and self.step is None
            and self.body is None
        ):
            self.hang_up(refusals.SHUTTING_DOWN)

    # --- The message --------------------------------------------------------------------------------------------------

    def begin_data(self) -> None:
        """What follows is a message up to its end mark."""
        assert self.transaction is not None
        self._begin_body(DataReader(self.transaction.policy.document.limits.message_bytes))

    def begin_chunk(self, size: int, *, is_last: bool, refusal: Refusal | None) -> None:
        """What follows is a BDAT chunk. With `refusal` it is read, since it holds no commands, and then refused."""
        transaction, into = self.transaction, None
        if refusal is None and transaction is not None:
            if transaction.chunks is None:
                transaction.chunks = bytearray()
            into = transaction.chunks
        self._chunk_refusal = refusal
        self._begin_body(ChunkReader(size, is_last=is_last, into=into))

    def _begin_body(self, body: DataReader | ChunkReader) -> None:
        self.body = body
        self.services.in_data.count += 1

    def _end_body(self) -> None:
        if self.body is not None:
            self.body = None
            self.services.in_data.count -= 1

    def _read_body(self) -> bool:
        """Feed the message; return False while it goes on."""
        body = self.body
        assert body is not None
        before = self._at
        end = body.feed(self._data, before)
        if end < 0:
            self.received += len(self._data) - before
            self._data, self._at = b"", 0
            if isinstance(body, DataReader) and body.is_endless:
                self._end_body()
                self.hang_up(refusals.MESSAGE_TOO_BIG)
            return False
        self.received += end - before
        self._at = end
        self._end_body()
        if isinstance(body, ChunkReader):
            self._end_chunk(body)
        else:
            raw = b"" if body.is_too_big else body.raw
            self._complete(raw, is_too_big=body.is_too_big, has_dots=body.has_dots)
        self._end_if_drained()
        return True

    def _end_chunk(self, chunk: ChunkReader) -> None:
        transaction = self.transaction
        if self._chunk_refusal is not None:
            if transaction is not None:
                transaction.is_broken = True
                transaction.chunks = bytearray()
            self.refuse(self._chunk_refusal)
        elif chunk.is_last and transaction is not None and transaction.chunks is not None:
            raw = bytes(transaction.chunks)
            transaction.chunks = None
            self._complete(raw)
        else:
            self.say(replies.chunk_ok(chunk.size))
        if chunk.is_last:
            self.transaction = None

    def _complete(self, raw: bytes, *, is_too_big: bool = False, has_dots: bool = True) -> None:
        """The message is whole: hand it over, or refuse it for its form."""
        transaction = self.transaction
        assert transaction is not None
        self.stage = "message"
        limits = transaction.policy.document.limits
        is_clean = data.has_clean_line_ends(raw)
        if is_too_big or len(raw) > limits.message_bytes:
            self.refuse(refusals.MESSAGE_TOO_BIG)
        elif not data.is_header_within(raw, limits.header_bytes):
            self.refuse(refusals.HEADER_TOO_BIG)
        elif not is_clean and limits.bare_line_ends == "refuse":
            self.refuse(refusals.BARE_LINE_ENDS)
        else:
            whole = raw if is_clean else data.repair_line_ends(raw)
            may_have_dots = has_dots or not is_clean
            self.step = Take(transaction.session, transaction.envelope(), whole, transaction.policy, may_have_dots)
        self.transaction = None

    # --- PROXY --------------------------------------------------------------------------------------------------------

    def _read_proxy_header(self) -> None:
        try:
            found = proxy.parse_proxy(self._data)
        except Malformed:
            self.hang_up(refusals.BAD_PROXY_HEADER)
            return
        if found is None:
            return
        origin, self._at = found
        self.expects_proxy = False
        if origin.ip:
            self.connected_ip = origin.ip
            self.session = replace(self.session, peer_ip=origin.ip)
        if self.admit():
            self._greet()
