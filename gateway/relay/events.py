"""What the listener tells, turned into figures, log lines and one row for each session with a refusal."""

from datetime import UTC, datetime

from gateway import log, metrics
from gateway.mail.envelope import ListenerKind, Session
from gateway.mail.reply import Reply
from gateway.relay.importer import Importer
from gateway.relay.reasons import Reason
from gateway.store.refused import RefusedSession

MAX_OPEN = 20_000  # sessions with refusals that are remembered until they end; a flood beyond is counted only


class SessionEvents:
    """One for each worker; called in the reply path, so nothing here waits."""

    def __init__(self, importer: Importer) -> None:
        self._importer = importer
        self._refusals: dict[str, RefusedSession] = {}
        self._open = 0
        metrics.watch("connections_open", lambda: self._open)

    def connected(self, listener: ListenerKind, ip: str) -> None:
        del ip
        self._open += 1
        metrics.count("connections", listener)

    def refused(self, session: Session, stage: str, reply: Reply, reason: Reason, mail_from: str, rcpt: str) -> None:
        metrics.count("connections_refused" if stage == "connect" else "commands_refused", reason)
        known = self._refusals.get(session.id)
        if known is None and len(self._refusals) >= MAX_OPEN:
            metrics.count("traces_dropped")
            return
        if known is None:
            # One line for the first refusal of a session: a client that tries ten thousand addresses writes one.
            log.info(
                "session.refused", peer=session.peer_ip, stage=stage, reason=reason, reply=f"{reply.code} {reply.text}"
            )
        row = RefusedSession(
            id=session.id,
            started_at=session.started_at,
            last_at=datetime.now(UTC),
            listener=session.listener,
            peer_ip=session.peer_ip,
            peer_name=session.peer_name,
            helo=session.helo,
            tls=session.tls.version if session.tls else "",
            refused_count=known.refused_count + 1 if known else 1,
            stage=stage,
            reason=reason,
            reply=f"{reply.code} {reply.enhanced} {reply.text}",
            mail_from=mail_from,
            rcpt_to=rcpt,
        )
        if stage == "connect":
            self._importer.put_session(row)  # turned away: no `disconnected` follows
        else:
            self._refusals[session.id] = row

    def disconnected(self, session: Session, messages: int) -> None:
        del messages
        self._open -= 1
        row = self._refusals.pop(session.id, None)
        if row is not None:
            self._importer.put_session(row)
