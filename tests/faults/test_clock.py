"""The clock jumped a month while mail waited: nothing bounces, nothing waits a month.

The machine's clock is left alone: the rows are moved the other way, which looks the same from the inside.
"""

from datetime import timedelta

import pytest

from tests.faults.crash import Account
from tests.faults.hop import NextHop
from tests.faults.sender import send_one
from tests.product import Product, wait_until

MONTH = timedelta(days=30)


@pytest.mark.parametrize("jump", [MONTH, -MONTH], ids=["the clock went back", "the clock went forward"])
@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_waiting_mail_survives_a_jump_of_a_month(
    product: Product, hop: NextHop, jump: timedelta, restart: bool
) -> None:
    hop.close()
    sent = [send_one(product.port, f"clock-{number}") for number in range(5)]
    wait_until(lambda: product.rows.states()["queued"] == 5, 30, lambda: f"a queue; {product.rows.states()}")
    if restart:
        product.kill_all()
    assert product.rows.shift(jump) == 5
    hop.open()
    if restart:
        product.start()
    account = Account(sent, hop.receptions)
    # Whichever way the clock went, what waited is due: by its time, or because no back-off is as long as a month.
    wait_until(lambda: not account.missing(), 60, lambda: f"delivery; {product.rows.states()}")
    assert account.problems() == []
    wait_until(
        lambda: product.rows.states() == {"delivered": 5}, 30, lambda: f"delivered rows; {product.rows.states()}"
    )


def test_a_lease_from_the_future_is_not_kept_for_a_month(product: Product, hop: NextHop) -> None:
    hop.close()
    sent = [send_one(product.port, f"lease-{number}") for number in range(5)]
    wait_until(lambda: sum(product.rows.states().values()) == 5, 30, lambda: f"an import; {product.rows.states()}")
    product.kill_all()
    product.rows.shift(MONTH)
    hop.open()
    product.start()
    account = Account(sent, hop.receptions)
    wait_until(lambda: not account.missing(), 60, lambda: f"delivery; {product.rows.states()}")
    assert account.problems() == []
