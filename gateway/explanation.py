"""Why a message went where it went, in the words of people: one sentence, and what happened in its order.

The words of the pages and of `gatepost explain`. Nothing here is told outside; the public words of a refusal are in
`mail.reply`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from gateway.accepted import State
from gateway.filters import ambiguity, protocol, unopened
from gateway.mail import reply as replies
from gateway.mail.reference import reference
from gateway.store.messages import DeliveryRow, MessageRow
from gateway.verdict import Action, Finding, Trace, Verdict

MAX_NAMED = 5  # recipients named; the rest is a number

# State or action -> what became of it, and the word between that and the recipients.
OUTCOMES = {
    "deliver": ("Taken", "for"),
    "delivered": ("Delivered", "to"),
    "queued": ("Waiting", "for"),
    "active": ("On its way", "to"),
    "held": ("Held", "for"),
    "quarantine": ("Held", "for"),
    "hold_for_sender": ("Held for the sender's word,", "for"),
    "return": ("Returned", "for"),
    "redirect": ("Redirected", "for"),
    "discard": ("Discarded", "for"),
    "discarded": ("Discarded", "for"),
    "deleted": ("Deleted", "for"),
    "failed": ("Failed", "for"),
    "defer": ("Deferred", "for"),
    "reject": ("Refused", "for"),
}
WOULD = {
    Action.QUARANTINE: "held",
    Action.HOLD_FOR_SENDER: "held for the sender's word",
    Action.RETURN: "returned",
    Action.REDIRECT: "redirected",
    Action.DISCARD: "discarded",
    Action.DEFER: "deferred",
    Action.REJECT: "refused",
}
# Filter and code of the finding that decided -> its words in lists. The finding's own detail says more.
REASONS = {
    "business_only:listed": "On the whitelist",
    "business_only:weak-proof": "On the whitelist, without proof",
    "business_only:ours": "May send as us",
    "business_only:bounce": "An answer to our mail",
    "business_only:unknown-sender": "Not on the whitelist",
    "business_only:unclear-author": "No single author to look up",
    "business_only:proof-missing": "On the whitelist, but not from their network",
    "business_only:unsolicited-bounce": "A bounce of mail that we did not send",
    "business_only:cannot-tell": "Cannot tell whether it answers our mail",
    "business_only:failed": "Could not be checked",
    "bypass_key:key": "Opened by a bypass key",
    "bypass_key:strip": "A bypass key removed from the Subject",
    "bypass_key:seen": "A bypass key where it has no effect",
    "bypass_key:not_for": "A bypass key that is not for this author or recipient",
    "bypass_key:wrong_key": "Like a bypass key, but none",
    "bypass_key:expired_key": "A bypass key that has expired",
    "bypass_key:early_key": "A bypass key whose month has not begun",
    "bypass_key:two_subjects": "Two Subject fields, so no bypass key counts",
    "bypass_key:uses_spent": "A bypass key that has been used up",
    "bypass_key:cannot_tell": "Cannot tell whether a bypass key has been used up",
    "bypass_key:failed": "Could not be searched for a bypass key",
    "header_hygiene:trace": "Trace of our machines removed",
    "header_hygiene:software": "Fields of our software removed",
    "header_hygiene:internal": "Internal names removed",
    "header_hygiene:message-id": "Internal Message-ID replaced",
    "header_hygiene:edited": "Fields edited as the policy says",
    "header_hygiene:unseen": "More header fields than are looked at",
    "header_hygiene:failed": "Header could not be cleaned",
    "loop:hops": "Mail loop: too many hops",
    "loop:passes": "Mail loop: was here before",
    "loop:failed": "Could not be checked for loops",
    "relay:author-not-allowed": "A relay source with an author whose domain it may not use",
    "relay:unclear-author": "A relay source with an author that is not clear",
    "own_domain:forged": "Claims our own domain without proof",
    "own_domain:proven": "May send as us",
    "own_domain:unseen-author": "An author may stand where nobody looked",
    "own_domain:failed": "Could not be checked for our own domain",
    "notice:failed": "Our notice: not delivered",
    "notice:delayed": "Our notice: delayed",
    "notice:delivered": "Our notice: delivered",
    "notice:relayed": "Our notice: passed on",
}
# These say in their details what was seen; lists need the gist.
REASONS |= {
    "attachment_type:type": "Attachment of a type that is not allowed",
    "attachment_type:unknown": "Attachment of no known type",
    "attachment_type:name": "Attachment with a name that is not allowed",
    "attachment_type:declared": "Attachment said to be of a type that is not allowed",
    "attachment_type:mismatch": "Attachment whose name does not fit its content",
    "attachment_type:lying-name": "Attachment with a name that hides what it is",
    "attachment_type:failed": "Attachments could not be checked",
    "macro:present": "Attachment with macros",
    "macro:auto-run": "Attachment with macros that run by themselves",
    "macro:suspicious": "Attachment with suspicious macros",
    "macro:active": "Attachment with the like of macros",
    "macro:failed": "Could not be checked for macros",
    "encrypted:locked": "Encrypted attachment",
    "encrypted:opened": "Encrypted attachment, opened by a known password",
    "encrypted:failed": "Could not be checked for encrypted attachments",
    "bomb:ratio": "Unpacks to far more than it is",
    "bomb:too-deep": "Files within files without end",
    "bomb:too-many-files": "Too many files",
    "bomb:too-many-links": "Too many links",
    "bomb:too-big": "Too large when unpacked",
    "bomb:too-much": "Too large when unpacked, all together",
    "bomb:failed": "Could not be checked for bombs",
    "unopened:failed": "Attachments could not be looked into",
    "author:several-fields": "Several From fields",
    "author:several-authors": "Several authors",
    "author:unclear": "An author that readers read differently",
    "author:no-author": "No author",
    "author:shows-other": "Author's name with another address",
    "author:shows-ours": "Author's name with an address of ours",
    "author:failed": "The author could not be checked",
    "ambiguity:failed": "Could not be checked for ambiguity",
    "protocol:failed": "Could not be checked for its form",
    "inspection:not-inspected": "Could not be looked into",
}


def _of_table(name: str, words: Mapping[str, str], subject: str = "") -> dict[str, str]:
    """Return reasons of a filter whose table of words serves for lists as well."""
    said = {code: f"{subject} {text}".strip() for code, text in words.items()}
    return {f"{name}:{code.replace('_', '-')}": text[0].upper() + text[1:] for code, text in said.items()}


REASONS |= {
    **_of_table("unopened", unopened.DAMAGE, "An attachment"),
    **_of_table("unopened", unopened.FAILURES, "An attachment"),
    **_of_table("ambiguity", {code: words for code, (words, _) in ambiguity.STRUCTURE.items()}),
    **_of_table("ambiguity", {code: words for code, (words, _) in ambiguity.FILES.items()}, "An attachment"),
    **_of_table("protocol", {**protocol.UNSEEN, **protocol.ELSEWHERE, **protocol.CLUMSY}),
}
# Why the listener turned a peer or a command away -> its words.
SESSION_REASONS = {
    "connections": "All connections are in use",
    "network_connections": "Too many connections from one network",
    "connect_rate": "Too many new connections in a minute",
    "proxy": "The trusted proxy sent no valid PROXY header",
    "not_a_source": "Not a known relay source",
    "sender_not_allowed": "A relay source with a sender domain that it may not use",
    "relaying": "Wanted to relay through us",
    "unknown_recipient": "No such recipient here",
    "malformed_address": "An address that is none",
    "parameter": "An ESMTP parameter that is unknown or wrong",
    "recipients": "Too many recipients in one transaction",
    "message_rate": "Too many messages in an hour",
    "message_size": "Message too big",
    "header_size": "Header too big",
    "line_ends": "Bare CR, bare LF or NUL in the message",
    "line_length": "Command line too long",
    "unknown_command": "Unknown command",
    "syntax": "Command not understood",
    "sequence": "Commands in the wrong order",
    "not_smtp": "Did not speak SMTP",
    "xclient": "XCLIENT from a peer that is not trusted, or wrong",
    "tls": "TLS failed",
    "errors": "Too many refused commands",
    "commands": "Too many commands without a message",
    "timeout": "Said nothing for too long",
    "slow_data": "Sent its message too slowly",
    "no_room": "No room here: disk or database",
    "shutdown": "We were going down",
    "failed": "An error of ours",
}


class Clause(Struct, frozen=True):
    """What became of some recipients, and why. `reason` is filter and code, "" where no finding decided.

    `would` is what observe mode or shadow kept from happening, "" if nothing; `would_why` and `would_reason` say why.
    """

    state: str
    recipients: tuple[str, ...]
    why: str
    reason: str = ""
    would: str = ""
    would_why: str = ""
    would_reason: str = ""

    @property
    def words(self) -> str:
        """Return the clause as text without an end, e.g. `Refused for a@b.example: nobody knows them`."""
        done, link = OUTCOMES.get(self.state, (self.state, "for"))
        text = f"{done} {link} {names(self.recipients)}" if self.recipients else done.rstrip(",")
        return f"{text}: {self.full_why}"

    @property
    def full_why(self) -> str:
        """Return the reasons with their codes."""
        text = f"{self.why} ({self.reason})" if self.reason else self.why
        if self.would:
            text += f"; if enforced it would have been {self.would}: {self.would_why} ({self.would_reason})"
        return text


class Step(Struct, frozen=True):
    """One thing that happened, or is to happen. `said` is the protocol's own words; `state` names an outcome."""

    at: datetime
    what: str
    said: str = ""
    took_ms: float | None = None
    state: str = ""
    is_ahead: bool = False


