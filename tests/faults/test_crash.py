"""Killed under load with a next hop that fails: nothing acknowledged is lost, altered or sent again for nothing.

Small samples for every day; tests/soak has the long ones.
"""

import time

import pytest

from tests.faults.conftest import MakeProduct
from tests.faults.crash import Account, Ordeal
from tests.faults.hop import NextHop
from tests.faults.sender import Load
from tests.product import Product, wait_until

KILLS = 3


def problems(account: Account, product: Product) -> list[str]:
    """Wait for the end of every delivery; return every violation, one line each."""

    def is_over() -> bool:
        # What the hop has taken without a word afterwards is due in a minute, and with a second such try in five.
        product.retry_now()
        return not product.rows.open_count()

    wait_until(is_over, 60, lambda: f"the end of every delivery: {product.rows.states()}")
    few = [] if account.accepted_count() > 20 else [f"only {account.accepted_count()} were accepted"]
    return few + account.problems()


def test_without_faults_everything_arrives_exactly_once(product: Product, hop: NextHop) -> None:
    with Load(product.port, seed=1, most=150) as load:
        load.wait()
    account = Account(load.sent, hop.receptions)
    wait_until(lambda: not account.missing(), 30, "the last delivery")
    assert problems(account, product) == []
    assert account.accepted_count() == 150
    assert account.repeats() == 0


def test_killing_single_processes_loses_nothing(product: Product, hop: NextHop) -> None:
    ordeal = Ordeal(product, hop, seed=2, everything=0.0)
    assert problems(ordeal.run(KILLS), product) == []


def test_killing_everything_at_once_loses_nothing(product: Product, hop: NextHop) -> None:
    ordeal = Ordeal(product, hop, seed=3, everything=1.0)
    assert problems(ordeal.run(KILLS), product) == []


def test_a_recipient_whom_the_next_hop_refuses_is_held_and_never_forgotten(product: Product, hop: NextHop) -> None:
    ordeal = Ordeal(product, hop, seed=4, everything=0.5)
    account = ordeal.run(KILLS, refused=("nobody",))
    assert account.problems() == []
    assert {recipient for _, recipient in account.held} == {"nobody@corp.example.com"}


def test_a_stop_in_good_order_under_load_repeats_nothing(product: Product, hop: NextHop) -> None:
    with Load(product.port, seed=5, pause=0.01) as load:
        for _ in range(2):
            before = len(load.accepted)
            wait_until(lambda before=before: len(load.accepted) > before + 20, 30, "mail")
            assert product.stop() == 0
            product.start()
        time.sleep(0.3)
    account = Account(load.sent, hop.receptions)
    wait_until(lambda: not account.missing(), 60, lambda: f"the last delivery: {account.missing()[:3]}")
    assert problems(account, product) == []
    assert account.repeats() == 0


@pytest.mark.parametrize("workers", [1])
def test_one_worker_alone_comes_back_too(make_product: MakeProduct, hop: NextHop, workers: int) -> None:
    product = make_product(workers=workers)
    ordeal = Ordeal(product, hop, seed=6, everything=0.5)
    assert problems(ordeal.run(KILLS), product) == []
