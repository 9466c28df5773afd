"""Load for a long time: no loss, no repeat, and neither memory nor descriptors nor the spool grow with the mail."""

import os
import time
from pathlib import Path

import pytest

from tests.faults.conftest import MakeProduct
from tests.faults.crash import Account
from tests.faults.hop import NextHop, Script
from tests.faults.sender import Load
from tests.product import Product, resident_kb, wait_until

pytestmark = pytest.mark.soak

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
WARM_SECONDS = min(60.0, SECONDS / 5)


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def usage(product: Product) -> dict[str, tuple[int, int]]:
    """Return resident kB and descriptors of each process."""
    return {product.name_of(pid): (resident_kb(pid), descriptors(pid)) for pid in product.processes()}


def spool_bytes(product: Product) -> int:
    return sum(file.stat().st_size for file in Path(product.data / "spool").rglob("*") if file.is_file())


def test_nothing_grows_with_the_mail(make_product: MakeProduct, hop: NextHop) -> None:
    product = make_product()
    hop.script = Script(share=0.02)
    with Load(product.port, seed=11, connections=8, most=1_000_000, pause=0.04) as load:
        load.sizes = (500, 2000, 2000)  # everything that was sent and came out is kept in memory here
        time.sleep(WARM_SECONDS)
        warm, accepted_warm = usage(product), len(load.accepted)
        time.sleep(SECONDS - WARM_SECONDS)
        hot = usage(product)
    print(f"{len(load.accepted)} accepted; {warm} -> {hot}")
    assert len(load.accepted) > 2 * accepted_warm
    hop.script.share = 0.0
    account = Account(load.sent, hop.receptions)
    wait_until(lambda: product.retry_now() or not account.missing(), 300, "the last delivery")
    assert account.problems() == []
    assert hot.keys() == warm.keys()
    for name, (resident, open_files) in hot.items():
        assert resident < warm[name][0] * 1.25 + 20_000, f"{name} grew from {warm[name][0]} to {resident} kB"
        assert open_files < warm[name][1] + 40, f"{name} went from {warm[name][1]} to {open_files} descriptors"
    # A segment rolls after a minute and goes with its last delivery.
    wait_until(lambda: spool_bytes(product) < 16 << 20, 180, lambda: f"an empty spool; {spool_bytes(product)} octets")
    assert not product.events("process.died")