def words_of(reason: str) -> str:
    """Return the words of a reason in a list; a reason that nobody knows any more speaks for itself."""
    return REASONS.get(reason) or SESSION_REASONS.get(reason) or reason


def names(recipients: Sequence[str]) -> str:
    """Return recipients as people read them: the first few by name."""
    shown = list(recipients[:MAX_NAMED])
    if len(recipients) > MAX_NAMED:
        shown.append(f"{len(recipients) - MAX_NAMED} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def sentence(row: MessageRow, trace: Trace | None, deliveries: Sequence[DeliveryRow]) -> str:
    """Return in one sentence for each outcome what happened to whom, and because of what."""
    return " ".join(f"{clause.words}." for clause in clauses(row, trace, deliveries))


# -- what became of whom


def clauses(row: MessageRow, trace: Trace | None, deliveries: Sequence[DeliveryRow]) -> list[Clause]:
    """Return what became of the recipients, those with the same outcome together."""
    judged, findings = (trace.verdicts, trace.findings) if trace else ((), ())
    verdicts = {str(address): verdict for verdict in judged for address in verdict.recipients}
    found: dict[Clause, list[str]] = {}
    for delivery in deliveries:
        recipient = str(delivery.recipient)
        clause = _of_delivery(row, delivery, verdicts.pop(recipient, None), findings)
        found.setdefault(clause, []).append(recipient)
    if not deliveries or verdicts:
        for recipient, verdict in verdicts.items():
            found.setdefault(of_verdict(str(verdict.action), verdict, findings), []).append(recipient)
    if not found:
        found[Clause(str(row.action), (), _past(row.reason))] = list(row.recipients)
    return [
        Clause(one.state, tuple(to), one.why, one.reason, one.would, one.would_why, one.would_reason)
        for one, to in found.items()
    ]


def _past(reason: str) -> str:
    return f"{words_of(reason)}; the facts are past their retention" if reason else "the facts are past their retention"


def _of_delivery(
    row: MessageRow, delivery: DeliveryRow, verdict: Verdict | None, findings: Sequence[Finding]
) -> Clause:
    state = str(delivery.state)
    if verdict is not None and verdict.action is not Action.DELIVER and delivery.state in (State.HELD, State.DISCARDED):
        return of_verdict(state, verdict, findings)
    if delivery.state is State.DELIVERED:
        if verdict is not None and verdict.action is not Action.DELIVER:
            clause = of_verdict(state, verdict, findings)
            return Clause(state, (), f"after its release; it was held because of: {clause.why}", clause.reason)
        if verdict is not None:
            return of_verdict(state, verdict, findings)
        return Clause(state, (), words_of(delivery.reason) if row.is_notice else _past(delivery.reason))
    if delivery.state is State.ACTIVE:
        return Clause(state, (), delivery.last_reply or "the first attempt is under way")
    return Clause(state, (), delivery.last_reply or words_of(delivery.reason) or "not tried yet")


def of_verdict(state: str, verdict: Verdict, findings: Sequence[Finding]) -> Clause:
    """Return the clause of a verdict, without its recipients. `findings` are the trace's."""
    if verdict.action is not Action.DELIVER:
        why = verdict.detail or words_of(verdict.reason)
        if verdict.action is Action.QUARANTINE and any(_refuses(one, verdict) for one in findings):
            why += "; kept for review instead of refused, since others received the message"
        return Clause(state, (), why, verdict.reason)
    exempted = ", ".join(f"{words_of(reason)} ({reason})" for reason in verdict.exempted)
    why = f"exempted: {exempted}" if exempted else ""
    if verdict.would is Action.DELIVER:
        return Clause(state, (), why or "no filter objected")
    saw = next((one.detail for one in findings if one.reason == verdict.would_reason), words_of(verdict.would_reason))
    why = why or "what objected is not enforced"
    return Clause(state, (), why, "", WOULD[verdict.would], saw, verdict.would_reason)


def _refuses(finding: Finding, verdict: Verdict) -> bool:
    return finding.reason == verdict.reason and finding.action is Action.REJECT


def would_of(trace: Trace) -> tuple[Action, str] | None:
    """Return the worst that observe mode or shadow kept from happening, with its reason; None if nothing."""
    kept = [one for one in trace.verdicts if one.action is Action.DELIVER and one.would is not Action.DELIVER]
    if not kept:
        return None
    worst = max(kept, key=lambda verdict: verdict.would.severity)
    return worst.would, worst.would_reason


# -- what each finding did


class Effect(Struct, frozen=True):
    """What a finding did for a group of recipients. `kind` is decided, exempted, would, agreed, changed or noted."""

    kind: str
    action: Action

    @property
    def rank(self) -> int:
        return EFFECTS.index(self.kind)


EFFECTS = ("decided", "would", "exempted", "agreed", "changed", "noted")


def effect(finding: Finding, verdict: Verdict) -> Effect | None:
    """Return what `finding` did for the recipients of `verdict`; None when it does not concern them."""
    if finding.recipients is not None and not set(finding.recipients) & set(verdict.recipients):
        return None
    if finding.action is Action.DELIVER:
        return Effect("changed" if finding.transforms else "noted", finding.action)
    if finding.reason == verdict.reason:
        return Effect("decided", verdict.action)
    if finding.reason in verdict.exempted:
        return Effect("exempted", finding.action)
    if verdict.action is Action.DELIVER and verdict.would is Action.DELIVER:
        return Effect("noted", finding.action)  # back from the second scanner: judged before it went there
    if finding.shadow or verdict.action is Action.DELIVER:
        return Effect("would", finding.action)
    return Effect("agreed", finding.action)


# -- what happened, in its order


def timeline(row: MessageRow, trace: Trace | None, deliveries: Sequence[DeliveryRow], portal_url: str) -> list[Step]:
    """Return what happened to the message and what comes next, in the order of time.

    `portal_url` is that of the policy which judged: it stands in the refusal.
    """
    steps = [*_taking(row, trace, portal_url), *_held(row, deliveries), *_attempts(deliveries)]
    return [*sorted(steps, key=lambda step: step.at), *_ahead(deliveries)]


def _taking(row: MessageRow, trace: Trace | None, portal_url: str) -> Iterator[Step]:
    if trace is None:
        yield Step(row.accepted_at, "Our own notice was queued" if row.is_notice else OUTCOMES[str(row.action)][0])
        return
    session, envelope = trace.case.session, trace.case.envelope
    where = "in clear" if session.tls is None else f"{session.tls.version}, {session.tls.cipher}"
    if session.started_at <= row.accepted_at:
        peer = session.peer_name or session.peer_ip
        said = f"{session.peer_ip}, HELO {session.helo or 'none'}, {where}"
        yield Step(session.started_at, f"{peer} connected to the {session.listener} listener", said)
    count = len(envelope.recipients)
    arrived = f"Received for {count} recipient{'' if count == 1 else 's'}"
    said = f"MAIL FROM:<{envelope.mail_from}>, {trace.case.facts.size} octets"
    since = (row.accepted_at - session.started_at).total_seconds() * 1000
    yield Step(row.accepted_at, arrived, said, since if since >= 0 else None)
    judged = f"Judged by policy {row.policy_version}: {_count(len(trace.findings), 'finding')}"
    if trace.answers:
        judged += f", {_count(len(trace.answers), 'question')} answered"
    yield Step(row.accepted_at, judged, "", trace.timings_ms.get("judge"))
    yield _answered(row, trace, portal_url)


def _answered(row: MessageRow, trace: Trace, portal_url: str) -> Step:
    """What the peer was told at the end of DATA."""
    ref = reference(row.id)
    worst = trace.verdicts[0] if trace.verdicts else None
    if worst is None or worst.action not in (Action.REJECT, Action.DEFER):
        discards = worst is not None and worst.action is Action.DISCARD
        what = "Answered as taken" if discards else "Taken: durable on disk, then answered"
        return Step(row.accepted_at, what, _line(replies.queued(ref)), None, "delivered")
    told = replies.refusal(worst.category, ref, portal_url, is_temporary=worst.action is Action.DEFER)
    what = f"{OUTCOMES[str(worst.action)][0]}: {words_of(worst.reason)}"
    return Step(row.accepted_at, what, _line(told), None, str(worst.action))


def _line(reply: replies.Reply) -> str:
    return replies.wire(reply).decode("ascii").rstrip()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _held(row: MessageRow, deliveries: Sequence[DeliveryRow]) -> Iterator[Step]:
    held = [str(one.recipient) for one in deliveries if one.state is State.HELD and one.last_at is None]
    if held:
        yield Step(row.accepted_at, f"Held for review, for {names(held)}", state="held")


def _attempts(deliveries: Sequence[DeliveryRow]) -> Iterator[Step]:
    """The last attempt for each recipient; what was before it is in the log."""
    together: dict[tuple[datetime, str, int, str, str], list[str]] = {}
    for one in deliveries:
        if one.last_at is not None:
            said = ": ".join(text for text in (one.last_host, one.last_reply) if text)
            key = one.last_at, str(one.state), one.attempts, said, one.tls
            together.setdefault(key, []).append(str(one.recipient))
    for (at, state, attempts, said, tls), recipients in together.items():
        done, link = OUTCOMES[state]
        which = f", attempt {attempts}" if attempts > 1 else ""
        how = f" ({tls})" if tls else ""
        yield Step(at, f"{done} {link} {names(recipients)}{which}", said + how, None, state)


def _ahead(deliveries: Sequence[DeliveryRow]) -> Iterator[Step]:
    waiting: dict[tuple[datetime, datetime, int], list[str]] = {}
    for one in deliveries:
        if one.state is State.QUEUED and one.due_at is not None:
            waiting.setdefault((one.due_at, one.expires_at, one.attempts), []).append(str(one.recipient))
    for (due_at, _, attempts), recipients in sorted(waiting.items()):
        yield Step(due_at, f"Attempt {attempts + 1} is due for {names(recipients)}", state="queued", is_ahead=True)
    for expires_at in sorted({expires_at for _, expires_at, _ in waiting}):
        yield Step(expires_at, "Given up if it is not delivered by then", is_ahead=True)
