"""Dozens of kills under load, on both databases, with a next hop that fails in every way."""

import os
import random
import time
from collections.abc import Iterator

import pytest

from tests.faults.conftest import MakeProduct
from tests.faults.crash import Ordeal
from tests.faults.database_box import PostgresBox
from tests.faults.hop import NextHop
from tests.product import wait_until

# The hop is closed while connections come: asyncio forgets the transport of one that comes in that moment. The product
# runs in processes of its own.
pytestmark = [pytest.mark.soak, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]

KILLS = int(os.environ.get("SOAK_KILLS", "50"))
SEED = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randrange(1_000_000)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    with PostgresBox() as box:
        yield box.url


@pytest.mark.parametrize("everything", [0.0, 0.3, 1.0], ids=["one process", "mixed", "everything"])
def test_many_kills_lose_nothing(make_product: MakeProduct, hop: NextHop, database_url: str, everything: float) -> None:
    print(f"SOAK_SEED={SEED}")
    product = make_product(database_url=database_url)
    ordeal = Ordeal(product, hop, seed=SEED, everything=everything)
    account = ordeal.run(KILLS, refused=("nobody",))
    print(f"{len(account.sent)} sent, {account.accepted_count()} accepted, {account.repeats()} repeats")
    assert account.problems() == [], f"SOAK_SEED={SEED}"
    assert account.accepted_count() > 10 * KILLS
    wait_until(
        lambda: not product.rows.open_count(), 120, lambda: f"the end of every delivery: {product.rows.states()}"
    )
    product.stop()


def test_the_database_comes_and_goes_while_processes_die(make_product: MakeProduct, hop: NextHop) -> None:
    chance = random.Random(SEED)
    with PostgresBox() as box:
        product = make_product(database_url=box.url)

        def interlude() -> None:
            box.stop()
            time.sleep(chance.uniform(0.0, 2.0))

        ordeal = Ordeal(product, hop, seed=SEED, everything=0.3)
        ordeal.before_kill = interlude
        ordeal.after_kill = box.start
        account = ordeal.run(max(5, KILLS // 5))
        assert account.problems() == [], f"SOAK_SEED={SEED}"
        product.stop()
