"""Uses are claimed for mail that is let in by them, and for no other; who gets none is judged as without the key."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from gateway.judge import judge
from gateway.relay.key_uses import Settled, settle
from gateway.verdict import Action, Answer, Answers, Case, KeyUseQuestion, Unknown
from tests import make

CLASSES = {"files": {"opens": ["business"]}}
ONCE = make.bypass_key(uses=1, period="")
POLICY: dict[str, Any] = {"filters": {"bypass_key": {}, "business_only": {}, "own_domain": {}}, "key_classes": CLASSES}
BOB, CAROL = "bob@corp.example", "carol@corp.example"
RAW = b"the octets of the message"


class Store:
    """Answers claims as told, and notes them."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.claims: list[tuple[str, str, tuple[str, ...]]] = []

    async def claim(self, question: KeyUseQuestion, sha256: str, recipients: Sequence[str]) -> Answer:
        self.claims.append((question.entry, sha256, tuple(recipients)))
        return self.answer


async def carried(store: Store, *to: str, entries: Any = (), observe: bool = False, **values: str) -> Settled:
    recipients = [make.recipient(one) for one in to or (BOB,)]
    values = {"from_": "eve@unknown.example", "subject": f"Files {make.KEY}", **values}
    case: Case = make.case(make.message(**values), envelope=make.envelope("eve@unknown.example", *recipients))
    policy = make.policy(ONCE, *entries, observe=observe, **POLICY)
    granted: Answers = {
        KeyUseQuestion("k1", 1, tuple(to or (BOB,))): tuple(to or (BOB,)),
    }
    return await settle(case, policy, granted, judge(case, policy, granted), RAW, store)


def actions(settled: Settled) -> dict[str, Action]:
    return {str(address): one.action for one in settled.judgement.verdicts for address in one.recipients}


async def test_a_use_is_claimed_for_what_it_lets_in() -> None:
    store = Store((BOB,))
    settled = await carried(store)
    assert actions(settled) == {BOB: Action.DELIVER}
    assert store.claims == [("k1", sha256(RAW).hexdigest(), (BOB,))]
    assert (settled.entries, settled.sha256) == (("k1",), sha256(RAW).hexdigest())


async def test_who_finds_none_left_is_judged_as_without_the_key() -> None:
    settled = await carried(Store(()))
    assert actions(settled) == {BOB: Action.REJECT}
    assert settled.entries == ()
    assert "bypass_key:uses_spent" in [one.reason for one in settled.judgement.findings]


async def test_with_one_use_left_one_of_two_recipients_gets_the_message() -> None:
    settled = await carried(Store((BOB,)), BOB, CAROL)
    assert actions(settled) == {BOB: Action.DELIVER, CAROL: Action.REJECT}
    assert settled.entries == ("k1",)


async def test_while_the_database_cannot_tell_the_message_is_deferred() -> None:
    settled = await carried(Store(Unknown("database away")))
    assert actions(settled) == {BOB: Action.DEFER}
    assert settled.entries == ()


async def test_what_would_come_in_anyway_takes_no_use() -> None:
    store = Store(())
    partner = make.partner("unknown.example")
    assert actions(await carried(store, entries=(partner,))) == {BOB: Action.DELIVER}
    assert actions(await carried(store, observe=True)) == {BOB: Action.DELIVER}
    assert store.claims == []


async def test_what_is_refused_in_spite_of_the_key_takes_no_use() -> None:
    store = Store(())
    assert actions(await carried(store, from_="boss@corp.example")) == {BOB: Action.REJECT}
    assert store.claims == []
