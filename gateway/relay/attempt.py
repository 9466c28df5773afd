"""What is known of each recipient while a transaction runs: the first word that settles a recipient stands.

A reply under 300 here means that the host has taken the message after its final dot, and nothing else does.
"""

import msgspec

from gateway.relay.parcel import Outcome, Parcel
from gateway.relay.reply_stream import HostReply, Lost, local_reply

LEAVING = 421  # RFC 5321 section 3.8: the host closes the connection


def refusal(reply: HostReply) -> HostReply:
    """Return a reply as a refusal: a host that says 2xx or 3xx where it cannot is out of step, and is tried again."""
    return reply if reply.code >= 400 else local_reply("4.5.0", f"unexpected reply: {reply}")


class Attempt:
    """A reply for each recipient as they come in. `open` are the positions that have none yet."""

    __slots__ = (
        "_elsewhere",
        "_replies",
        "_was_gone",
        "_was_heard",
        "has_sender",
        "is_host_leaving",
        "is_sent",
        "open",
    )

    def __init__(self, parcel: Parcel) -> None:
        self.open = dict.fromkeys(range(len(parcel.recipients)))
        self.has_sender = False  # MAIL has been accepted
        self.is_sent = False  # the final dot has gone out
        self._replies: list[HostReply | None] = [None] * len(parcel.recipients)
        self._elsewhere: list[int] = []
        self.is_host_leaving = False  # it has said 421
        self._was_heard = False
        self._was_gone = False  # before this parcel

    def settle(self, position: int, reply: HostReply) -> None:
        """Settle one recipient."""
        if position in self.open:
            del self.open[position]
            self._replies[position] = reply

    def settle_open(self, reply: HostReply) -> None:
        """Settle all recipients that are still open."""
        for position in self.open:
            self._replies[position] = reply
        self.open.clear()

    def take_go_ahead(self) -> None:
        """Take it that MAIL, each RCPT and DATA have been accepted."""
        self._was_heard = self.has_sender = True

    def take_mail(self, reply: HostReply) -> None:
        """Take the answer to MAIL: a refusal is everybody's, and one for now may be this host's alone."""
        self._was_heard = True
        self._was_gone = self._notes_leaving(reply)
        self.has_sender = reply.code < 300
        if not self.has_sender:
            if not reply.is_permanent:
                self._elsewhere += self.open
            self.settle_open(refusal(reply))

    def take_rcpt(self, position: int, reply: HostReply) -> None:
        """Take the answer to one RCPT."""
        if reply.code < 300 or position not in self.open:
            return
        if self._notes_leaving(reply):
            self._elsewhere.append(position)
        # RFC 5321 section 4.5.3.1.10: some hosts say 552 for too many recipients where 452 is meant.
        if reply.code == 552 and reply.enhanced in ("", "5.5.3"):
            reply = msgspec.structs.replace(reply, code=452, enhanced="4.5.3")
        self.settle(position, refusal(reply))

    def take_data(self, reply: HostReply) -> None:
        """Take an answer to DATA that is not the go-ahead."""
        if self._notes_leaving(reply):
            self._elsewhere += self.open
        self.settle_open(refusal(reply))

    def take_final(self, reply: HostReply) -> None:
        """Take the answer to the message itself."""
        self._notes_leaving(reply)
        self.settle_open(reply if reply.code < 300 else refusal(reply))

    def _notes_leaving(self, reply: HostReply) -> bool:
        self.is_host_leaving = self.is_host_leaving or reply.code == LEAVING
        return reply.code == LEAVING

    def lose(self, lost: Lost) -> None:
        """Answer for those whom a lost connection leaves open: they are tried again, now elsewhere or later.

        After the final dot the host may have taken the message: another try at once could make two of it.
        """
        reply = lost.reply
        if reply is None:
            reply = local_reply(
                "4.4.2", f"{lost.why} {'after the message' if self.is_sent else 'before the message ended'}"
            )
        self._was_gone = self._was_gone or not self._was_heard
        if not self.is_sent and not reply.is_permanent:
            self._elsewhere += self.open
        self.settle_open(reply)

    def outcome(self, *, is_kept: bool, passes_dsn: bool, tls: str) -> Outcome:
        """Return what came of it. `is_kept`: the connection had carried a transaction before."""
        return Outcome(
            tuple([reply for reply in self._replies if reply is not None]),
            elsewhere=tuple(self._elsewhere),
            is_stale=is_kept and self._was_gone,
            passes_dsn=passes_dsn,
            tls=tls,
        )
