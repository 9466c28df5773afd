"""Messages in the database as the product leaves them: judged by a real policy, with trace, deliveries and results."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from gateway.accepted import Location, Settled, State
from gateway.judge import judge
from gateway.mail.reference import new_id
from gateway.policy.compile import Policy
from gateway.relay.intake import REFUSING
from gateway.relay.outgoing import ENCODE, Judged, head, make_trace, prepare, share_out
from gateway.store.database import Database
from gateway.store.messages import ImportItem, import_batch
from gateway.verdict import Answers, Case
from tests import make

Result = dict[str, Any]  # of `Settled`; the recipient's address is its key


def keep(
    database: Database,
    case: Case,
    policy: Policy | None = None,
    *,
    raw: bytes = b"",
    answers: Answers | None = None,
    results: dict[str, Result] | None = None,
    id: str = "",
) -> str:
    """Judge a message and import it with the results of its attempts; return its id.

    A recipient without a result is queued. `results` are by address: state, reply and what else differs from a delivery
    at the first attempt.
    """
    policy = policy or make.policy()
    judgement = judge(case, policy, answers or {})
    judged = Judged(
        id=id or new_id(int(case.now.timestamp() * 1000)),
        raw=raw or make.message(),
        case=case,
        answers=answers or {},
        judgement=judgement,
        verdicts=share_out(judgement.verdicts),
        policy=policy,
        timings_ms={"judge": 0.4},
    )
    import_batch(database, _items(judged, results or {}))
    return judged.id


def _items(judged: Judged, results: dict[str, Result]) -> Sequence[ImportItem]:
    case, worst = judged.case, judged.verdicts[0]
    if worst.action in REFUSING:
        trace = ENCODE(make_trace(judged))
        refused = head(judged, 0, worst, case.envelope.recipients, size=case.facts.size, trace=trace)
        return [ImportItem(refused, None, (), "", case.now)]
    items = []
    for number, one in enumerate(prepare(judged)):
        settled = [
            settle(judged, number, recipient.address, results[str(recipient.address)])
            for recipient in one.accepted.recipients
            if str(recipient.address) in results
        ]
        place = Location("somewhere/00000001.seg", number * 5000, 5000)
        items.append(ImportItem(one.accepted, place, tuple(settled), "", case.now))
    return items


def settle(judged: Judged, group: int, address: Any, result: Result) -> Settled:
    values: Result = {
        "state": State.DELIVERED,
        "reply": "250 2.0.0 Taken",
        "host": "exch1.corp.example [198.51.100.4]:25",
        "at": judged.case.now + timedelta(seconds=1),
        "attempts": 1,
        **result,
    }
    return Settled(judged.id, group, address, **values)
