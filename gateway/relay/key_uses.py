"""Limited uses: claimed for a message that is about to be accepted and would not be without the key.

The judgement begins with every use granted. Where a pass that rests on one decides, it is claimed; who finds none left
is judged again as without the key, and while the database cannot tell the message is deferred.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from hashlib import sha256
from typing import Protocol

from msgspec import Struct

from gateway.judge import Judgement, judge
from gateway.policy.compile import Policy
from gateway.verdict import Action, Answer, Answers, Case, KeyUseQuestion, Unknown

CLAIM_SECONDS = 5.0  # after which the message is deferred
REFUSED = frozenset({Action.REJECT, Action.DEFER, Action.DISCARD})


class ClaimsUses(Protocol):
    """The store, as far as uses are claimed."""

    def claim(self, question: KeyUseQuestion, sha256: str, recipients: Sequence[str]) -> Awaitable[Answer]: ...


class Settled(Struct, frozen=True):
    """The judgement with its answers, once uses are claimed: `entries` are the keys of which one is, for `sha256`."""

    answers: Answers
    judgement: Judgement
    entries: tuple[str, ...] = ()
    sha256: str = ""


async def settle(
    case: Case, policy: Policy, answers: Answers, judgement: Judgement, raw: bytes, store: ClaimsUses
) -> Settled:
    """Claim the uses that the judgement rests on, and judge again where there was none."""
    limited = [question for question in answers if isinstance(question, KeyUseQuestion)]
    digest = sha256(raw).hexdigest() if limited else ""
    entries: list[str] = []
    for question in limited:
        needing = _needing(question, judgement)
        if not needing:
            continue
        answer = await _claim(store, question, digest, needing)
        if not isinstance(answer, Unknown):
            if answer:
                entries.append(question.entry)
            # For the others the key changed nothing, so its use was not needed.
            answer = tuple([one for one in question.recipients if one in answer or one not in needing])
        if answer != question.recipients:
            answers = {**answers, question: answer}
            judgement = judge(case, policy, answers)
    return Settled(answers, judgement, tuple(entries), digest if entries else "")


def _needing(question: KeyUseQuestion, judgement: Judgement) -> tuple[str, ...]:
    """Return the recipients whose mail is let in by what the key may have opened."""
    if any(verdict.action is Action.DEFER for verdict in judgement.verdicts):
        return ()  # nobody's mail is taken now
    opened = {
        address.key
        for verdict in judgement.verdicts
        if verdict.exempted and verdict.action not in REFUSED
        for address in verdict.recipients
    }
    return tuple([one for one in question.recipients if one in opened])


async def _claim(store: ClaimsUses, question: KeyUseQuestion, digest: str, recipients: Sequence[str]) -> Answer:
    try:
        async with asyncio.timeout(CLAIM_SECONDS):
            return await store.claim(question, digest, recipients)
    except TimeoutError:
        return Unknown("no answer in time")
