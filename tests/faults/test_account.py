"""The count after a crash test sees a loss, an alteration, a repeat without a reason. Else it would prove nothing."""

import random
from dataclasses import replace

import pytest

from tests.faults.crash import Account, Kill, altered
from tests.faults.hop import Reception
from tests.faults.sender import Sent, make_message

ANNA, BEN = "anna@corp.example.com", "ben@corp.example.com"
RECEIVED = b"Received: from a.example ([192.0.2.1])\r\n\tby gate.example.com with ESMTP id 7KQ2-M9PX\r\n"


def sent(ident: str, *recipients: str, accepted: bool = True) -> Sent:
    return Sent(ident, recipients, make_message(ident, random.Random(ident), recipients, 500), accepted)


def came(one: Sent, *recipients: str, at: float = 1.0, answered: bool = True) -> Reception:
    return Reception(recipients or one.recipients, RECEIVED + one.raw, at, at + 0.1, answered)


def test_all_is_well_when_each_recipient_got_it_once() -> None:
    one, other = sent("1", ANNA, BEN), sent("2", ANNA, accepted=False)
    account = Account([one, other], [came(one, ANNA), came(one, BEN)])
    assert account.problems() == []
    assert account.repeats() == 0


def test_a_recipient_who_got_nothing_is_a_loss() -> None:
    one = sent("1", ANNA, BEN)
    assert Account([one], [came(one, ANNA)]).problems() == [f"lost: ('1', '{BEN}')"]


def test_what_is_held_is_not_lost() -> None:
    one = sent("1", ANNA)
    assert Account([one], [], held={("1", ANNA)}).problems() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b"Subject", b"Subjekt"),
        lambda raw: raw[:-1],
        lambda raw: raw + b"\r\n",
        lambda raw: raw.replace(b"\r\n", b"\n"),
        lambda raw: b"Bcc: x@y.example\r\n" + raw,
    ],
)
def test_one_changed_octet_is_an_alteration(change) -> None:  # type: ignore[no-untyped-def]
    one = sent("1", ANNA)
    assert altered(one.raw, RECEIVED + one.raw) == ""
    assert altered(one.raw, change(RECEIVED + one.raw))


def test_mail_for_somebody_else_is_a_problem() -> None:
    one = sent("1", ANNA)
    problems = Account([one], [came(one, ANNA, BEN)]).problems()
    assert problems == [f"1: came to {{'{BEN}'}}"]


def test_a_repeat_needs_a_reason() -> None:
    one = sent("1", ANNA)
    first, second = came(one, at=1.0), came(one, at=5.0)
    assert len(Account([one], [first, second]).problems()) == 1
    assert Account([one], [replace(first, answered=False), second]).problems() == []
    assert Account([one], [first, second], kills=[Kill(1.05, 1.06, "smtp-1")]).problems() == []
    assert len(Account([one], [first, second], kills=[Kill(3.0, 3.01, "smtp-1")]).problems()) == 1
