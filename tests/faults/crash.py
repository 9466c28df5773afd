"""Kill the product under load, then count: nothing acknowledged is lost or altered, nothing comes twice for nothing.

`Ordeal` drives load, faults and kills and brings everything back; `Account` compares what was sent with what came out.
A message may come out again only if the hop's answer to the earlier time was lost: it was cut after the final dot, or
its sender was killed while the conversation was going on.
"""

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.faults.hop import NextHop, Reception, Script
from tests.faults.sender import Load, Sent, ident_of
from tests.product import Product, wait_until

# Our own fields: the only difference between what was sent and what comes out.
ADDED_FIELDS = (b"Received", b"X-Gatepost-", b"Authentication-Results", b"Return-Path")
# What a sender wrote before it was killed the hop may read a moment later; what the hop answered the sender must read,
# and note, before it can know. On a busy machine both take a while.
READING_SECONDS = 0.3
SETTLE_SECONDS = 120.0


@dataclass
class Kill:
    """One SIGKILL, or several at once: sent after `at` and before `until`."""

    at: float
    until: float
    what: str


@dataclass
class Account:
    """All that is known after an ordeal; `problems` is the verdict. `held` are (id, recipient) kept by the gateway."""

    sent: Sequence[Sent]
    receptions: Sequence[Reception]
    kills: Sequence[Kill] = ()
    held: set[tuple[str, str]] = field(default_factory=set)

    def missing(self) -> list[tuple[str, str]]:
        """Return each (id, recipient) that was acknowledged and neither came out nor is held."""
        out = {(ident_of(one.raw), recipient) for one in self.receptions for recipient in one.recipients} | self.held
        wanted = ((one.ident, recipient) for one in self.sent if one.accepted for recipient in one.recipients)
        return [pair for pair in wanted if pair not in out]

    def accepted_count(self) -> int:
        return sum(one.accepted for one in self.sent)

    def problems(self) -> list[str]:
        """Return every violation, one line each."""
        return [f"lost: {pair}" for pair in self.missing()] + [*self._altered(), *self._repeated()]

    def repeats(self) -> int:
        """Return how many deliveries came again, with or without a reason."""
        return sum(len(times) - 1 for times in self._by_recipient().values())

    def _by_recipient(self) -> dict[tuple[str, str], list[Reception]]:
        table: dict[tuple[str, str], list[Reception]] = defaultdict(list)
        for one in sorted(self.receptions, key=lambda reception: reception.began_at):
            for recipient in one.recipients:
                table[ident_of(one.raw), recipient].append(one)
        return table

    def _altered(self) -> Iterator[str]:
        known = {one.ident: one for one in self.sent}
        for reception in self.receptions:
            ident = ident_of(reception.raw)
            original = known.get(ident)
            if original is None:
                yield f"never sent: {reception.raw[:200]!r}"
            elif strangers := set(reception.recipients) - set(original.recipients):
                yield f"{ident}: came to {strangers}"
            elif difference := altered(original.raw, reception.raw):
                yield f"{ident}: {difference}"

    def _repeated(self) -> Iterator[str]:
        for (ident, recipient), times in self._by_recipient().items():
            for earlier in times[:-1]:
                if earlier.answered and not self._was_cut_off(earlier):
                    told = ", ".join(f"{one.began_at:.3f} to {one.ended_at:.3f}" for one in times)
                    killed = ", ".join(f"{kill.what} at {kill.at:.3f}" for kill in self.kills)
                    yield f"{ident}: {recipient} again, though answered: it came {told}; killed: {killed}"

    def _was_cut_off(self, one: Reception) -> bool:
        return any(
            one.began_at - READING_SECONDS <= kill.until and kill.at <= one.ended_at + READING_SECONDS
            for kill in self.kills
        )


def altered(original: bytes, received: bytes) -> str:
    """Return how `received` differs from `original` but for fields of ours on top, "" if it does not."""
    if not received.endswith(original):
        return f"altered: {len(original)} octets went in, {len(received)} came out: {received[:300]!r}"
    for line in received[: len(received) - len(original)].split(b"\r\n")[:-1]:
        if not line.startswith((b" ", b"\t", *ADDED_FIELDS)):
            return f"an unknown field on top: {line!r}"
    return ""


class Ordeal:
    """Load with faults and kills, then peace. `everything` is the share of kills that take all processes at once."""

    def __init__(self, product: Product, hop: NextHop, *, seed: int, everything: float = 0.3) -> None:
        self.product, self.hop = product, hop
        self.kills: list[Kill] = []
        self.before_kill: Callable[[], object] = lambda: None
        self.after_kill: Callable[[], object] = lambda: None
        self._seed, self._everything = seed, everything
        self._chance = random.Random(f"ordeal {seed}")

    def run(self, kills: int, *, pause: float = 0.01, faults: float = 0.25, refused: Sequence[str] = ()) -> Account:
        """Kill so often under load, bring everything back, wait until all is accounted for; return the account."""
        self.hop.script = Script(random.Random(f"hop {self._seed}"), faults, refused=frozenset(refused))
        with Load(self.product.port, seed=self._seed, pause=pause) as load:
            load.extra_recipients = tuple(refused)
            for number in range(kills):
                self._wait_for_mail(load, number)
                self.before_kill()
                self._kill()
                self.after_kill()
            time.sleep(0.3)
        self.hop.script.share = 0.0
        self.hop.open_again()
        return self._settle(load.sent, refused)

    def _wait_for_mail(self, load: Load, number: int) -> None:
        """Until new mail was accepted since the last kill, and then a moment that is never the same."""
        before = len(load.accepted)
        wait_until(
            lambda: len(load.accepted) > before + 10, 90, lambda: f"mail before kill {number}; {load.refusals[-3:]}"
        )
        time.sleep(self._chance.uniform(0.0, 0.8))
        if self._chance.random() < 0.2:
            self.hop.close()
            time.sleep(self._chance.uniform(0.0, 0.5))
            self.hop.open_again()

    def _kill(self) -> None:
        began, what = time.monotonic(), "everything"
        if self._chance.random() < self._everything:
            self.product.kill_all()
        else:
            what = self.product.kill_one(self._chance)
        self.kills.append(Kill(began, self.product.killed_at, what))
        if not self.product.is_running:
            self.product.start()

    def _settle(self, sent: Sequence[Sent], refused: Sequence[str]) -> Account:
        account = Account(sent, self.hop.receptions, self.kills)
        deadline = time.monotonic() + SETTLE_SECONDS
        while account.missing() and time.monotonic() < deadline:
            self.product.retry_now()
            time.sleep(0.5)
            account.held = self.product.rows.held_pairs() if refused else set()
        return account
