"""One human sentence about a message, for the top of its trace: what happened to whom, and because of what."""

from collections.abc import Sequence

from gateway.verdict import Action, Trace, Verdict

DONE = {
    Action.DELIVER: "Accepted for",
    Action.QUARANTINE: "Held for review, for",
    Action.HOLD_FOR_SENDER: "Held for the sender's word, for",
    Action.RETURN: "Returned to the sender, for",
    Action.REDIRECT: "Redirected, for",
    Action.DISCARD: "Discarded, for",
    Action.DEFER: "Deferred, for",
    Action.REJECT: "Refused for",
}
WOULD = {
    Action.QUARANTINE: "held for review",
    Action.HOLD_FOR_SENDER: "held for the sender's word",
    Action.RETURN: "returned to the sender",
    Action.REDIRECT: "redirected",
    Action.DISCARD: "discarded",
    Action.DEFER: "deferred",
    Action.REJECT: "refused",
}
MAX_NAMED = 5  # recipients named; the rest is a number


def sentence(trace: Trace | None, action: str, reason: str) -> str:
    """Return the sentence. Without a trace (past its retention) only action and reason of the message are known."""
    if trace is None:
        done = DONE[Action(action)].partition(",")[0].removesuffix(" for")
        return f"{done}{f' because of {reason}' if reason else ''}; the facts are past their retention."
    return " ".join(_of_verdict(verdict, trace) for verdict in trace.verdicts)


def _of_verdict(verdict: Verdict, trace: Trace) -> str:
    whom = _names([str(address) for address in verdict.recipients])
    text = f"{DONE[verdict.action]} {whom}"
    if verdict.action is not Action.DELIVER:
        return f"{text}: {verdict.detail or verdict.reason} ({verdict.reason})."
    if verdict.would is not Action.DELIVER:
        saw = next((one.detail for one in trace.findings if one.reason == verdict.would_reason), verdict.would_reason)
        return f"{text}; if enforced it would have been {WOULD[verdict.would]}: {saw} ({verdict.would_reason})."
    if verdict.exempted:
        return f"{text}: {', '.join(verdict.exempted)} objected and was exempted."
    return f"{text}: no filter objected."


def _names(recipients: Sequence[str]) -> str:
    shown = list(recipients[:MAX_NAMED])
    if len(recipients) > MAX_NAMED:
        shown.append(f"{len(recipients) - MAX_NAMED} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
